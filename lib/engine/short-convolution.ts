/** A short convolution along the segments of a row: each feature of a token is a weighted sum of that feature in it and its nearest tokens before it. */
import * as tf from '@tensorflow/tfjs-core';
import { rowsAt } from './chunks';
import type { Segments } from './segments';

/**
 * Σₙ wₙ·x₋ₙ, where −n is n tokens before. Differentiable.
 * @param x [tokens, features]
 * @param weights [taps, features]: for the own token, for the one before it, and so on
 * @returns [tokens, features]
 */
export function shortConvolution(x: tf.Tensor2D, weights: tf.Tensor2D, segments: Segments): tf.Tensor2D {
  const borrows = segments.list.some(({ prefix }) => prefix.tokens > 0);
  const forward = (): tf.Tensor2D => {
    const earlier = placesOf(weights, segments.before).map((places) => rowsAt(x, places));
    return weightedSum([x, ...earlier], weights);
  };
  // what is borrowed is read by several segments, and their gradients add up in it
  return borrows ? forward() : withLeanGradient(x, weights, { forward, segments });
}

/** @param rows for each token its own, those of the one before it, and so on, [tokens, features] each */
export function weightedSum(rows: readonly tf.Tensor2D[], weights: tf.Tensor2D): tf.Tensor2D {
  return rows.map((each, n) => tf.mul<tf.Tensor2D>(each, row(weights, n))).reduce((sum, x) => tf.add(sum, x));
}

const row = (weights: tf.Tensor2D, n: number): tf.Tensor => tf.slice(weights, [n, 0], [1, weights.shape[1]]);

/** What is at a number of tokens from each, for 1, 2, … up to the last that is read. */
function placesOf(weights: tf.Tensor2D, at: (tokens: number) => tf.Tensor1D): tf.Tensor1D[] {
  return Array.from({ length: weights.shape[0] - 1 }, (_, n) => at(n + 1));
}

/** Where each token is read by one other at each distance: dx = Σₙ wₙ·dy₊ₙ and dwₙ = Σ dy₊ₙ·x, for which nothing is kept but x. */
function withLeanGradient(
  x: tf.Tensor2D,
  weights: tf.Tensor2D,
  { forward, segments }: { forward: () => tf.Tensor2D; segments: Segments },
): tf.Tensor2D {
  const convolution = tf.customGrad((...given) => {
    const [x, weights, save] = given as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    save([x, weights]);
    const gradFunc = (dy: tf.Tensor2D, [x, weights]: tf.Tensor[]): tf.Tensor[] => {
      const later = [dy, ...placesOf(weights as tf.Tensor2D, segments.behind).map((places) => rowsAt(dy, places))];
      const dWeights = later.map((rows) => tf.sum(tf.mul(rows, x), 0, true));
      return [weightedSum(later, weights as tf.Tensor2D), tf.concat(dWeights, 0)];
    };
    return { value: forward(), gradFunc };
  });
  return convolution(x, weights) as tf.Tensor2D;
}
