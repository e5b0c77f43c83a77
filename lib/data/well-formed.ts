/** Texts that UTF-8 can write. JSON's escapes can also name half of a character, for which a tokenizer would put U+FFFD. */
import { UserError } from '../errors';
import type { RawRow } from './raw-row';

/** Half of a surrogate pair without the other. */
const HALF = /\p{Surrogate}/u;

/** @throws UserError when a text in one of the columns has half of a character */
export function checkWellFormed(row: RawRow, columns: readonly string[], place: string): void {
  for (const column of columns) {
    const found = firstHalf(row[column]);
    if (found === undefined) continue;
    throw new UserError(
      `${place}: "${column}" has \\u${found.charCodeAt(0).toString(16)}, which is half of a character (an emoji cut in two, for instance); correct the row or remove it.`,
    );
  }
}

function firstHalf(value: unknown): string | undefined {
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (typeof next === 'string') {
      if (!next.isWellFormed()) return HALF.exec(next)?.[0];
    } else if (typeof next === 'object' && next !== null) {
      for (const [key, entry] of Object.entries(next)) left.push(key, entry);
    }
  }
  return undefined;
}
