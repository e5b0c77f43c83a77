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
  /** The same lengths as an int32 tensor of shape [segments]. */
  readonly lengthsTensor: tf.Tensor1D;
  dispose(): void;
}

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
  const lengthsTensor = tf.keep(tf.tensor1d(Int32Array.from(lengths), 'int32'));
  ortBackend()?.markVarying(lengthsTensor.dataId);
  return { lengths: [...lengths], lengthsTensor, dispose: () => lengthsTensor.dispose() };
}
