/** The gated MLP: down(act(gate x) · up x) (Shazeer 2020). */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, swiglu } from '../engine';
import { type Linear, type ParameterList, times } from './layers';

export interface GatedMlpOptions {
  hiddenSize: number;
  intermediateSize: number;
  hiddenAct: Activation;
  bias: boolean;
  /** Of its three layers. */
  names?: { gate: string; up: string; down: string };
  /** What gate and output are multiplied by. Default: 1 */
  multipliers?: { gate: number; down: number };
  /** Whether `up` is computed before `gate`, as what an adapter drops of their inputs is drawn in that order. Default false. */
  upFirst?: boolean;
}

const USUAL_NAMES = { gate: 'gate_proj', up: 'up_proj', down: 'down_proj' };

export class GatedMlp {
  private readonly gateProj: Linear;
  private readonly upProj: Linear;
  private readonly downProj: Linear;
  private readonly act: Activation;
  private readonly options: Required<Pick<GatedMlpOptions, 'multipliers' | 'upFirst'>>;

  constructor(
    parameters: ParameterList,
    name: string,
    { hiddenSize, intermediateSize, hiddenAct, bias, names = USUAL_NAMES, ...options }: GatedMlpOptions,
  ) {
    this.gateProj = parameters.linear(`${name}.${names.gate}`, { in: hiddenSize, out: intermediateSize, bias });
    this.upProj = parameters.linear(`${name}.${names.up}`, { in: hiddenSize, out: intermediateSize, bias });
    this.downProj = parameters.linear(`${name}.${names.down}`, { in: intermediateSize, out: hiddenSize, bias });
    this.act = hiddenAct;
    const { multipliers = { gate: 1, down: 1 }, upFirst = false } = options;
    this.options = { multipliers, upFirst };
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    const { multipliers, upFirst } = this.options;
    const first = upFirst ? this.upProj.apply(x) : undefined;
    const gate = times(this.gateProj.apply(x), multipliers.gate);
    return times(this.downProj.apply(gated(this.act, gate, first ?? this.upProj.apply(x))), multipliers.down);
  }
}

/** The same with gate and up in one matrix, one below the other. */
export class FusedGatedMlp {
  private readonly gateUpProj: Linear;
  private readonly downProj: Linear;
  private readonly act: Activation;

  /** @param names of its two layers */
  constructor(
    parameters: ParameterList,
    names: { gateUp: string; down: string },
    { hiddenSize, intermediateSize, hiddenAct }: Omit<GatedMlpOptions, 'bias' | 'names' | 'multipliers' | 'upFirst'>,
  ) {
    this.gateUpProj = parameters.linear(names.gateUp, { in: hiddenSize, out: 2 * intermediateSize, bias: false });
    this.downProj = parameters.linear(names.down, { in: intermediateSize, out: hiddenSize, bias: false });
    this.act = hiddenAct;
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    const [gate, up] = tf.split<tf.Tensor2D>(this.gateUpProj.apply(x), 2, 1);
    return this.downProj.apply(gated(this.act, gate, up));
  }
}

/** act(gate) · up. */
function gated(act: Activation, gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D {
  return act === 'silu' ? swiglu(gate, up) : tf.mul(activation(act, gate), up);
}
