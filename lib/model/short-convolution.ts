/** A short convolution: each feature of a token is a weighted sum of that feature in the token and its nearest neighbours before it. */
import * as tf from '@tensorflow/tfjs-core';
import type { Parameter, ParameterList } from './layers';

export interface ShortConvolutionOptions {
  features: number;
  /** How many tokens it reads, the own one included. */
  taps: number;
  bias: boolean;
}

/** Σₙ wₙ x₋ₙ, where −n is n tokens before. */
export class ShortConvolution {
  private readonly weight: Parameter<tf.Rank.R3>;
  private readonly bias?: Parameter<tf.Rank.R1>;

  constructor(
    parameters: ParameterList,
    name: string,
    private readonly options: ShortConvolutionOptions,
  ) {
    const { features, taps, bias } = options;
    this.weight = parameters.declare<tf.Rank.R3>(`${name}.weight`, [features, 1, taps], 'normal');
    this.bias = bias ? parameters.declare<tf.Rank.R1>(`${name}.bias`, [features], 'zeros') : undefined;
  }

  /**
   * @param x [tokens, features]
   * @param before gives for each token the rows of so many before it, the nearest first
   */
  apply(x: tf.Tensor2D, before: (x: tf.Tensor2D, count: number) => tf.Tensor2D[]): tf.Tensor2D {
    const { taps } = this.options;
    const earlier = taps > 1 ? before(x, taps - 1) : [];
    const weights = this.weights();
    const weighted = [x, ...earlier].map((rows, n) => tf.mul<tf.Tensor2D>(rows, weights[n]));
    const mixed = weighted.reduce((sum, rows) => tf.add(sum, rows));
    return this.bias ? tf.add(mixed, this.bias.tensor) : mixed;
  }

  /** [1, features] for the own token, for the one before it, and so on; in checkpoints the own token comes last. */
  private weights(): tf.Tensor2D[] {
    const { features, taps } = this.options;
    const rows = tf.transpose(tf.reshape(this.weight.tensor, [features, taps]));
    return Array.from({ length: taps }, (_, n) => tf.slice(rows, [taps - 1 - n, 0], [1, features]) as tf.Tensor2D);
  }
}
