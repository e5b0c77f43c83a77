/** Bytes to text, strictly: a letter that is read as U+FFFD would be trained on and said by nobody. */
import { isUtf8 } from 'node:buffer';
import { UserError } from './errors';

const LINE_END = 0x0a;

/**
 * The text that UTF-8 bytes are; a byte-order mark stays.
 * @param file what the bytes were read from, for errors
 * @param firstLine number of their first line in it
 * @throws UserError with line and column where they are no UTF-8
 */
export function decodeUtf8(bytes: Buffer, file: string, firstLine = 1): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  if (firstLine === 1 && startsUtf16(bytes)) throw new UserError(`${file} is written in UTF-16, but UTF-8 is read here; save it as UTF-8.`);
  const { line, start, end } = firstFault(bytes);
  const text = bytes.toString('utf8', start, end);
  const at = text.indexOf('\ufffd');
  const shown = JSON.stringify(text.slice(Math.max(0, at - 20), at + 20).trim());
  throw new UserError(
    `${file} is not UTF-8 text: line ${firstLine + line}, column ${at + 1} has a byte that stands for no character (at \ufffd in ${shown}); save it as UTF-8.`,
  );
}

/** A byte-order mark of either order. */
function startsUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

/** The first line, from 0, that is no UTF-8, and where it is. No character has the byte of a line's end in it. */
function firstFault(bytes: Buffer): { line: number; start: number; end: number } {
  for (let line = 0, start = 0; ; line++) {
    const found = bytes.indexOf(LINE_END, start);
    const end = found < 0 ? bytes.length : found;
    if (found < 0 || !isUtf8(bytes.subarray(start, end))) return { line, start, end };
    start = end + 1;
  }
}
