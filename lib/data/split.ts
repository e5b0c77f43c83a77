/** Parts of a split as Hugging Face's datasets writes them: `train`, `train[:100]`, `train[:10%]`. */
import { UserError } from '../errors';

/** Bounds of rows; undefined where the split has an end. */
export interface Slice {
  readonly split: string;
  /** How many rows, from the first on, have to be read for it; Infinity where all of them must be counted. */
  readonly most: number;
  /** Whether it has no rows of however many, such as `train[:0]`. */
  readonly isMeantEmpty: boolean;
  /** Which rows of so many: the first, and the one behind the last. */
  bounds(rows: number): [from: number, to: number];
}

/** @throws UserError when the text is no split */
export function parseSplit(text: string): Slice {
  const match = /^([^[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?$/.exec(text);
  if (!match)
    throw new UserError(
      `The split ${JSON.stringify(text)} is not understood; write a name such as train, or a part of it such as train[:100] or train[:10%].`,
    );
  const [, split, from, to] = match;
  // as in datasets, one % makes both bounds percentages
  const inPercent = from?.endsWith('%') || to?.endsWith('%');
  const bound = (written: string | undefined, fallback: number, length: number): number => {
    if (written === undefined) return fallback;
    const number = Number.parseInt(written, 10);
    const rows = inPercent ? roundHalfEven((number * length) / 100) : number;
    return Math.max(0, Math.min(length, rows < 0 ? length + rows : rows));
  };
  const most = inPercent || to === undefined || Number(to) < 0 || Number(from ?? 0) < 0 ? Infinity : Number(to);
  const bounds = (length: number): [number, number] => [bound(from, 0, length), bound(to, length, length)];
  const [first, end] = bounds(Number.MAX_SAFE_INTEGER);
  return { split, most, isMeantEmpty: first >= end, bounds };
}

/** Python's `round`: what lies halfway goes to the even neighbour. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below === 0.5) return below % 2 === 0 ? below : below + 1;
  return Math.round(value);
}
