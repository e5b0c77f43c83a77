/**
 * Gemma 3 (Gemma team 2025), the models that read text alone: most layers see a sliding window, every sixth everything, each kind with
 * angles of its own; heads are normalized, and what a sublayer has computed is, too, before it is added.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import type { Linear, ParameterList, RmsNorm } from './layers';
import { type RopeConfig, type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ForwardPass, ModelConfig } from './types';

export interface Gemma3Config extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
  /** What scores are multiplied by. */
  readonly attentionScale: number;
  /** Of those with a sliding window. */
  readonly slidingRope: RopeConfig;
}

export function readGemma3Config(reader: ConfigReader): Gemma3Config {
  const raw = { num_key_value_heads: 4, head_dim: 256, eos_token_id: 1, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'gemma3', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 131072,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  for (const key of ['final_logit_softcapping', 'attn_logit_softcapping', 'use_bidirectional_attention']) {
    const value = reader.get(key) ?? false;
    if (value !== false) throw reader.wrong(key, value, 'null, as in the Gemma 3 models for text');
  }
  const rope = readLayersRope(reader, 'full_attention', common);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_activation', 'gelu_pytorch_tanh'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    normsAroundOne: true,
    embeddingScale: Math.sqrt(common.hiddenSize),
    attentionBias: reader.boolean('attention_bias', false),
    attentionScale: reader.positive('query_pre_attn_scalar', 256) ** -0.5,
    rope,
    slidingRope: readLayersRope(reader, 'sliding_attention', common),
    windows: readWindows(reader, common.numHiddenLayers),
  };
}

/** The angles of one kind of layers. Both spellings: `rope_parameters` of transformers 5, with an object for each kind, and the older keys. */
function readLayersRope(reader: ConfigReader, kind: 'full_attention' | 'sliding_attention', common: ModelConfig): RopeConfig {
  const { rope_theta = 1e6, rope_local_base_freq = 1e4, rope_scaling } = reader.raw;
  const older = kind === 'full_attention' ? { rope_theta, ...(rope_scaling ?? {}) } : { rope_theta: rope_local_base_freq };
  const newer = reader.object('rope_parameters')?.object(kind)?.raw;
  const parameters = new ConfigReader({ rope_parameters: { ...older, ...newer } }, reader.place);
  return readRope(parameters, common.headDim, common.maxPositionEmbeddings);
}

function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  const window = reader.count('sliding_window', 4096);
  const pattern = reader.count('sliding_window_pattern', 6);
  const types = reader.get('layer_types');
  return Array.from({ length: layers }, (_, layer) => {
    const slides = Array.isArray(types) ? types[layer] === 'sliding_attention' : (layer + 1) % pattern !== 0;
    return slides ? window : undefined;
  });
}

class Attention {
  private readonly qProj: Linear;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly oProj: Linear;
  private readonly qNorm: RmsNorm;
  private readonly kNorm: RmsNorm;

  constructor(
    private readonly config: Gemma3Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, headDim, attentionBias: bias, rmsNormEps } = config;
    const queries = config.numAttentionHeads * headDim;
    const keys = config.numKeyValueHeads * headDim;
    this.qProj = parameters.linear(`${name}.q_proj`, { in: hiddenSize, out: queries, bias });
    this.kProj = parameters.linear(`${name}.k_proj`, { in: hiddenSize, out: keys, bias });
    this.vProj = parameters.linear(`${name}.v_proj`, { in: hiddenSize, out: keys, bias });
    this.oProj = parameters.linear(`${name}.o_proj`, { in: queries, out: hiddenSize, bias });
    this.qNorm = parameters.rmsNormAroundOne(`${name}.q_norm`, headDim, rmsNormEps);
    this.kNorm = parameters.rmsNormAroundOne(`${name}.k_norm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, attentionScale: scale, windows, attentionDropout: dropout } = this.config;
    const q = rotary(this.qNorm.applyToHeads(this.qProj.apply(x), heads), cos, sin, heads);
    const k = rotary(this.kNorm.applyToHeads(this.kProj.apply(x), kvHeads), cos, sin, kvHeads);
    const v = this.vProj.apply(x);
    return this.oProj.apply(attend(this.layer, q, k, v, { heads, kvHeads, scale, window: windows[this.layer], dropout }));
  }
}

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: RmsNorm;
  private readonly preFeedforwardNorm: RmsNorm;
  private readonly mlp: GatedMlp;
  private readonly postFeedforwardNorm: RmsNorm;

  constructor(
    config: Gemma3Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const norm = (which: string): RmsNorm => parameters.rmsNormAroundOne(`${name}.${which}`, config.hiddenSize, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.inputNorm = norm('input_layernorm');
    this.postAttentionNorm = norm('post_attention_layernorm');
    this.preFeedforwardNorm = norm('pre_feedforward_layernorm');
    this.postFeedforwardNorm = norm('post_feedforward_layernorm');
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, attend);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.postAttentionNorm.apply(mixed));
    const computed = this.mlp.apply(this.preFeedforwardNorm.apply(attended));
    return tf.add(attended, this.postFeedforwardNorm.apply(computed));
  }
}

export class Gemma3 extends RotaryDecoder<Gemma3Config> {
  constructor(config: Gemma3Config, origin: Origin) {
    super(config, origin, Block);
  }
}
