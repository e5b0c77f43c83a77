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
  /**
   * The segments cut into blocks of about equal length, int32 [blocks, 3]: where the block's segment starts in the row,
   * where the block starts, where it ends.
   */
  readonly blocks: tf.Tensor2D;
  dispose(): void;
}

/**
 * The longest block. Attention computes a block's queries with all keys up to the block's end: longer blocks compute more that
 * causality hides, and their scores leave the processor's cache; shorter ones are more calls.
 */
const LONGEST_BLOCK = 128;

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
  const borders = blocksOf(lengths);
  const blocks = tf.keep(tf.tensor2d(Int32Array.from(borders.flat()), [borders.length, 3], 'int32'));
  ortBackend()?.markVarying(blocks.dataId);
  return { lengths: [...lengths], blocks, dispose: () => blocks.dispose() };
}

function blocksOf(lengths: readonly number[]): [number, number, number][] {
  const blocks: [number, number, number][] = [];
  let segment = 0;
  for (const length of lengths) {
    const count = Math.ceil(length / LONGEST_BLOCK);
    for (let i = 0; i < count; i++) {
      blocks.push([segment, segment + Math.floor((i * length) / count), segment + Math.floor(((i + 1) * length) / count)]);
    }
    segment += length;
  }
  return blocks;
}
