/** Rows in JSON: an array of them, or JSONL with a row a line; which of the two is told by the content. */
import * as path from 'node:path';
import { UserError } from '../errors';
import { isLargerThanText, parseJson, readLines, readText } from '../files';
import type { RowOrigin } from './dataset';
import { isPacked, readPacked } from './packed';

/** Rows as a file has them, and where each was. */
export interface RawRows {
  values: unknown[];
  origins: RowOrigin[];
}

/** @throws UserError for an empty file, broken JSON (with line and column), or one value that is no array */
export function readJsonRows(file: string): RawRows {
  return isLargerThanText(file) ? readLarge(file) : readSmall(file);
}

function readSmall(file: string): RawRows {
  const text = isPacked(file) ? readPacked(file) : readText(file);
  if (text.trim() === '')
    throw new UserError(`${file} is empty, but rows were expected; write a JSON array or one JSON object per line into it.`);
  return isJsonLines(text, file) ? parseLines(text.split('\n'), file) : parseArray(text, file);
}

/** Of a file that no text can hold as a whole, JSONL can be read: the first line tells. */
function readLarge(file: string): RawRows {
  for (const line of readLines(file)) {
    if (line.trim() === '') continue;
    if (isJsonLines(line, file)) return parseLines(readLines(file), file);
    break;
  }
  return parseArray(readText(file), file);
}

/** JSONL starts with an object that ends on its line, or the name says so. */
function isJsonLines(text: string, file: string): boolean {
  if (/^\s*\[/.test(text)) return false;
  if (/\.(jsonl|ndjson)$/i.test(path.extname(file.replace(/\.gz$/i, '')))) return true;
  const first = text.trimStart().split('\n', 1)[0].trim();
  return first.startsWith('{') && (first.endsWith('}') || isJson(first));
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function parseLines(lines: Iterable<string>, file: string): RawRows {
  const values: unknown[] = [];
  const origins: RowOrigin[] = [];
  let row = 0;
  for (const line of lines) {
    row++;
    if (line.trim() === '') continue;
    values.push(parseJson(line, file, row));
    origins.push({ source: file, row, unit: 'line' });
  }
  return { values, origins };
}

function parseArray(text: string, file: string): RawRows {
  const values = parseJson(text, file);
  if (!Array.isArray(values)) {
    throw new UserError(
      `${file} holds one JSON value, but an array of rows was expected; put the rows into [ ... ], or write one JSON object per line.`,
    );
  }
  return { values, origins: values.map((_, index) => ({ source: file, row: index + 1, unit: 'row' })) };
}
