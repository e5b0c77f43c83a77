/** Reads dataset files: a JSON array of rows, or JSONL with a row a line; which of the two is told by the content. */
import * as path from 'node:path';
import { UserError } from '../errors';
import { parseJson, readText } from '../files';
import { Dataset, type RowOrigin } from './dataset';
import { parseRows } from './rows';

/**
 * Reads a dataset file: a JSON array or JSONL, whose rows are Alpaca (`instruction`, `input`, `output`), prompt/completion,
 * chat `messages`, ShareGPT `conversations` or plain `text`; the format is recognized by the first row.
 * @throws UserError for a missing path, a folder, an empty file, broken JSON (with line and column), a row of another format (with its number)
 */
export async function loadDataset(file: string): Promise<Dataset> {
  const text = readText(file);
  if (text.trim() === '')
    throw new UserError(`${file} is empty, but rows were expected; write a JSON array or one JSON object per line into it.`);
  const { values, origins } = isJsonLines(text, file) ? readLines(text, file) : readArray(text, file);
  const { rows, notes } = parseRows(values, (index) => (origins[index] ? `${file} ${origins[index].unit} ${origins[index].row}` : file));
  return new Dataset(rows, { origins, notes });
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

function readLines(text: string, file: string): RawRows {
  const values: unknown[] = [];
  const origins: RowOrigin[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    values.push(parseJson(line, file, index + 1));
    origins.push({ source: file, row: index + 1, unit: 'line' });
  }
  return { values, origins };
}

function readArray(text: string, file: string): RawRows {
  const values = parseJson(text, file);
  if (!Array.isArray(values)) {
    throw new UserError(
      `${file} holds one JSON value, but an array of rows was expected; put the rows into [ ... ], or write one JSON object per line.`,
    );
  }
  return { values, origins: values.map((_, index) => ({ source: file, row: index + 1, unit: 'row' })) };
}
