/** Rows as a readable table: HTML for a notebook, text for a terminal. */
import { escapeHtml } from '../display';
import type { ChatMessage, Example } from './types';

const LONGEST = 300;

/** The cells of a row by column; conversations are written out turn by turn. */
function cellsOf(row: Example): Record<string, string> {
  if ('messages' in row) return { messages: row.messages.flatMap(linesOf).join('\n') };
  const { extras: _, ...cells } = row;
  return Object.fromEntries(Object.entries(cells).map(([column, value]) => [column, value ?? '']));
}

/** What a message says, and before it the fields that it has besides. */
function linesOf({ role, content, ...fields }: ChatMessage): string[] {
  const others = Object.entries(fields).map(
    ([name, value]) => `${role} ${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return content === null ? others : [...others, `${role}: ${content}`];
}

/** @param total rows of the whole dataset, of which these are the first */
export function rowsHtml(rows: readonly Example[], total: number): string {
  const columns = columnsOf(rows);
  const style = 'text-align:left;vertical-align:top;white-space:pre-wrap;max-width:40em';
  const head = ['', ...columns].map((column) => `<th style="text-align:left">${escapeHtml(column)}</th>`).join('');
  const body = rows.map((row, index) => {
    const cells = cellsOf(row);
    const shown = columns.map((column) => `<td style="${style}">${escapeHtml(clip(cells[column] ?? '')).replaceAll('\n', '<br>')}</td>`);
    return `<tr><th>${index + 1}</th>${shown.join('')}</tr>`;
  });
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table><p>${caption(rows.length, total)}</p>`;
}

export function rowsText(rows: readonly Example[], total: number): string {
  const blocks = rows.map((row, index) =>
    [
      `--- ${index + 1}`,
      ...Object.entries(cellsOf(row)).map(([column, value]) => `${column}: ${clip(value).replaceAll('\n', '\n    ')}`),
    ].join('\n'),
  );
  return [...blocks, `--- ${caption(rows.length, total)}`].join('\n');
}

function columnsOf(rows: readonly Example[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(cellsOf(row))))];
}

function caption(shown: number, total: number): string {
  return shown < total ? `${shown} of ${total} rows` : `${total} row${total === 1 ? '' : 's'}`;
}

function clip(text: string): string {
  if (text.length <= LONGEST) return printable(text);
  const cut = text.slice(0, LONGEST);
  // not in the middle of a character
  return `${printable(cut.isWellFormed() ? cut : cut.slice(0, -1)).trimEnd()} …`;
}

/** A terminal would obey escape sequences that stand in the data: control characters are shown by the pictures that Unicode has of them. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are meant
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '\u2421' : '\ufffd';
  });
}
