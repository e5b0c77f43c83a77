/** The gated MLP of Llama, Qwen3, Gemma 3, OLMo 2 and Granite: down(act(gate x) · up x) (Shazeer 2020). */
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
    const gate = this.gateProj.apply(x);
    const up = this.upProj.apply(x);
    const gated = this.act === 'silu' ? swiglu(gate, up) : tf.mul(activation(this.act, gate), up);
    return this.downProj.apply(gated as tf.Tensor2D);
  }
}
