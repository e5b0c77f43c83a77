/** Rows in a table of values that commas, semicolons or tabs part, whose first line names the columns. Every cell is a text. */
import { UserError } from '../errors';
import { readText } from '../files';
import type { RawRows } from './json-rows';
import { isPacked, readPacked } from './packed';

/** @throws UserError for a table without a header, and a row that has other cells than the header */
export async function readCsvRows(file: string): Promise<RawRows> {
  const { default: Papa } = await import('papaparse');
  const { sign, content } = withoutSign(isPacked(file) ? readPacked(file) : readText(file));
  if (content.trim() === '') throw new UserError(`${file} is empty, but rows were expected; write a header and rows into it.`);
  const delimiter = sign ?? (/\.tsv(\.gz)?$/i.test(file) ? '\t' : delimiterOf(content));
  const text = withOneLineEnd(content, delimiter);
  const { data, errors } = Papa.parse<Record<string, unknown>>(text, {
    header: true,
    delimiter,
    newline: '\n',
    skipEmptyLines: true,
    transformHeader: distinctNames(),
  });
  const [error] = errors;
  if (error) {
    // of faulty quotes Papa Parse counts the header, too
    const place = error.row === undefined ? file : `${file} row ${error.row + (error.type === 'Quotes' ? 0 : 1)}`;
    throw new UserError(`${place} is no row of the table: ${error.message.replace(/\.$/, '')}; correct it, or write the rows as JSONL.`);
  }
  if (data.length === 0) throw new UserError(`${file} holds no rows below its header; give at least one.`);
  return { values: data, origins: data.map((_, index) => ({ source: file, row: index + 1, unit: 'row' })) };
}

/** Gives a column whose name another has already the name that pandas, and so Hugging Face's datasets, gives it: `text.1`. */
function distinctNames(): (name: string) => string {
  const counts = new Map<string, number>();
  return (name) => {
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return count === 0 ? name : `${name}.${count}`;
  };
}

/** A first line such as `sep=;` tells Excel what parts the cells, which shows it to nobody. */
function withoutSign(text: string): { sign?: string; content: string } {
  const [line, sign] = /^sep=([^\r\n"])(?:\r\n?|\n)/i.exec(text) ?? [''];
  return { sign, content: text.slice(line.length) };
}

/** A header without a comma has one column, unless something else parts it: Excel writes semicolons where the comma is in numbers. */
function delimiterOf(content: string): string {
  const [header] = content.trimStart().split(/[\r\n]/, 1);
  return [',', ';', '\t'].find((sign) => header.includes(sign)) ?? ',';
}

/** The same table with all lines ended alike, as Papa Parse needs it: joined tables have several kinds. What is in quotes stays as it is. */
function withOneLineEnd(text: string, delimiter: string): string {
  if (!text.includes('\r')) return text;
  const pieces: string[] = [];
  let begin = 0;
  // a quote opens a cell only at its beginning
  const next = new RegExp(`(?<=^|[\\r\\n]|${escaped(delimiter)})"|\\r\\n?`, 'g');
  for (let found = next.exec(text); found; found = next.exec(text)) {
    if (found[0] === '"') next.lastIndex = endOfQuotes(text, found.index + 1);
    else {
      pieces.push(text.slice(begin, found.index));
      begin = next.lastIndex;
    }
  }
  pieces.push(text.slice(begin));
  return pieces.join('\n');
}

/** A sign in a regular expression. */
const escaped = (sign: string): string => sign.replace(/[\\^$.*+?()[\]{}|/-]/, '\\$&');

/** Behind the quote that closes a cell; two are one in it. */
function endOfQuotes(text: string, begin: number): number {
  for (let at = begin; ; at += 2) {
    at = text.indexOf('"', at);
    if (at < 0) return text.length;
    if (text[at + 1] !== '"') return at + 1;
  }
}
