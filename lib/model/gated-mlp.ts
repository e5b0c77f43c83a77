/** The gated MLP: down(act(gate x) · up x) (Shazeer 2020). */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, swiglu } from '../engine';
import type { Linear, ParameterList } from './layers';

export interface GatedMlpOptions {
  hiddenSize: number;
  intermediateSize: number;
  hiddenAct: Activation;
  bias: boolean;
}

export class GatedMlp {
  private readonly gateProj: Linear;
  private readonly upProj: Linear;
  private readonly downProj: Linear;
  private readonly act: Activation;

  constructor(parameters: ParameterList, name: string, { hiddenSize, intermediateSize, hiddenAct, bias }: GatedMlpOptions) {
    this.gateProj = parameters.linear(`${name}.gate_proj`, { in: hiddenSize, out: intermediateSize, bias });
    this.upProj = parameters.linear(`${name}.up_proj`, { in: hiddenSize, out: intermediateSize, bias });
    this.downProj = parameters.linear(`${name}.down_proj`, { in: intermediateSize, out: hiddenSize, bias });
    this.act = hiddenAct;
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    return this.downProj.apply(gated(this.act, this.gateProj.apply(x), this.upProj.apply(x)));
  }
}

/** act(gate) · up. */
export function gated(act: Activation, gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D {
  return act === 'silu' ? swiglu(gate, up) : tf.mul(activation(act, gate), up);
}
