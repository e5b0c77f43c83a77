/** Words for values that a row should not have. */

/** A row as it was read, before anything is known of its columns. */
export type RawRow = Readonly<Record<string, unknown>>;

/** Deeper values would exhaust the stack of what walks through them later. */
export const DEEPEST = 500;

/** A value in a message: what it is, and itself where it is short. */
export function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'an object';
  const shown = JSON.stringify(value);
  return `${typeof value === 'string' ? 'the text' : `the ${typeof value}`} ${shown.length > 40 ? `${shown.slice(0, 40)}...` : shown}`;
}
