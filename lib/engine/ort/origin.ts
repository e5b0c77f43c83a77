/**
 * What a value of a graph was made of. A kernel that reads it may do with the origin what would have been done before, in one operation
 * with its own; the nodes of the value are then never written (`GraphBuilder.whenRead`).
 */
export type Origin = TurnedOrigin | RowsOrigin | PartOrigin | SumOrigin;

/** A rotary embedding of x, with [tokens, half a head's turning features] each of cosines and sines. */
interface TurnedOrigin {
  readonly kind: 'turned';
  readonly x: string;
  readonly cos: string;
  readonly sin: string;
  /** Columns of cosines. */
  readonly half: number;
  /** 1 where pairs lie side by side, else 0. */
  readonly interleaved: 0 | 1;
}

/** Rows of a matrix. */
interface RowsOrigin {
  readonly kind: 'rows';
  readonly matrix: string;
  /** int32 [rows] */
  readonly ids: string;
}

/** Some columns of a matrix, which lie side by side with those of the other parts. */
interface PartOrigin {
  readonly kind: 'part';
  readonly whole: string;
  /** All parts, in order. */
  readonly parts: readonly string[];
}

/** The sum of two values of one shape. */
interface SumOrigin {
  readonly kind: 'sum';
  readonly terms: readonly [string, string];
}
