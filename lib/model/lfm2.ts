/**
 * LFM2 (Liquid AI 2025): in some layers tokens attend, with normalized queries and keys; in the others each reads its nearest neighbours by a
 * short convolution between two gates. Of LFM2-MoE (lfm2-moe.ts reads its configuration), all but the first layers have experts in the place of the
 * MLP.
 */
import * as tf from '@tensorflow/tfjs-core';
import { rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, checkLayerTypes, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { Experts, namesOfExperts } from './experts';
import { GatedMlp } from './gated-mlp';
import type { Linear, ParameterList, RmsNorm } from './layers';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import { ShortConvolution } from './short-convolution';
import type { Attend, Family, ForwardPass } from './types';

export type Lfm2LayerType = 'full_attention' | 'conv';

export interface Lfm2Config extends RotaryConfig {
  readonly layerTypes: readonly Lfm2LayerType[];
  /** How many tokens a convolution reads, the own one included. */
  readonly taps: number;
  /** Biases on convolutions, and on the projections around them. */
  readonly convBias: boolean;
}

export function readLfm2Config(reader: ConfigReader): Lfm2Config {
  const { raw, place } = reader;
  // the older name counts before the usual one
  const filled = { intermediate_size: 12288, ...raw, ...('block_ff_dim' in raw && { intermediate_size: raw.block_ff_dim }) };
  const config = readConvolvingConfig(new ConfigReader(filled, place), 'lfm2');
  return {
    ...config,
    raw,
    intermediateSize: readWidth(reader, config.intermediateSize),
    layerTypes: readLayerTypes(reader, config.numHiddenLayers),
  };
}

/** What LFM2 and LFM2-MoE read alike: all but which layer does what, and how wide its MLP is. */
export function readConvolvingConfig(reader: ConfigReader, family: Family): Omit<Lfm2Config, 'layerTypes'> {
  const { raw, place } = reader;
  const filled = {
    ...{ num_key_value_heads: 8, eos_token_id: 2 },
    ...raw,
    // the older name counts before the usual one
    ...('tie_embedding' in raw && { tie_word_embeddings: raw.tie_embedding }),
    // the class has none
    attention_dropout: 0,
  };
  const common = readModelConfig(new ConfigReader(filled, place), family, {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 128000,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { theta: 1e6 });
  return {
    ...common,
    raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    rmsNormEps: reader.notNegative('norm_eps', 1e-5),
    rope,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    taps: reader.count('conv_L_cache', 3),
    convBias: reader.boolean('conv_bias', false),
  };
}

/** Of the MLP: two thirds of what the configuration says, times a factor, up to a multiple. */
function readWidth(reader: ConfigReader, size: number): number {
  if (!reader.boolean('block_auto_adjust_ff_dim', true)) return size;
  const width = Math.trunc(reader.positive('block_ffn_dim_multiplier', 1) * Math.trunc((2 * size) / 3));
  const multiple = reader.count('block_multiple_of', 256);
  return multiple * Math.ceil(width / multiple);
}

function readLayerTypes(reader: ConfigReader, layers: number): Lfm2LayerType[] {
  return checkLfm2LayerTypes(reader, reader.get('layer_types') ?? typesOf(reader.get('full_attn_idxs'), layers), layers);
}

/** @throws UserError when it is not one of the two for each layer */
export function checkLfm2LayerTypes(reader: ConfigReader, types: unknown, layers: number): Lfm2LayerType[] {
  return checkLayerTypes(reader, types, ['full_attention', 'conv'], layers);
}

/** @param attending the layers whose tokens attend; default: all */
function typesOf(attending: unknown, layers: number): unknown {
  const isNamed = (layer: number): boolean => !Array.isArray(attending) || attending.includes(layer);
  return Array.from({ length: layers }, (_, layer) => (isNamed(layer) ? 'full_attention' : 'conv'));
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly qNorm: RmsNorm;
  private readonly kNorm: RmsNorm;

  constructor(
    private readonly config: Lfm2Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, rmsNormEps } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: false, outputBias: false, outputName: 'out_proj' });
    this.qNorm = parameters.rmsNorm(`${name}.q_layernorm`, headDim, rmsNormEps);
    this.kNorm = parameters.rmsNorm(`${name}.k_layernorm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(this.qNorm.applyToHeads(q, heads), cos, sin, heads);
    const turnedK = rotary(this.kNorm.applyToHeads(k, kvHeads), cos, sin, kvHeads);
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

/** out(c · conv(b · x)), where b, c and x are projections. */
class GatedConvolution {
  private readonly convolution: ShortConvolution;
  private readonly inProj: Linear;
  private readonly outProj: Linear;

  constructor(
    { hiddenSize, taps, convBias: bias }: Lfm2Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    this.convolution = new ShortConvolution(parameters, `${name}.conv`, { features: hiddenSize, taps, bias });
    this.inProj = parameters.linear(`${name}.in_proj`, { in: hiddenSize, out: 3 * hiddenSize, bias });
    this.outProj = parameters.linear(`${name}.out_proj`, { in: hiddenSize, out: hiddenSize, bias });
  }

  apply(x: tf.Tensor2D, { convolve, carry }: ForwardPass): tf.Tensor2D {
    const { layer } = this;
    const [b, c, own] = tf.split<tf.Tensor2D>(this.inProj.apply(x), 3, 1);
    const mixed = this.convolution.apply(layer, tf.mul(b, own), convolve);
    return this.outProj.apply(tf.mul(carry(layer, c), carry(layer, mixed)));
  }
}

class Block {
  private readonly attention?: Attention;
  private readonly convolution?: GatedConvolution;
  private readonly mlp: GatedMlp | Experts;
  private readonly operatorNorm: RmsNorm;
  private readonly ffnNorm: RmsNorm;

  constructor(
    config: Lfm2Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const { hiddenSize, intermediateSize, experts, family, rmsNormEps } = config;
    const name = `model.layers.${layer}`;
    if (config.layerTypes[layer] === 'full_attention') this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    else this.convolution = new GatedConvolution(config, layer, parameters, `${name}.conv`);
    const names = { gate: 'w1', up: 'w3', down: 'w2' };
    const mlp = `${name}.feed_forward`;
    this.mlp = experts?.layers[layer]
      ? new Experts({ ...experts, hiddenSize }, layer, parameters, namesOfExperts(mlp, family))
      : new GatedMlp(parameters, mlp, { hiddenSize, intermediateSize, hiddenAct: 'silu', bias: false, names });
    this.operatorNorm = parameters.rmsNorm(`${name}.operator_norm`, hiddenSize, rmsNormEps);
    this.ffnNorm = parameters.rmsNorm(`${name}.ffn_norm`, hiddenSize, rmsNormEps);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const mixed = this.mixed(this.operatorNorm.apply(x), angles, pass);
    const summed: tf.Tensor2D = tf.add(pass.carry(this.layer, x), mixed);
    return tf.add(summed, this.mlp.apply(this.ffnNorm.apply(summed), pass));
  }

  private mixed(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    return this.attention ? this.attention.apply(x, angles, pass.attend) : (this.convolution as GatedConvolution).apply(x, pass);
  }
}

export class Lfm2 extends RotaryDecoder<Lfm2Config> {
  constructor(config: Lfm2Config, origin: Origin) {
    super(config, origin, Block, { norm: 'model.embedding_norm' });
  }
}
