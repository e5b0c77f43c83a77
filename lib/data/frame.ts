/** Datasets to danfojs DataFrames and back. danfojs takes a second to load, which only those pay who want a frame. */
import type { DataFrame } from 'danfojs-node';
import { UserError } from '../errors';
import { type ParsedRows, parseRows } from './rows';
import type { Example } from './types';

/** A DataFrame with a column for each field; the messages of a conversation become JSON text, as a cell holds no list. */
export async function toDataFrame(rows: readonly Example[]): Promise<DataFrame> {
  const danfo = await import('danfojs-node');
  const records = rows.map(flatten);
  const columns = [...new Set(records.flatMap((record) => Object.keys(record)))];
  const values = records.map((record) => columns.map((column) => record[column] ?? ''));
  return new danfo.DataFrame(values, { columns });
}

/**
 * The rows in a DataFrame whose columns are those of a dataset file.
 * @throws UserError when the columns are no known format, or a cell is no text
 */
export function rowsOfDataFrame(frame: Pick<DataFrame, 'columns' | 'values'>): ParsedRows {
  const values = frame.values as unknown[][];
  if (!Array.isArray(values[0]))
    throw new UserError('The DataFrame must have at least one row and its columns must be those of a dataset, as in a file.');
  const records = values.map((row) => Object.fromEntries(frame.columns.map((column, at) => [column, unflatten(column, row[at])])));
  return parseRows(records, (index) => `DataFrame row ${index + 1}`);
}

function flatten({ extras, ...row }: Example): Record<string, string | number | boolean> {
  const cells: Record<string, string | number | boolean> = {};
  for (const [column, value] of Object.entries({ ...extras, ...row })) {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') cells[column] = value;
    else if (value !== undefined && value !== null)
      cells[column === 'chatTemplateKwargs' ? 'chat_template_kwargs' : column] = JSON.stringify(value);
  }
  return cells;
}

const TEXTS = new Set(['instruction', 'input', 'output', 'prompt', 'completion', 'text']);

const OBJECTS = new Set(['messages', 'promptLength', 'conversations', 'tools', 'chat_template_kwargs']);

function unflatten(column: string, cell: unknown): unknown {
  // what danfojs puts where tables that it joins have nothing
  if (Number.isNaN(cell)) return null;
  // a table read from CSV turns an answer like 42 into a number
  if (TEXTS.has(column) && (typeof cell === 'number' || typeof cell === 'boolean')) return String(cell);
  if (!OBJECTS.has(column) || typeof cell !== 'string') return cell;
  // how a frame has a row without the column
  if (cell === '') return undefined;
  try {
    return JSON.parse(cell);
  } catch {
    return cell;
  }
}
