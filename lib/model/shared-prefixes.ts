/**
 * Shared prefixes: what several sequences of a row begin with is computed once.
 *
 * In a causal model what becomes of a token depends on it and those before it alone. So sequences that begin with the same tokens, such as
 * a system prompt or the preface of a template, have the same hidden states as far as they agree, and the gradient of these states is
 * the sum of what flows back from all of them. Losses and gradients are those of whole sequences, but for rounding.
 */
import type { SharedPrefix } from '../engine';

type Sequence = ArrayLike<number>;

/** Sequences that are to share their beginning. */
export interface PrefixFamily {
  /** Their indices, in rising order: the first one has the tokens, the others borrow them. */
  members: number[];
  /** Number of tokens that they share. */
  tokens: number;
}

/** Fewer tokens are not worth the bookkeeping. */
const SHORTEST_PREFIX = 8;

/**
 * Divides sequences into families so that the tokens saved, (members − 1) · shared tokens of each, are as many as a simple rule makes them.
 * A sequence keeps at least one token of its own.
 */
export function findFamilies(sequences: readonly Sequence[]): PrefixFamily[] {
  const sorted = [...sequences.keys()].sort((a, b) => compare(sequences[a], sequences[b]));
  // shared[i]: tokens that the sequence at i shares with the one before it in this order
  const shared = sorted.map((index, i) => (i === 0 ? 0 : commonPrefix(sequences[sorted[i - 1]], sequences[index])));
  return divide({ sorted, shared }, 0, sorted.length)
    .families.map(({ members, tokens }) => ({ members: members.sort((a, b) => a - b), tokens }))
    .sort((a, b) => a.members[0] - b.members[0]);
}

/** For each sequence what it borrows, and from which; undefined: nothing. */
export function sharedPrefixes(sequences: readonly Sequence[]): Array<SharedPrefix | undefined> {
  const prefixes = new Array<SharedPrefix | undefined>(sequences.length).fill(undefined);
  for (const { members, tokens } of findFamilies(sequences)) {
    for (const borrower of members.slice(1)) prefixes[borrower] = { segment: members[0], tokens };
  }
  return prefixes;
}

interface SortedSequences {
  sorted: readonly number[];
  shared: readonly number[];
}

interface Division {
  families: PrefixFamily[];
  /** Tokens that they save. */
  saved: number;
}

/**
 * Divides the sequences from one place of the sorted list up to another. They all agree as far as the two neighbours that agree least;
 * these are borders of parts that agree further. Each part either joins one family, with what all share, or is divided by itself.
 */
function divide(list: SortedSequences, from: number, to: number): Division {
  if (to - from < 2) return { families: [], saved: 0 };
  let agreed = Number.POSITIVE_INFINITY;
  for (let i = from + 1; i < to; i++) agreed = Math.min(agreed, list.shared[i]);
  const tokens = agreed < SHORTEST_PREFIX ? 0 : agreed;
  const parts: Array<Division & { members: readonly number[] }> = [];
  let start = from;
  for (let i = from + 1; i <= to; i++) {
    if (i < to && list.shared[i] > agreed) continue;
    parts.push({ ...divide(list, start, i), members: list.sorted.slice(start, i) });
    start = i;
  }
  const joining = parts.filter(({ saved, members }) => members.length * tokens > saved);
  const gain = joining.reduce((sum, { saved, members }) => sum + members.length * tokens - saved, 0) - tokens;
  const apart = gain > 0 ? parts.filter((part) => !joining.includes(part)) : parts;
  const families = apart.flatMap((part) => part.families);
  const saved = parts.reduce((sum, part) => sum + part.saved, 0);
  if (gain <= 0) return { families, saved };
  return { families: [...families, { members: joining.flatMap(({ members }) => members), tokens }], saved: saved + gain };
}

/** Order of sequences by their first difference; one that goes on comes after the other. */
function compare(a: Sequence, b: Sequence): number {
  const common = agreement(a, b);
  if (common === a.length || common === b.length) return a.length - b.length;
  return a[common] - b[common];
}

/** How many tokens two sequences can share. */
function commonPrefix(a: Sequence, b: Sequence): number {
  return Math.min(agreement(a, b), a.length - 1, b.length - 1);
}

/** How many first tokens are equal. */
function agreement(a: Sequence, b: Sequence): number {
  const shorter = Math.min(a.length, b.length);
  let i = 0;
  while (i < shorter && a[i] === b[i]) i++;
  return i;
}
