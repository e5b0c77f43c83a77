/** Packing: filling rows of a fixed length with whole sequences (Ding et al. 2024, "Fewer Truncations Improve Language Modeling"). */
import { chunks } from './batches';
import type { Item, Sequence } from './examples';

/** Examples that TRL packs together: it goes through a dataset in slices of so many. */
const EXAMPLES_AT_ONCE = 1000;

/**
 * Lays sequences into rows as TRL does.
 * @param splits whether sequences longer than a row go on in another one; if not, none is longer
 */
export function packRows(sequences: readonly Sequence[], length: number, splits: boolean): Item[] {
  return chunks(sequences, EXAMPLES_AT_ONCE).flatMap((slice) => packBestFit(splits ? splitLong(slice, length) : slice, length));
}

/**
 * Best-fit decreasing: the longest sequences first, each into the row with the least room that still holds it.
 * The rows are those of TRL's `bfd`; equal lengths keep their order.
 * @param length tokens that a row holds; no sequence is longer
 */
export function packBestFit(sequences: readonly Sequence[], length: number): Item[] {
  const rows: Sequence[][] = [];
  // a row that has room for all is filled as any longer one
  const room = Math.min(
    length,
    sequences.reduce((sum, { inputIds }) => sum + inputIds.length, 0),
  );
  // open[left]: the rows with exactly that much room left, oldest first
  const open: Sequence[][][] = Array.from({ length: room + 1 }, () => []);
  const longestFirst = [...sequences].sort((a, b) => b.inputIds.length - a.inputIds.length);
  for (const sequence of longestFirst) {
    let left = sequence.inputIds.length;
    while (left < room && open[left].length === 0) left++;
    let row = open[left].shift();
    if (!row) {
      row = [];
      rows.push(row);
    }
    row.push(sequence);
    open[left - sequence.inputIds.length].push(row);
  }
  return rows;
}

/** Cuts sequences longer than `length` into pieces of that length, the last one shorter. */
export function splitLong(sequences: readonly Sequence[], length: number): Sequence[] {
  return sequences.flatMap((sequence) => {
    const pieces: Sequence[] = [];
    for (let start = 0; start < sequence.inputIds.length; start += length) {
      pieces.push({ inputIds: sequence.inputIds.slice(start, start + length), lossMask: sequence.lossMask.slice(start, start + length) });
    }
    return pieces;
  });
}
