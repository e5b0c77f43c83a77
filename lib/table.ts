/** Records as a table: HTML in a notebook's cell, aligned text in a terminal. */
import { shown } from './arguments';
import { displayHtml, escapeHtml } from './display';
import { UserError } from './errors';
import { isObject } from './json';

/** What a cell of a table may hold; `true` and `false` become ✓ and ✗. */
export type TableCell = string | number | boolean | null | undefined;

/**
 * Shows records as a table whose columns are the records' keys. Numbers keep four significant digits.
 * @throws UserError for what is no list of records
 */
export function showTable<Row extends { readonly [Column in keyof Row]?: TableCell }>(rows: readonly Row[]): void {
  if (!Array.isArray(rows) || !rows.every(isObject))
    throw new UserError(`The rows of showTable are ${shown(rows)}; give a list of records, such as [{ step: 1, loss: 2.5 }].`);
  // an interface, such as a record of a log, has no index that would say this of it
  const records = rows as ReadonlyArray<Readonly<Record<string, TableCell>>>;
  displayHtml(tableHtml(records), tableText(records));
}

/** The table as HTML; numbers stand at the right. */
export function tableHtml(rows: ReadonlyArray<Readonly<Record<string, TableCell>>>): string {
  const columns = columnsOf(rows);
  const side = (column: string) => (rows.every((row) => typeof (row[column] ?? 0) === 'number') ? 'right' : 'left');
  const cell = (tag: string, column: string, content: string) =>
    `<${tag} align="${side(column)}" style="text-align:${side(column)};vertical-align:top">${content}</${tag}>`;
  const line = (row: Readonly<Record<string, TableCell>>) =>
    columns.map((column) => cell('td', column, escapeHtml(format(row[column])).replaceAll('\n', '<br>'))).join('');
  const head = columns.map((column) => cell('th', column, escapeHtml(column))).join('');
  return `<table><thead><tr>${head}</tr></thead><tbody>${rows.map((row) => `<tr>${line(row)}</tr>`).join('')}</tbody></table>`;
}

/** The table as lines of text, columns aligned. */
export function tableText(rows: ReadonlyArray<Readonly<Record<string, TableCell>>>): string {
  const columns = columnsOf(rows);
  const lines = [columns, ...rows.map((row) => columns.map((column) => format(row[column]).replaceAll('\n', ' ')))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => line[i].length)));
  return lines
    .map((line) =>
      line
        .map((text, i) => text.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function columnsOf(rows: ReadonlyArray<Readonly<Record<string, TableCell>>>): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row)))];
}

function format(cell: TableCell): string {
  if (cell === null || cell === undefined) return '';
  if (typeof cell === 'boolean') return cell ? '✓' : '✗';
  if (typeof cell === 'string') return cell;
  if (Number.isInteger(cell)) return cell.toLocaleString('en-US');
  return Math.abs(cell) >= 1000 ? Math.round(cell).toLocaleString('en-US') : String(Number(cell.toPrecision(4)));
}
