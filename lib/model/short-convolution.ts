/** A short convolution: each feature of a token is a weighted sum of that feature in the token and its nearest neighbours before it. */
import * as tf from '@tensorflow/tfjs-core';
import { weightedSum } from '../engine';
import type { Parameter, ParameterList } from './layers';
import type { Before, Convolve } from './types';

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

  /** @param x [tokens, features] */
  apply(layer: number, x: tf.Tensor2D, convolve: Convolve): tf.Tensor2D {
    const mixed = convolve(layer, x, this.weights());
    return this.bias ? tf.add(mixed, this.bias.tensor) : mixed;
  }

  /** [taps, features]: for the own token, for the one before it, and so on; in checkpoints the own token comes last. */
  private weights(): tf.Tensor2D {
    const { features, taps } = this.options;
    const lastFirst = tf.reverse(tf.transpose(this.weight.tensor, [2, 1, 0]), 0);
    return tf.reshape(lastFirst, [taps, features]);
  }
}

/** Convolves by the rows of the tokens before each. */
export function convolveBy(before: Before): Convolve {
  return (layer, x, weights) => {
    const count = weights.shape[0] - 1;
    return weightedSum([x, ...(count > 0 ? before(layer, x, count) : [])], weights);
  };
}
