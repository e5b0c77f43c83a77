/**
 * Segments: several examples laid end to end in one row of tokens.
 *
 * Attention never crosses the border between two segments, so a row of examples computes what a padded
 * batch of the same examples computes, without the padding.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';

/** The borders of the examples in one packed row. The owner calls `dispose`. */
export interface Segments {
  /** Tokens in each segment, in row order; they add up to the row's length. */
  readonly lengths: readonly number[];
  /** How attention goes through the row. */
  readonly tables: AttentionTables;
  dispose(): void;
}

/**
 * The segments cut into blocks of about equal length, and the blocks put into groups that are computed together, filled up to the width
 * of the longest. A block with others of its segment before it is a group of its own, and comes before them.
 */
export interface AttentionTables extends tf.NamedTensorMap {
  /** Where each block's segment starts in the row, where the block starts, where it ends: int32 [blocks, 3], group by group. */
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
  segment: number;
  start: number;
  end: number;
}

/**
 * The longest block. Attention computes a block's queries with all keys up to the block's end: longer blocks compute more that
 * causality hides, and their scores leave the processor's cache; shorter ones are more calls.
 */
const LONGEST_BLOCK = 128;

/** What a group costs beside the scores that it computes, in scores of a head. */
const GROUP_COST = 4096;

/**
 * @param lengths tokens in each segment, every one at least 1
 * @throws if a length is not a positive integer
 */
export function makeSegments(lengths: readonly number[]): Segments {
  for (const length of lengths) {
    if (!Number.isInteger(length) || length < 1) {
      throw new Error(`A segment has length ${length}; every segment needs at least one token.`);
    }
  }
  const tables = tablesOf(groupsOf(lengths));
  return { lengths: [...lengths], tables, dispose: () => tf.dispose(tables) };
}

function groupsOf(lengths: readonly number[]): Block[][] {
  const groups: Block[][] = [];
  const whole: Block[] = [];
  let segment = 0;
  for (const length of lengths) {
    const count = Math.ceil(length / LONGEST_BLOCK);
    const border = (i: number): number => segment + Math.floor((i * length) / count);
    const blocks = Array.from({ length: count }, (_, i) => ({ segment, start: border(i), end: border(i + 1) }));
    if (count === 1) whole.push(...blocks);
    else groups.push(...blocks.reverse().map((block) => [block]));
    segment += length;
  }
  return [...groups, ...grouped(whole)];
}

/** Puts blocks of similar length together, so that filling them up and the number of groups cost least. */
function grouped(blocks: readonly Block[]): Block[][] {
  const width = ({ start, end }: Block): number => end - start;
  const sorted = [...blocks].sort((a, b) => width(b) - width(a));
  /** For each number of blocks the least cost of groups of them, and where the last of those groups begins. */
  const best = [{ cost: 0, first: 0 }];
  for (let count = 1; count <= sorted.length; count++) {
    const options = best.map(({ cost }, first) => ({ cost: cost + (count - first) * width(sorted[first]) ** 2 + GROUP_COST, first }));
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
    const width = Math.max(...group.map(({ start, end }) => end - start));
    for (const { start, end } of group) {
      for (let token = start; token < end; token++) slots[token] = [before, width, token - start];
      before += width;
    }
    bounds.push([block, block + group.length]);
    block += group.length;
  }
  return {
    blocks: table(blocks.map(({ segment, start, end }) => [segment, start, end])),
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
