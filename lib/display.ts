/** Showing something to the person at the notebook: HTML in a cell's output, plain text in a terminal. */

/** An output of a cell that can be replaced. */
export interface CellDisplay {
  html(html: string): void;
  text(text: string): void;
}

/** What tslab gives the code of a notebook. */
interface TslabGlobal {
  __tslab__?: { require?: (id: string) => { display: CellDisplay; newDisplay(): CellDisplay } };
}

/** True inside a notebook that the tslab kernel runs. */
export function inNotebook(): boolean {
  return typeof (globalThis as TslabGlobal).__tslab__?.require === 'function';
}

/** Shows HTML in the running cell; outside a notebook prints `text`, or nothing when there is none. */
export function displayHtml(html: string, text?: string): void {
  // asking the kernel for its own tslab matters: another copy would not know the running cell
  const tslab = (globalThis as TslabGlobal).__tslab__?.require?.('tslab');
  if (tslab) tslab.display.html(html);
  else if (text !== undefined) console.log(text);
}

/** Under this name Node, and so the kernel, asks an object for the text to print of it. */
export const printed: unique symbol = Symbol.for('nodejs.util.inspect.custom');

/** Lets an object that is no class's print as one line. */
export function printsAs<T extends object>(object: T, line: () => string): T {
  return Object.defineProperty(object, printed, { value: line });
}

/** A new output of the running cell; outside of a notebook one that shows nothing. */
export function newCellDisplay(): CellDisplay {
  return (globalThis as TslabGlobal).__tslab__?.require?.('tslab').newDisplay() ?? { html: () => {}, text: () => {} };
}

/** Text made safe to stand in HTML, between tags or inside a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c] as string);
}

/** Notebooks keep every message that they get; four a second are enough. */
const REWRITTEN_EVERY_MS = 250;

/**
 * A line of text that is rewritten, at most four times a second: in a notebook in place in the cell, in a terminal on standard error;
 * elsewhere (a log file, a test) nothing is written. `last` ends the line, and is written in any case.
 */
export function createLiveText(): (text: string, last?: boolean) => void {
  const write = textWriter();
  let written = -Infinity;
  return (text, last = false) => {
    const now = performance.now();
    if (!last && now - written < REWRITTEN_EVERY_MS) return;
    written = now;
    write(text, last);
  };
}

function textWriter(): (text: string, last: boolean) => void {
  if (inNotebook()) {
    const place = newCellDisplay();
    return (text) => place.text(text);
  }
  if (!process.stderr.isTTY) return () => {};
  return (text, last) => {
    isLineOpen = !last;
    process.stderr.write(`\r${text}\u001b[K${last ? '\n' : ''}`);
  };
}

/** Whether a line of the terminal is being rewritten. */
let isLineOpen = false;

/** Ends such a line, for what is to be written below it. */
export function endLiveText(): void {
  if (isLineOpen) process.stderr.write('\n');
  isLineOpen = false;
}
