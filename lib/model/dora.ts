/**
 * DoRA (Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"): an adapted weight W + s·B A gives only the directions of a layer's
 * rows, and their lengths m are trained on their own, W' = (m / n) · (W + s·B A) with n = ‖W + s·B A‖ of each row. As the paper says in its
 * section 4.3, and as PEFT does it, n is a constant to the gradient.
 */
import * as tf from '@tensorflow/tfjs-core';
import { computeRecorded, currentPrecision, fromCompact, versionsOf } from '../engine';
import type { Linear, Parameter } from './layers';

/** What the norms of a layer's rows are found from. */
export interface AdaptedLayer {
  /** Its weight is W, [out, in] */
  readonly linear: Linear;
  /** A, [r, in] */
  readonly a: Parameter<tf.Rank.R2>;
  /** B, [out, r] */
  readonly b: Parameter<tf.Rank.R2>;
}

/** The norms of an adapted layer's rows. They are found once for as long as its matrices stay, as they cost what r tokens cost. */
export class RowNorms {
  /** ‖W‖² of each row, [out]; W stays. */
  private readonly squares: tf.Tensor1D;
  private found?: tf.Tensor1D;
  /** Says which matrices they were found from, and in which precision. */
  private foundFor?: string;

  constructor(
    private readonly of: AdaptedLayer,
    private readonly scaling: tf.Scalar,
  ) {
    const { weight } = of.linear;
    this.squares = tf.keep(
      tf.tidy(() => {
        const whole = weight.compact ? fromCompact(weight.compact) : weight.tensor;
        return tf.sum(tf.mul(whole, whole), 1) as tf.Tensor1D;
      }),
    );
    // one layer after the other: the squares of all of them would need memory at once
    computeRecorded();
  }

  /** [out], as they were when `refresh` last looked. */
  get tensor(): tf.Tensor1D {
    if (!this.found) throw new Error(`The norms of ${this.of.linear.weight.name} were not found yet.`);
    return this.found;
  }

  /** ‖W‖ of each row, [out]: what the lengths are at first, where B is zero. */
  ofWeight(): tf.Tensor1D {
    return tf.sqrt(this.squares);
  }

  /** Finds the norms where the matrices are others than before, or the precision is. */
  refresh(): void {
    const versions = versionsOf([this.of.a.tensor, this.of.b.tensor]);
    const now = versions && `${versions} in ${currentPrecision()}`;
    // where nobody counts changes, they are found each time
    if (this.found && now !== undefined && now === this.foundFor) return;
    this.found?.dispose();
    this.found = tf.keep(unrecorded(this.squares, () => this.compute()));
    this.foundFor = now;
    computeRecorded();
  }

  /**
   * n² = ‖W‖² + 2s ⟨W, B A⟩ + s² ‖B A‖² of each row, with ⟨W, B A⟩ = ⟨B, (A Wᵀ)ᵀ⟩ and ‖B A‖² = ⟨B, B (A Aᵀ)⟩: nothing is as large as W.
   */
  private compute(): tf.Tensor1D {
    const [a, b] = [this.of.a.tensor, this.of.b.tensor];
    const crossed = tf.transpose(this.of.linear.timesWeight(a));
    const squared = tf.matMul(b, tf.matMul(a, a, false, true));
    const terms = tf.mul(b, tf.add(tf.mul(crossed, 2), tf.mul(squared, this.scaling)));
    return tf.sqrt(tf.add(this.squares, tf.mul(tf.sum(terms, 1), this.scaling))) as tf.Tensor1D;
  }

  dispose(): void {
    tf.dispose([this.squares, ...(this.found ? [this.found] : [])]);
    this.found = undefined;
  }
}

/** Computes what no gradient goes through, also while a gradient is being found. @param like of the result's shape */
function unrecorded(like: tf.Tensor1D, compute: () => tf.Tensor1D): tf.Tensor1D {
  const constant = tf.customGrad(() => ({ value: compute(), gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy) }));
  return constant(like) as tf.Tensor1D;
}
