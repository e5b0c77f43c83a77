/**
 * Mamba 2 (Dao & Gu 2024, "Transformers are SSMs", arXiv:2405.21060), as hybrid models have it in the place of attention or beside it: a short
 * convolution makes values, keys and queries (there x, B and C), and each head adds its values to a state that decays by a time step of its own.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, swiglu } from '../engine';
import { isObject } from '../json';
import type { ConfigReader } from './config';
import type { Linear, Parameter, ParameterList, RmsNorm } from './layers';
import { ShortConvolution } from './short-convolution';
import type { ForwardPass } from './types';

export interface Mamba2Config {
  readonly heads: number;
  readonly headDim: number;
  /** Of so many heads each, which share keys and queries. */
  readonly groups: number;
  /** How wide keys and queries are. */
  readonly stateSize: number;
  /** How many tokens the convolution reads, the own one included. */
  readonly taps: number;
  readonly convBias: boolean;
  /** Biases on the projections into the layer, and out of it. */
  readonly inBias: boolean;
  readonly outBias: boolean;
  /** Of what the convolution makes. */
  readonly hiddenAct: Activation;
  /** Between which time steps are kept. */
  readonly timeStepLimit: readonly [least: number, most: number];
}

/** @param family how wide all heads are together, and the key that says whether there is a bias on the way out */
export function readMamba2Config(reader: ConfigReader, { width, outBias }: { width: number; outBias: string }): Mamba2Config {
  const heads = reader.count('mamba_n_heads', 128);
  const evenly = Math.trunc(width / heads);
  const headDim = reader.get('mamba_d_head') === 'auto' ? evenly : reader.count('mamba_d_head', evenly);
  if (heads * headDim !== width)
    throw reader.wrong('mamba_n_heads', heads, `as many as make up ${width} features with ${headDim} each (mamba_d_head)`);
  const groups = reader.count('mamba_n_groups', 1);
  if (heads % groups !== 0) throw reader.wrong('mamba_n_groups', groups, `a divisor of mamba_n_heads, which is ${heads}`);
  return {
    ...{ heads, headDim, groups },
    stateSize: reader.count('mamba_d_state', 256),
    taps: reader.count('mamba_d_conv', 4),
    convBias: reader.boolean('mamba_conv_bias', true),
    inBias: reader.boolean('mamba_proj_bias', false),
    outBias: reader.boolean(outBias, false),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    timeStepLimit: readTimeStepLimit(reader),
  };
}

function readTimeStepLimit(reader: ConfigReader): readonly [number, number] {
  const given = reader.get('time_step_limit') ?? [0, Number.POSITIVE_INFINITY];
  // JSON has no infinity; transformers writes it so
  const limits = Array.isArray(given) ? given.map((limit: unknown) => (isInfinity(limit) ? Number.POSITIVE_INFINITY : limit)) : [];
  const [least, most] = limits;
  if (limits.length !== 2 || typeof least !== 'number' || typeof most !== 'number' || !(least <= most))
    throw reader.wrong('time_step_limit', given, 'two numbers, the first no larger than the second');
  return [least, most];
}

const isInfinity = (value: unknown): boolean => isObject(value) && value.__float__ === 'Infinity';

export interface Mamba2Options {
  hiddenSize: number;
  /** What goes through the gate is normalized, where anything is: root mean squares of each so many groups of features, before the gate or behind. */
  norm?: { eps: number; groups: number; beforeGate: boolean };
  /** What the parts of the projection into the layer are multiplied by: gate, x, B, C, and time step. Default: 1 */
  multipliers?: readonly number[];
}

export class Mamba2 {
  private readonly convolution: ShortConvolution;
  private readonly inProj: Linear;
  private readonly dtBias: Parameter<tf.Rank.R1>;
  private readonly aLog: Parameter<tf.Rank.R1>;
  private readonly d: Parameter<tf.Rank.R1>;
  private readonly norm?: RmsNorm;
  private readonly outProj: Linear;

  constructor(
    private readonly config: Mamba2Config,
    private readonly options: Mamba2Options,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { heads, taps, convBias, inBias, outBias } = config;
    const { hiddenSize, norm } = options;
    const parts = this.parts();
    const [, x, b, c] = parts;
    this.dtBias = parameters.declare<tf.Rank.R1>(`${name}.dt_bias`, [heads], 'ones');
    this.aLog = parameters.declare<tf.Rank.R1>(`${name}.A_log`, [heads], 'logarithms');
    this.d = parameters.declare<tf.Rank.R1>(`${name}.D`, [heads], 'ones');
    this.convolution = new ShortConvolution(parameters, `${name}.conv1d`, { features: x + b + c, taps, bias: convBias });
    const projected = parts.reduce((sum, size) => sum + size);
    this.inProj = parameters.linear(`${name}.in_proj`, { in: hiddenSize, out: projected, bias: inBias });
    this.norm = norm && parameters.rmsNorm(`${name}.norm`, x, norm.eps);
    this.outProj = parameters.linear(`${name}.out_proj`, { in: x, out: hiddenSize, bias: outBias });
  }

  /** Widths of the parts of the projection into the layer: gate, x, B, C, and time step. */
  private parts(): [gate: number, x: number, b: number, c: number, dt: number] {
    const { heads, headDim, groups, stateSize } = this.config;
    return [heads * headDim, heads * headDim, groups * stateSize, groups * stateSize, heads];
  }

  /** @param x [tokens, hiddenSize] */
  apply(x: tf.Tensor2D, { convolve, recur, carry }: ForwardPass): tf.Tensor2D {
    const { config, layer } = this;
    const { heads: valueHeads, groups: keyHeads } = config;
    const [gateSize, valueSize, ...others] = this.parts();
    const [bSize, cSize, dtSize] = others;
    const [gate, unmixed, dt] = tf.split<tf.Tensor2D>(this.projected(x), [gateSize, valueSize + bSize + cSize, dtSize], 1);
    const mixed = activation(config.hiddenAct, this.convolution.apply(layer, unmixed, convolve));
    const [values, k, q] = tf.split<tf.Tensor2D>(mixed, [valueSize, bSize, cSize], 1);
    const time = this.timeSteps(dt);
    const g: tf.Tensor2D = tf.mul(time, tf.neg(tf.exp(this.aLog.tensor)));
    const read = recur(layer, { q, k, v: this.perHead(values, time), g }, { keyHeads, valueHeads });
    const own = this.perHead(carry(layer, values), tf.expandDims(this.d.tensor, 0) as tf.Tensor2D);
    return this.outProj.apply(this.gated(carry(layer, gate), tf.add(read, own)));
  }

  private projected(x: tf.Tensor2D): tf.Tensor2D {
    const { multipliers } = this.options;
    const projected = this.inProj.apply(x);
    if (!multipliers || multipliers.every((multiplier) => multiplier === 1)) return projected;
    const factors = this.parts().map((size, i) => tf.fill([1, size], multipliers[i]));
    return tf.mul(projected, tf.concat(factors, 1));
  }

  /** softplus(dt + bias), within its limits. @param dt [tokens, heads] */
  private timeSteps(dt: tf.Tensor2D): tf.Tensor2D {
    const [least, most] = this.config.timeStepLimit;
    const time = tf.softplus(tf.add<tf.Tensor2D>(dt, this.dtBias.tensor));
    // a softplus is above zero by itself
    return least <= 0 && most === Number.POSITIVE_INFINITY ? time : tf.clipByValue(time, least, most);
  }

  /** Each head's features times a number of its own. @param x [tokens, heads·headDim] @param factors [tokens or 1, heads] */
  private perHead(x: tf.Tensor2D, factors: tf.Tensor2D): tf.Tensor2D {
    const { heads, headDim } = this.config;
    return tf.reshape(tf.mul(tf.reshape(x, [x.shape[0], heads, headDim]), tf.expandDims(factors, 2)), x.shape);
  }

  /** silu, whatever hidden_act is. */
  private gated(gate: tf.Tensor2D, x: tf.Tensor2D): tf.Tensor2D {
    const { norm } = this;
    if (!norm) return swiglu(gate, x);
    const { groups = 1, beforeGate = false } = this.options.norm ?? {};
    return beforeGate ? swiglu(gate, norm.applyInGroups(x, groups)) : norm.applyInGroups(swiglu(gate, x), groups);
  }
}
