/**
 * Qwen3.5 (Qwen team 2026), its language model: most layers keep a state by the gated delta rule in the place of keys and values; in the others
 * tokens attend, with normalized queries and keys, and a gate on what they have seen.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, rmsNorm, rotary, swiglu } from '../engine';
import { ConfigReader, checkLayerTypes, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import type { Linear, Parameter, ParameterList, RmsNorm } from './layers';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import { ShortConvolution } from './short-convolution';
import type { ForwardPass } from './types';

export type Qwen35LayerType = 'full_attention' | 'linear_attention';

export interface Qwen35Config extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
  readonly layerTypes: readonly Qwen35LayerType[];
  /** Of the layers that keep a state. */
  readonly linear: {
    /** How many tokens the convolution before it reads, the own one included. */
    readonly taps: number;
    readonly keyHeads: number;
    readonly valueHeads: number;
    readonly keyDim: number;
    readonly valueDim: number;
  };
}

export function readQwen35Config(reader: ConfigReader): Qwen35Config {
  const { raw, place } = reader;
  const common = readModelConfig(new ConfigReader({ num_key_value_heads: 4, ...raw }, place), 'qwen3_5', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 32768,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const headDim = reader.count('head_dim', 256);
  const rope = readRope(reader, headDim, common.maxPositionEmbeddings, { partialRotaryFactor: 0.25 });
  const keyHeads = reader.count('linear_num_key_heads', 16);
  const valueHeads = reader.count('linear_num_value_heads', 32);
  if (valueHeads % keyHeads !== 0)
    throw reader.wrong('linear_num_value_heads', valueHeads, `a multiple of linear_num_key_heads, which is ${keyHeads}`);
  const layerTypes = readLayerTypes(reader, common.numHiddenLayers);
  return {
    ...common,
    raw,
    // a decay for each state
    wordsOfLoading: valueHeads * layerTypes.filter((type) => type === 'linear_attention').length,
    headDim,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    keepsState: true,
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    norms: 'around one',
    rope,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionBias: reader.boolean('attention_bias', false),
    layerTypes,
    linear: {
      taps: reader.count('linear_conv_kernel_dim', 4),
      keyHeads,
      valueHeads,
      keyDim: reader.count('linear_key_head_dim', 128),
      valueDim: reader.count('linear_value_head_dim', 128),
    },
  };
}

function readLayerTypes(reader: ConfigReader, layers: number): Qwen35LayerType[] {
  const interval = reader.count('full_attention_interval', 4);
  const types =
    reader.get('layer_types') ??
    Array.from({ length: layers }, (_, layer) => ((layer + 1) % interval === 0 ? 'full_attention' : 'linear_attention'));
  return checkLayerTypes(reader, types, ['full_attention', 'linear_attention'], layers);
}

class Attention {
  /** Of each head the query, and then the gate. */
  private readonly qProj: Linear;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly oProj: Linear;
  private readonly qNorm: RmsNorm;
  private readonly kNorm: RmsNorm;

  constructor(
    private readonly config: Qwen35Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, headDim, attentionBias: bias, rmsNormEps } = config;
    const queries = config.numAttentionHeads * headDim;
    const keys = config.numKeyValueHeads * headDim;
    this.qProj = parameters.linear(`${name}.q_proj`, { in: hiddenSize, out: 2 * queries, bias });
    this.kProj = parameters.linear(`${name}.k_proj`, { in: hiddenSize, out: keys, bias });
    this.vProj = parameters.linear(`${name}.v_proj`, { in: hiddenSize, out: keys, bias });
    this.oProj = parameters.linear(`${name}.o_proj`, { in: queries, out: hiddenSize, bias });
    this.qNorm = parameters.rmsNormAroundOne(`${name}.q_norm`, headDim, rmsNormEps);
    this.kNorm = parameters.rmsNormAroundOne(`${name}.k_norm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const { layer } = this;
    const [tokens, width] = [x.shape[0], heads * headDim];
    const halves = tf.split(tf.reshape(this.qProj.apply(x), [tokens, heads, 2 * headDim]), 2, 2);
    const [query, gate] = halves.map((half) => tf.reshape(half, [tokens, width]) as tf.Tensor2D);
    const q = rotary(this.qNorm.applyToHeads(query, heads), cos, sin, heads);
    const k = rotary(this.kNorm.applyToHeads(this.kProj.apply(x), kvHeads), cos, sin, kvHeads);
    const seen = attend(layer, q, k, this.vProj.apply(x), { heads, kvHeads, scale: headDim ** -0.5, dropout });
    return this.oProj.apply(tf.mul(seen, tf.sigmoid(carry(layer, gate))));
  }
}

/** What is added to the squares of a query or key before it is brought to length 1. */
const LENGTH_EPS = 1e-6;

/** A layer that keeps a state: a short convolution makes queries, keys and values, and two small projections say how the state decays and learns. */
class GatedDeltaNet {
  private readonly inProjQkv: Linear;
  private readonly inProjZ: Linear;
  private readonly inProjB: Linear;
  private readonly inProjA: Linear;
  private readonly convolution: ShortConvolution;
  private readonly dtBias: Parameter<tf.Rank.R1>;
  private readonly aLog: Parameter<tf.Rank.R1>;
  private readonly norm: RmsNorm;
  private readonly outProj: Linear;

  constructor(
    private readonly config: Qwen35Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, rmsNormEps, linear } = config;
    const { valueHeads, valueDim, taps } = linear;
    const [keys, values] = [linear.keyHeads * linear.keyDim, valueHeads * valueDim];
    this.dtBias = parameters.declare<tf.Rank.R1>(`${name}.dt_bias`, [valueHeads], 'ones');
    this.aLog = parameters.declare<tf.Rank.R1>(`${name}.A_log`, [valueHeads], 'decay');
    this.convolution = new ShortConvolution(parameters, `${name}.conv1d`, { features: 2 * keys + values, taps, bias: false });
    this.norm = parameters.rmsNorm(`${name}.norm`, valueDim, rmsNormEps);
    this.outProj = parameters.linear(`${name}.out_proj`, { in: values, out: hiddenSize, bias: false });
    this.inProjQkv = parameters.linear(`${name}.in_proj_qkv`, { in: hiddenSize, out: 2 * keys + values, bias: false });
    this.inProjZ = parameters.linear(`${name}.in_proj_z`, { in: hiddenSize, out: values, bias: false });
    this.inProjB = parameters.linear(`${name}.in_proj_b`, { in: hiddenSize, out: valueHeads, bias: false });
    this.inProjA = parameters.linear(`${name}.in_proj_a`, { in: hiddenSize, out: valueHeads, bias: false });
  }

  apply(x: tf.Tensor2D, { convolve, recur, carry }: ForwardPass): tf.Tensor2D {
    const { config, layer } = this;
    const { keyHeads, valueHeads, keyDim, valueDim } = config.linear;
    const mixed = activation(config.hiddenAct, this.convolution.apply(layer, this.inProjQkv.apply(x), convolve));
    const [q, k, v] = tf.split<tf.Tensor2D>(mixed, [keyHeads * keyDim, keyHeads * keyDim, valueHeads * valueDim], 1);
    // in the order of transformers' class, as what an adapter drops of their inputs is drawn in that order
    const gate = this.inProjZ.apply(carry(layer, x));
    const beta = tf.sigmoid(this.inProjB.apply(x));
    const operands = { q: ofLength(keyDim ** -0.5, q, keyDim), k: ofLength(1, k, keyDim), v, g: this.decay(x), beta };
    const read = recur(layer, operands, { keyHeads, valueHeads });
    // silu, whatever hidden_act is
    return this.outProj.apply(swiglu(gate, this.norm.applyToHeads(read, valueHeads)));
  }

  /** −e^A · softplus(a + bias), [tokens, heads]. */
  private decay(x: tf.Tensor2D): tf.Tensor2D {
    const time = tf.softplus(tf.add(this.inProjA.apply(x), this.dtBias.tensor));
    return tf.mul(time, tf.neg(tf.exp(this.aLog.tensor)));
  }
}

/** Each head of the rows brought to one length; to almost that if it is small. */
function ofLength(length: number, x: tf.Tensor2D, headDim: number): tf.Tensor2D {
  const [tokens, features] = x.shape;
  const heads = tf.reshape(x, [tokens, features / headDim, headDim]);
  // a root mean square of 1 is the length √headDim
  const weight = tf.fill([headDim], length / Math.sqrt(headDim)) as tf.Tensor1D;
  return tf.reshape(rmsNorm(heads, weight, LENGTH_EPS / headDim), [tokens, features]);
}

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly mixer: Attention | GatedDeltaNet;
  private readonly postAttentionNorm: RmsNorm;
  private readonly mlp: GatedMlp;

  constructor(
    config: Qwen35Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const { hiddenSize, rmsNormEps } = config;
    this.mixer =
      config.layerTypes[layer] === 'full_attention'
        ? new Attention(config, layer, parameters, `${name}.self_attn`)
        : new GatedDeltaNet(config, layer, parameters, `${name}.linear_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.inputNorm = parameters.rmsNormAroundOne(`${name}.input_layernorm`, hiddenSize, rmsNormEps);
    this.postAttentionNorm = parameters.rmsNormAroundOne(`${name}.post_attention_layernorm`, hiddenSize, rmsNormEps);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const normalized = this.inputNorm.apply(x);
    const mixed = this.mixer instanceof Attention ? this.mixer.apply(normalized, angles, pass) : this.mixer.apply(normalized, pass);
    const summed: tf.Tensor2D = tf.add(pass.carry(this.layer, x), mixed);
    return tf.add(summed, this.mlp.apply(this.postAttentionNorm.apply(summed)));
  }
}

export class Qwen35 extends RotaryDecoder<Qwen35Config> {
  constructor(config: Qwen35Config, origin: Origin) {
    super(config, origin, Block);
  }
}
