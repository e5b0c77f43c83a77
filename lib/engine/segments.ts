/**
 * Segments: several examples laid end to end in one row of tokens.
 *
 * Attention never crosses the border between two segments, so a row of examples computes what a padded
 * batch of the same examples computes, without the padding. Segments that begin alike may share that beginning: it is computed
 * once, in the segment where it lies, and the others see it as if it lay before their own tokens.
 */
import * as tf from '@tensorflow/tfjs-core';
import { Chunks } from './chunks';
import { ortBackend } from './device';

/** The tokens that one segment borrows from another as its own beginning. */
export interface SharedPrefix {
  /** Index of the segment in which they lie, as its first tokens; it borrows nothing itself. */
  segment: number;
  tokens: number;
}

/** Where a segment's tokens lie in the row. */
export interface Segment {
  /** Place of the first of its own tokens. */
  start: number;
  /** Number of its own tokens. */
  length: number;
  /** What it sees before them: as many tokens from a place on, in another segment. */
  prefix: { start: number; tokens: number };
}

/** The borders of the examples in one packed row. The owner calls `dispose`. */
export interface Segments {
  /** In row order; their own tokens add up to the row. */
  readonly list: readonly Segment[];
  /** How attention goes through the row. */
  readonly tables: AttentionTables;
  /** int32 [tokens]: where in the row is what comes so many tokens before each in its own sequence, what it borrows included; −1 for nothing. */
  before(tokens: number): tf.Tensor1D;
  /** The same of what comes so many tokens behind each, where segments borrow nothing. */
  behind(tokens: number): tf.Tensor1D;
  /** The chunks in which a recurrence goes through the row, whose segments borrow nothing. @param taken as of `Chunks`; of the first call */
  chunks(taken?: ReadonlySet<number>): Chunks;
  dispose(): void;
}

/**
 * The segments cut into blocks of about equal length, and the blocks put into groups that are computed together, filled up to the width
 * of the longest, or the next even one. A block with others of its segment before it is a group of its own, and comes before them. Blocks in a group see
 * prefixes of one length, and all that see a part of a segment as their prefix come before its blocks, those that see least of it first.
 */
export interface AttentionTables extends tf.NamedTensorMap {
  /**
   * Of each block the place and number of the tokens in its prefix, where its segment starts in the row, where the block starts, where it
   * ends: int32 [blocks, 5], group by group.
   */
  blocks: tf.Tensor2D;
  /** Which blocks a group has, from the first up to but without the last: int32 [groups, 2]. */
  groups: tf.Tensor2D;
  /**
   * Where the groups, one after the other, have each token of the row: how many places are before its block, how wide its group is,
   * which of the block's places it has; int32 [tokens, 3].
   */
  slots: tf.Tensor2D;
}

interface Block {
  segment: Segment;
  start: number;
  end: number;
}

/**
 * The longest block. Attention computes a block's queries with all keys up to the block's end: longer blocks compute more that
 * causality hides, and their scores leave the processor's cache; shorter ones are more calls.
 */
export const LONGEST_BLOCK = 128;

/** What a group costs beside the scores that it computes, in scores of a head. */
const GROUP_COST = 4096;

/**
 * @param lengths own tokens of each segment, every one at least 1
 * @param prefixes what segments share, by their index
 * @throws if a length is not a positive integer, or a prefix does not lie in a segment without one
 */
export function makeSegments(lengths: readonly number[], prefixes: ReadonlyArray<SharedPrefix | undefined> = []): Segments {
  const list: Segment[] = [];
  let start = 0;
  for (const length of lengths) {
    if (!Number.isInteger(length) || length < 1) {
      throw new Error(`A segment has length ${length}; every segment needs at least one token.`);
    }
    list.push({ start, length, prefix: { start: 0, tokens: 0 } });
    start += length;
  }
  for (const [index, prefix] of prefixes.entries()) {
    if (!prefix) continue;
    if (prefixes[prefix.segment] || !(prefix.tokens >= 1 && prefix.tokens <= lengths[prefix.segment])) {
      throw new Error(`Segment ${index} shares ${prefix.tokens} tokens of segment ${prefix.segment}, which does not have them itself.`);
    }
    list[index].prefix = { start: list[prefix.segment].start, tokens: prefix.tokens };
  }
  const tables = tablesOf(groupsOf(list));
  // made when first asked for: few models do
  const known = new Map<number, tf.Tensor1D>();
  const neighbours = (tokens: number, places: (list: readonly Segment[], tokens: number) => number[]): tf.Tensor1D => {
    const found = known.get(tokens) ?? tf.keep(tf.tensor1d(places(list, Math.abs(tokens)), 'int32'));
    known.set(tokens, found);
    return found;
  };
  const before = (tokens: number): tf.Tensor1D => neighbours(-tokens, predecessorsIn);
  const behind = (tokens: number): tf.Tensor1D => neighbours(tokens, successorsIn);
  let cut: Chunks | undefined;
  const chunks = (taken?: ReadonlySet<number>): Chunks => {
    cut ??= new Chunks(list, taken);
    return cut;
  };
  const dispose = (): void => {
    tf.dispose([...Object.values(tables), ...known.values()]);
    cut?.dispose();
  };
  return { list, tables, before, behind, chunks, dispose };
}

/** Where in the row a token of a segment's sequence is, counted from 0 where the sequence begins, what it borrows included. */
export function placeIn({ start, prefix }: Segment, token: number): number {
  return token < prefix.tokens ? prefix.start + token : start + token - prefix.tokens;
}

function predecessorsIn(segments: readonly Segment[], tokens: number): number[] {
  return segments.flatMap((segment) =>
    Array.from({ length: segment.length }, (_, i) => {
      const token = segment.prefix.tokens + i - tokens;
      return token < 0 ? -1 : placeIn(segment, token);
    }),
  );
}

function successorsIn(segments: readonly Segment[], tokens: number): number[] {
  return segments.flatMap(({ start, length }) => Array.from({ length }, (_, i) => (i + tokens < length ? start + i + tokens : -1)));
}

function groupsOf(segments: readonly Segment[]): Block[][] {
  const borrowers = new Map<number, Segment[]>();
  for (const segment of segments) {
    const { start, tokens } = segment.prefix;
    if (tokens > 0) borrowers.set(start, [...(borrowers.get(start) ?? []), segment]);
  }
  const families = segments
    .filter(({ start }) => borrowers.has(start))
    .flatMap((lender) => [...borrowersFirst(borrowers.get(lender.start) as Segment[]), ...inParts(lender)]);
  const alone = segments.filter(({ start, prefix }) => prefix.tokens === 0 && !borrowers.has(start));
  return [...families, ...groupsOfEqual(alone)];
}

/** Groups of segments that share the beginning of one other: those that share least of it first. */
function borrowersFirst(segments: readonly Segment[]): Block[][] {
  const prefixes = [...new Set(segments.map(({ prefix }) => prefix.tokens))].sort((a, b) => a - b);
  return prefixes.flatMap((tokens) => groupsOfEqual(segments.filter(({ prefix }) => prefix.tokens === tokens)));
}

/** Groups of segments with prefixes of one length. */
function groupsOfEqual(segments: readonly Segment[]): Block[][] {
  const long = segments.filter(({ length }) => length > LONGEST_BLOCK);
  const short = segments.filter(({ length }) => length <= LONGEST_BLOCK);
  return [...long.flatMap(inParts), ...grouped(short.flatMap(blocksOf))];
}

/** Each block of a segment as a group, the last one first. */
function inParts(segment: Segment): Block[][] {
  return blocksOf(segment)
    .reverse()
    .map((block) => [block]);
}

function blocksOf(segment: Segment): Block[] {
  const count = Math.ceil(segment.length / LONGEST_BLOCK);
  const border = (i: number): number => segment.start + Math.floor((i * segment.length) / count);
  return Array.from({ length: count }, (_, i) => ({ segment, start: border(i), end: border(i + 1) }));
}

/** Puts blocks of similar length together, so that filling them up and the number of groups cost least. */
function grouped(blocks: readonly Block[]): Block[][] {
  const width = ({ start, end }: Block): number => end - start;
  const scores = (block: Block): number => width(block) * (width(block) + block.segment.prefix.tokens);
  const sorted = [...blocks].sort((a, b) => width(b) - width(a));
  /** For each number of blocks the least cost of groups of them, and where the last of those groups begins. */
  const best = [{ cost: 0, first: 0 }];
  for (let count = 1; count <= sorted.length; count++) {
    const options = best.map(({ cost }, first) => ({ cost: cost + (count - first) * scores(sorted[first]) + GROUP_COST, first }));
    best.push(options.reduce((a, b) => (b.cost < a.cost ? b : a)));
  }
  const groups: Block[][] = [];
  for (let end = sorted.length; end > 0; end = best[end].first) groups.unshift(sorted.slice(best[end].first, end));
  return groups;
}

function tablesOf(groups: readonly Block[][]): AttentionTables {
  const blocks = groups.flat();
  const bounds: number[][] = [];
  const slots: number[][] = [];
  let block = 0;
  let before = 0;
  for (const group of groups) {
    const width = 2 * Math.ceil(Math.max(...group.map(({ start, end }) => end - start)) / 2);
    for (const { start, end } of group) {
      for (let token = start; token < end; token++) slots[token] = [before, width, token - start];
      before += width;
    }
    bounds.push([block, block + group.length]);
    block += group.length;
  }
  return {
    blocks: table(blocks.map(({ segment, start, end }) => [segment.prefix.start, segment.prefix.tokens, segment.start, start, end])),
    groups: table(bounds),
    slots: table(slots),
  };
}

/** A table that may have another number of rows the next time. */
function table(rows: readonly number[][]): tf.Tensor2D {
  const tensor = tf.keep(tf.tensor2d(Int32Array.from(rows.flat()), [rows.length, rows[0].length], 'int32'));
  ortBackend()?.markVarying(tensor.dataId);
  return tensor;
}
