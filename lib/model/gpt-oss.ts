/**
 * gpt-oss (OpenAI 2025): Llama with a sink for each head of attention (`attentionWithSinks`), windows in every other layer, and experts in the place
 * of the MLP (clamped-experts.ts).
 */
import type * as tf from '@tensorflow/tfjs-core';
import { rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { LIMIT } from './clamped-experts';
import { ConfigReader, readModelConfig, readPaddingIdx, readTypedWindows } from './config';
import type { Origin } from './decoder';
import { type ExpertsConfig, keyOfCount, readExperts } from './experts';
import type { Parameter, ParameterList } from './layers';
import { PreNormBlock, type PreNormConfig } from './pre-norm-block';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import type { Attend } from './types';

export interface GptOssConfig extends PreNormConfig {
  readonly attentionBias: boolean;
}

const DEFAULTS = { intermediate_size: 2880, num_key_value_heads: 8, head_dim: 64 };
/** How positions stretch where the configuration does not say. */
const YARN = {
  ...{ rope_type: 'yarn', factor: 32, beta_fast: 32, beta_slow: 1, truncate: false },
  original_max_position_embeddings: 4096,
};

export function readGptOssConfig(reader: ConfigReader): GptOssConfig {
  const { raw, place } = reader;
  const filled = new ConfigReader({ ...DEFAULTS, ...raw }, place);
  const common = readModelConfig(filled, 'gpt_oss', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 131072,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const { numHiddenLayers, headDim, vocabSize, attentionDropout } = common;
  if (attentionDropout > 0) throw reader.wrong('attention_dropout', attentionDropout, '0, as weights beside a sink are not dropped here');
  const limit = reader.positive('swiglu_limit', LIMIT);
  if (limit !== LIMIT) throw reader.wrong('swiglu_limit', limit, `${LIMIT}, as experts are clamped there in transformers, too`);
  const isStretched = [raw.rope_scaling, raw.rope_parameters].some((rope) => (rope ?? undefined) !== undefined);
  const rope = readRope(
    isStretched ? reader : new ConfigReader({ ...raw, rope_parameters: YARN }, place),
    headDim,
    common.maxPositionEmbeddings,
    {
      theta: 150000,
      types: ['default', 'linear', 'dynamic', 'llama3', 'yarn'],
    },
  );
  return {
    ...common,
    raw,
    hiddenAct: 'silu',
    paddingIdx: readPaddingIdx(reader, vocabSize),
    positionLimit: ropePositionLimit(rope),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    attentionBias: reader.boolean('attention_bias', true),
    windows: readTypedWindows(
      reader,
      numHiddenLayers,
      (layer) => layer % 2 === 0,
      () => reader.count('sliding_window', 128),
    ),
    experts: readClampedExperts(reader, common),
  };
}

function readClampedExperts(
  reader: ConfigReader,
  { numHiddenLayers, intermediateSize }: Pick<GptOssConfig, 'numHiddenLayers' | 'intermediateSize'>,
): ExpertsConfig {
  // the class has an activation of its own, whatever the configuration says
  const ofOwn = new ConfigReader({ ...reader.raw, hidden_act: 'silu' }, reader.place);
  return {
    ...readExperts(ofOwn, { key: keyOfCount(reader), fallback: 128, perToken: 4 }),
    normalized: true,
    clamped: true,
    intermediateSize,
    layers: new Array<boolean>(numHiddenLayers).fill(true),
  };
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly sinks: Parameter<tf.Rank.R1>;

  constructor(
    private readonly config: GptOssConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { attentionBias: bias, numAttentionHeads } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    this.sinks = parameters.declare<tf.Rank.R1>(`${name}.sinks`, [numAttentionHeads], 'normal');
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, windows, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const [turnedQ, turnedK] = [rotary(q, cos, sin, heads), rotary(k, cos, sin, kvHeads)];
    const options = { heads, kvHeads, scale: headDim ** -0.5, window: windows[this.layer], dropout, sinks: this.sinks.tensor };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
  }
}

class Block extends PreNormBlock<GptOssConfig> {
  constructor(config: GptOssConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class GptOss extends RotaryDecoder<GptOssConfig> {
  constructor(config: GptOssConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
