/** Rows as files have them. */

/** A row as it was read, before anything is known of its columns. */
export type RawRow = Readonly<Record<string, unknown>>;

/** Deeper values would exhaust the stack of what walks through them later. */
export const DEEPEST = 500;
