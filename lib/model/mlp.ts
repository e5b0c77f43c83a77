/** The MLP without a gate: down(act(up x)). */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation } from '../engine';
import type { Linear, ParameterList } from './layers';

export interface MlpOptions {
  hiddenSize: number;
  intermediateSize: number;
  activation: Activation;
  bias: boolean;
  /** Whether checkpoints hold its matrices transposed. */
  transposed?: boolean;
}

export class Mlp {
  private readonly up: Linear;
  private readonly down: Linear;
  private readonly act: Activation;

  /** @param names of its two layers */
  constructor(
    parameters: ParameterList,
    names: { up: string; down: string },
    { hiddenSize, intermediateSize, activation, bias, transposed }: MlpOptions,
  ) {
    this.up = parameters.linear(names.up, { in: hiddenSize, out: intermediateSize, bias, transposed });
    this.down = parameters.linear(names.down, { in: intermediateSize, out: hiddenSize, bias, transposed });
    this.act = activation;
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    return this.down.apply(activation(this.act, this.up.apply(x)));
  }
}
