/** Rows in a table of comma- or tab-separated values, whose first line names the columns. Every cell is a text. */
import { UserError } from '../errors';
import { readText } from '../files';
import type { RawRows } from './json-rows';
import { isPacked, readPacked } from './packed';

/** @throws UserError for a table without a header, and a row that has other cells than the header */
export async function readCsvRows(file: string): Promise<RawRows> {
  const { default: Papa } = await import('papaparse');
  const text = isPacked(file) ? readPacked(file) : readText(file);
  const delimiter = /\.tsv(\.gz)?$/i.test(file) ? '\t' : ',';
  const { data, errors, meta } = Papa.parse<Record<string, unknown>>(text, { header: true, delimiter, skipEmptyLines: true });
  const [error] = errors;
  if (error) {
    // of faulty quotes Papa Parse counts the header, too
    const place = error.row === undefined ? file : `${file} row ${error.row + (error.type === 'Quotes' ? 0 : 1)}`;
    throw new UserError(`${place} is no row of the table: ${error.message.replace(/\.$/, '')}; correct it, or write the rows as JSONL.`);
  }
  if (data.length === 0)
    throw new UserError(
      `${file} holds no rows below ${(meta.fields ?? []).length > 0 ? 'its header' : 'a header, and none'}; give at least one.`,
    );
  return { values: data, origins: data.map((_, index) => ({ source: file, row: index + 1, unit: 'row' })) };
}
