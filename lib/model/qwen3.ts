/**
 * Qwen3 (Qwen team 2025): Llama with a normalization of each head's queries and keys, and heads of a size of their own; of Qwen3-MoE, experts are in
 * the place of the MLP.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, readModelConfig, readPaddingIdx, readQwenWindows } from './config';
import type { Origin } from './decoder';
import { type ExpertsConfig, keyOfCount, readExperts } from './experts';
import type { ParameterList, RmsNorm } from './layers';
import { PreNormBlock, type PreNormConfig } from './pre-norm-block';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import type { Attend } from './types';

export interface Qwen3Config extends PreNormConfig {
  readonly attentionBias: boolean;
  /** Of each layer: whether its queries and keys turn with their positions. Default: all do. */
  readonly rotaryLayers?: readonly boolean[];
}

export function readQwen3Config(reader: ConfigReader): Qwen3Config {
  const common = readModelConfig(reader, 'qwen3', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 32768,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const headDim = reader.count('head_dim', 128);
  const rope = readRope(reader, headDim, common.maxPositionEmbeddings);
  return {
    ...common,
    headDim,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    rope,
    attentionBias: reader.boolean('attention_bias', false),
    windows: readQwenWindows(reader, common.numHiddenLayers),
  };
}

/** Of Qwen3-MoE, all of whose layers have the window, if any has. */
export function readQwen3MoeConfig(reader: ConfigReader): Qwen3Config {
  const { num_attention_heads: heads, hidden_size: features } = reader.raw;
  const head_dim = reader.get('head_dim') ?? Number(features) / Number(heads);
  const config = readQwen3Config(new ConfigReader({ ...reader.raw, head_dim, max_window_layers: 0, layer_types: null }, reader.place));
  const defaults = { key: keyOfCount(reader), fallback: 128, perToken: 8, intermediateSize: 768 };
  const experts = readQwenExperts(reader, config.numHiddenLayers, defaults);
  return { ...config, family: 'qwen3_moe', raw: reader.raw, experts };
}

/** Of Qwen2-MoE, too. @param defaults as `readExperts` takes them, with the hidden features of each expert */
export function readQwenExperts(
  reader: ConfigReader,
  layers: number,
  { intermediateSize, ...counts }: { key: string; fallback: number; perToken: number; intermediateSize: number },
): ExpertsConfig {
  const step = reader.count('decoder_sparse_step', 1);
  const withMlp = reader.get('mlp_only_layers') ?? [];
  if (!Array.isArray(withMlp) || !withMlp.every(Number.isInteger))
    throw reader.wrong('mlp_only_layers', withMlp, 'a list of the numbers of layers');
  return {
    ...readExperts(reader, counts),
    normalized: reader.boolean('norm_topk_prob', false),
    intermediateSize: reader.count('moe_intermediate_size', intermediateSize),
    layers: Array.from({ length: layers }, (_, layer) => !withMlp.includes(layer) && (layer + 1) % step === 0),
  };
}

/** Of EXAONE 4, too. */
export class Attention {
  private readonly projections: AttentionProjections;
  private readonly qNorm: RmsNorm;
  private readonly kNorm: RmsNorm;

  constructor(
    private readonly config: Qwen3Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, attentionBias: bias } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    this.qNorm = parameters.rmsNorm(`${name}.q_norm`, headDim, config.rmsNormEps);
    this.kNorm = parameters.rmsNorm(`${name}.k_norm`, headDim, config.rmsNormEps);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, windows, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = this.turned(this.qNorm.applyToHeads(q, heads), angles, heads);
    const turnedK = this.turned(this.kNorm.applyToHeads(k, kvHeads), angles, kvHeads);
    const options = { heads, kvHeads, scale: headDim ** -0.5, window: windows[this.layer], dropout };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
  }

  private turned(x: tf.Tensor2D, { cos, sin }: RotaryAngles, heads: number): tf.Tensor2D {
    return (this.config.rotaryLayers?.[this.layer] ?? true) ? rotary(x, cos, sin, heads) : x;
  }
}

class Block extends PreNormBlock<Qwen3Config> {
  constructor(config: Qwen3Config, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Qwen3 extends RotaryDecoder<Qwen3Config> {
  constructor(config: Qwen3Config, origin: Origin) {
    super(config, origin, Block);
  }
}
