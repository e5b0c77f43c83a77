/**
 * Hunyuan (Tencent 2025), the dense models: Llama with a normalization of each head's queries and keys after they turned with their positions,
 * and angles whose base grew by a power of `alpha` for longer texts.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import type { ParameterList, RmsNorm } from './layers';
import { PreNormBlock } from './pre-norm-block';
import { type RopeConfig, type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend } from './types';

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
  private readonly projections: AttentionProjections;
  private readonly queryNorm: RmsNorm;
  private readonly keyNorm: RmsNorm;

  constructor(
    private readonly config: HunYuanConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, attentionBias: bias, rmsNormEps } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    this.queryNorm = parameters.rmsNorm(`${name}.query_layernorm`, headDim, rmsNormEps);
    this.keyNorm = parameters.rmsNorm(`${name}.key_layernorm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = this.queryNorm.applyToHeads(rotary(q, cos, sin, heads), heads);
    const turnedK = this.keyNorm.applyToHeads(rotary(k, cos, sin, kvHeads), kvHeads);
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

class Block extends PreNormBlock<HunYuanConfig> {
  constructor(config: HunYuanConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class HunYuan extends RotaryDecoder<HunYuanConfig> {
  constructor(config: HunYuanConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
