/**
 * Hunyuan (Tencent 2025), the dense models: Llama with a normalization of each head's queries and keys after they turned with their positions,
 * and angles whose base grew by a power of `alpha` for longer texts.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import type { Linear, ParameterList, RmsNorm } from './layers';
import { type RopeConfig, type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

export interface HunYuanConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
}

export function readHunYuanConfig(reader: ConfigReader): HunYuanConfig {
  const raw = { eos_token_id: 2, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'hunyuan_v1_dense', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readGrownRope(reader, common.headDim, common.maxPositionEmbeddings);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    attentionBias: reader.boolean('attention_bias', false),
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
  };
}

/**
 * RoPE, whose type `dynamic` is none where there is an `alpha`: the base has grown once, as for texts `alpha` times as long ("NTK-aware scaled
 * RoPE"; bloc97 2023), and does not with the text.
 */
function readGrownRope(reader: ConfigReader, headDim: number, maxPositionEmbeddings: number): RopeConfig {
  const rope = readRope(reader, headDim, maxPositionEmbeddings);
  const own = reader.object('rope_scaling') ?? reader.object('rope_parameters');
  if (rope.type !== 'dynamic' || own?.get('alpha') === undefined) return rope;
  const theta = rope.theta * own.positive('alpha') ** (headDim / (headDim - 2));
  return { ...rope, type: 'default', theta, factor: 1 };
}

class Attention {
  private readonly qProj: Linear;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly oProj: Linear;
  private readonly queryNorm: RmsNorm;
  private readonly keyNorm: RmsNorm;

  constructor(
    private readonly config: HunYuanConfig,
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
    this.queryNorm = parameters.rmsNorm(`${name}.query_layernorm`, headDim, rmsNormEps);
    this.keyNorm = parameters.rmsNorm(`${name}.key_layernorm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const q = this.queryNorm.applyToHeads(rotary(this.qProj.apply(x), cos, sin, heads), heads);
    const k = this.keyNorm.applyToHeads(rotary(this.kProj.apply(x), cos, sin, kvHeads), kvHeads);
    const v = this.vProj.apply(x);
    return this.oProj.apply(attend(this.layer, q, k, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: RmsNorm;
  private readonly mlp: GatedMlp;

  constructor(
    config: HunYuanConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    this.inputNorm = parameters.rmsNorm(`${name}.input_layernorm`, config.hiddenSize, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.postAttentionNorm = parameters.rmsNorm(`${name}.post_attention_layernorm`, config.hiddenSize, config.rmsNormEps);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, attend);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, this.mlp.apply(this.postAttentionNorm.apply(attended)));
  }
}

export class HunYuan extends RotaryDecoder<HunYuanConfig> {
  constructor(config: HunYuanConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
