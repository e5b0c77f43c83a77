/** Reads dataset files: a JSON array of rows, or JSONL with a row a line; which of the two is told by the content. */
import * as path from 'node:path';
import { UserError } from '../errors';
import { isLargerThanText, parseJson, readLines, readText } from '../files';
import { Dataset, type RowOrigin } from './dataset';
import { checkKind } from './foreign-files';
import { parseRows } from './rows';

/**
 * Reads a dataset file: a JSON array or JSONL, whose rows are Alpaca (`instruction`, `input`, `output`), prompt/completion,
 * chat `messages`, ShareGPT `conversations` or plain `text`; the format is recognized by the first row.
 * @throws UserError for a missing path, a folder, an empty file, one of another kind (a table, a compressed one, ...), broken JSON (with line and column), a row of another format (with its number)
 */
export async function loadDataset(file: string): Promise<Dataset> {
  checkKind(file);
  const { values, origins } = isLargerThanText(file) ? readLarge(file) : readSmall(file);
  const { rows, notes } = parseRows(values, (index) => (origins[index] ? `${file} ${origins[index].unit} ${origins[index].row}` : file));
  return new Dataset(rows, { origins, notes });
}

function readSmall(file: string): RawRows {
  const text = readText(file);
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

interface RawRows {
  values: unknown[];
  origins: RowOrigin[];
}

/** JSONL starts with an object that ends on its line, or the name says so. */
function isJsonLines(text: string, file: string): boolean {
  if (/^\s*\[/.test(text)) return false;
  if (/\.(jsonl|ndjson)$/i.test(path.extname(file))) return true;
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
