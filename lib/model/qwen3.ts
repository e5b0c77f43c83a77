/** Qwen3 (Qwen team 2025): Llama with a normalization of each head's queries and keys, and heads of a size of their own. */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { type ConfigReader, readModelConfig, readPaddingIdx, readQwenWindows } from './config';
import type { Origin } from './decoder';
import type { ParameterList, RmsNorm } from './layers';
import { PreNormBlock } from './pre-norm-block';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend } from './types';

export interface Qwen3Config extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
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

class Attention {
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

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, windows, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(this.qNorm.applyToHeads(q, heads), cos, sin, heads);
    const turnedK = rotary(this.kNorm.applyToHeads(k, kvHeads), cos, sin, kvHeads);
    const options = { heads, kvHeads, scale: headDim ** -0.5, window: windows[this.layer], dropout };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
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
