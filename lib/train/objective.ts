/** What a run makes small at each target: the negative log-likelihood, or what its settings make of that. */
import * as tf from '@tensorflow/tfjs-core';
import { embedding, linear, softCap } from '../engine';
import type { SFTConfig } from './config';

/** The settings that choose the loss; those left out are TRL's defaults. */
export type LossSettings = Partial<Pick<SFTConfig, 'lossType' | 'labelSmoothingFactor'>>;

/** Where a target was predicted from, and which it is. */
export interface Predictions {
  /** float32 [targets, features]: the final hidden states. */
  hidden: tf.Tensor2D;
  /** [vocabulary, features]: the output head. */
  head: tf.Tensor2D;
  /** [vocabulary], where the head has one. */
  bias?: tf.Tensor1D;
  /** int32 [targets] */
  targets: tf.Tensor1D;
  /** What logits are soft-capped by, where they are. */
  softcap?: number;
}

/**
 * The loss of each target. Differentiable. Runs inside the caller's `tf.tidy`.
 * @param nll [targets]: the negative log-likelihoods, which are the plain loss
 */
export function lossOf(nll: tf.Tensor1D, predictions: Predictions, { lossType, labelSmoothingFactor = 0 }: LossSettings): tf.Tensor1D {
  if (lossType === 'dft') return dynamicFineTuning(nll);
  return labelSmoothingFactor === 0 ? nll : tf.add(nll, tf.mul(smoothingGap(predictions), labelSmoothingFactor));
}

/** p · nll, where the target's probability p is a weight that passes no gradient on (Wu et al. 2025). */
function dynamicFineTuning(nll: tf.Tensor1D): tf.Tensor1D {
  const weighted = tf.customGrad((x, save) => {
    const p = tf.exp(tf.neg(x as tf.Tensor));
    (save as tf.GradSaveFunc)([p]);
    return { value: tf.mul(x as tf.Tensor, p), gradFunc: (dy: tf.Tensor, [p]: tf.Tensor[]) => tf.mul(dy, p) };
  });
  return weighted(nll) as tf.Tensor1D;
}

/**
 * Mean of −log p over the vocabulary, less that of the target: what label smoothing adds a share of (Szegedy et al. 2016). All of them
 * have the same normalization, so the difference is that of logits, h · (row of the target − mean row), with a bias b also b[target] − mean b, and no
 * others are needed. Those that are soft-capped all have to be there.
 */
function smoothingGap({ hidden, head, bias, targets, softcap }: Predictions): tf.Tensor1D {
  const products = dotRows(hidden, embedding(head, targets));
  const ofTargets = softCap(bias ? tf.add(products, entriesOf(bias, targets)) : products, softcap);
  const ofAll = softcap === undefined ? meanLogit(hidden, head, bias) : meanOfRows(softCap(linear(hidden, head, bias), softcap));
  return tf.sub(ofTargets, tf.reshape(ofAll, [targets.size]));
}

/** [targets, 1]: the mean of all logits, of the mean row of the head. */
function meanLogit(hidden: tf.Tensor2D, head: tf.Tensor2D, bias?: tf.Tensor1D): tf.Tensor2D {
  const product = linear(hidden, meanRow(head));
  return bias ? tf.add(product, meanOfRows(tf.expandDims(bias, 0) as tf.Tensor2D)) : product;
}

/** Numbers of a vector by their places, [places]. */
function entriesOf(vector: tf.Tensor1D, places: tf.Tensor1D): tf.Tensor1D {
  return tf.reshape(embedding(tf.expandDims(vector, 1) as tf.Tensor2D, places), [places.size]);
}

/** [rows, 1]: as a product, whose gradient makes no matrix on the host. */
function meanOfRows(matrix: tf.Tensor2D): tf.Tensor2D {
  const columns = matrix.shape[1];
  return linear(matrix, tf.fill([1, columns], 1 / columns));
}

/** Products of the rows of two matrices, [rows]. tfjs's own gradient of the sum would make a matrix of ones on the host. */
function dotRows(a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor1D {
  const dot = tf.customGrad((...given) => {
    const [x, y, save] = given as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
    save([x, y]);
    return {
      value: tf.sum(tf.mul(x, y), 1),
      gradFunc: (dy: tf.Tensor, [x, y]: tf.Tensor[]) => {
        const column = tf.expandDims(dy, 1);
        return [tf.mul(column, y), tf.mul(column, x)];
      },
    };
  });
  return dot(a, b) as tf.Tensor1D;
}

/** [1, features]. As with `dotRows`, the gradient is written out for the sake of the host's memory. */
function meanRow(matrix: tf.Tensor2D): tf.Tensor2D {
  const rows = matrix.shape[0];
  const mean = tf.customGrad((x) => ({
    value: tf.mean(x as tf.Tensor2D, 0, true),
    gradFunc: (dy: tf.Tensor) => tf.tile(tf.div(dy, rows), [rows, 1]),
  }));
  return mean(matrix) as tf.Tensor2D;
}
