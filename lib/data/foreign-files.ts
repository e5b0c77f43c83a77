/** Files that are neither JSON nor another kind that is read, told by how they begin or by their name, and what makes rows of them. */
import * as path from 'node:path';
import { UserError } from '../errors';
import { readStart, statusOf } from '../files';

/** What a kind of file is called, and what to do with it. */
type Kind = readonly [name: string, remedy: string];

const UNPACK = 'unpack it and give the file that was in it';

/** How files of these kinds begin, in bytes as Latin-1. */
const SIGNATURES: ReadonlyArray<readonly [start: string, kind: Kind]> = [
  ['ARROW1', ['an Arrow file', written('Dataset.from_file(...)')]],
  ['\xff\xff\xff\xff', ['an Arrow file', written('Dataset.from_file(...)')]],
  ['\x28\xb5\x2f\xfd', ['compressed with Zstandard', UNPACK]],
  ['\xfd7zXZ\x00', ['compressed with xz', UNPACK]],
  ['BZh', ['compressed with bzip2', UNPACK]],
  ['PK\x03\x04', ['a ZIP archive (or an Excel workbook, which is one)', 'unpack it, or write the rows of the workbook as JSONL']],
  [
    'version https://git-lfs.github.com/spec/',
    ['a pointer of Git LFS and not the dataset itself', 'run git lfs pull in its repository, or download it from its page'],
  ],
];

const HTML = /^(?:<!doctype html|<html|<head|<\?xml)/i;

const HTML_KIND: Kind = [
  'a page of HTML',
  'download the file itself (on the Hugging Face Hub its address has "resolve" in place of "blob")',
];

/** Kinds that only the name of a file tells; JSON under such a name is read all the same. */
const ENDINGS: Readonly<Record<string, Kind>> = {
  '.txt': ['plain text', 'write each text as a line {"text": "..."} of a .jsonl file'],
  '.parquet': ['no Parquet file, whatever its name says', 'get it again'],
  '.md': ['plain text', 'write each text as a line {"text": "..."} of a .jsonl file'],
};

/** More bytes than any of these kinds needs to be told. */
const START = 512;

/** @throws UserError when a file is of a kind that is not read, and when it cannot be read */
export function checkKind(file: string): void {
  // what a pipe gives can be read only once
  if (statusOf(file)?.isFile() !== true) return;
  const start = readStart(file, START).toString('latin1');
  const text = start.replace(/^\xef\xbb\xbf/, '').trimStart();
  const kind =
    SIGNATURES.find(([signature]) => start.startsWith(signature))?.[1] ??
    (HTML.test(text) ? HTML_KIND : undefined) ??
    (text !== '' && !/^(?:[[{]|\xff\xfe|\xfe\xff)/.test(text) ? ENDINGS[path.extname(file).toLowerCase()] : undefined);
  if (kind) throw new UserError(`${file} is ${kind[0]}, but rows are read from JSON, JSONL, Parquet or CSV; ${kind[1]}.`);
}

function written(read: string): string {
  return `write its rows as JSONL, in Python with Hugging Face's datasets: ${read}.to_json("rows.jsonl")`;
}
