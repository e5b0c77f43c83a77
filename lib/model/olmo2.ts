/**
 * OLMo 2 (Walsh et al. 2025, "2 OLMo 2 Furious"): Llama with queries and keys that are normalized over all their heads together, and norms
 * behind its sublayers in the place of those before them. OLMo 3 (Ai2 2025) is OLMo 2, but that most of its layers see a sliding window, and
 * YaRN stretches the positions of the others.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import type { ParameterList, RmsNorm } from './layers';
import { PostNormBlock } from './post-norm-block';
import { type RopeConfig, type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ModelConfig } from './types';

export interface Olmo2Config extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
  /** Of those with a sliding window, in OLMo 3. */
  readonly slidingRope?: RopeConfig;
}

export function readOlmo2Config(reader: ConfigReader): Olmo2Config {
  const raw = { eos_token_id: 50279, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'olmo2', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const isOlmo3 = common.modelType === 'olmo3';
  const rope = isOlmo3 ? readLayersRope(reader, 'full_attention', common) : readRope(reader, common.headDim, common.maxPositionEmbeddings);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 1),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    attentionBias: reader.boolean('attention_bias', false),
    rope,
    slidingRope: isOlmo3 ? readLayersRope(reader, 'sliding_attention', common) : undefined,
    windows: Array.from({ length: common.numHiddenLayers }, (_, layer) => (isOlmo3 ? readWindow(reader, layer) : undefined)),
  };
}

/** The angles of one kind of OLMo 3's layers. Older keys are those of the layers that see everything. */
function readLayersRope(reader: ConfigReader, kind: 'full_attention' | 'sliding_attention', common: ModelConfig): RopeConfig {
  const { rope_theta, rope_scaling } = kind === 'full_attention' ? reader.raw : {};
  const own = reader.object('rope_parameters')?.object(kind)?.raw ?? { rope_type: 'default' };
  const parameters = { rope_theta: rope_theta ?? 500000, ...own, ...(rope_scaling ?? {}) };
  return readRope(new ConfigReader({ rope_parameters: parameters }, reader.place), common.headDim, common.maxPositionEmbeddings, {
    types: ['default', 'linear', 'dynamic', 'llama3', 'yarn'],
  });
}

function readWindow(reader: ConfigReader, layer: number): number | undefined {
  const types = reader.get('layer_types');
  const slides = Array.isArray(types) ? types[layer] === 'sliding_attention' : (layer + 1) % 4 !== 0;
  return slides ? reader.count('sliding_window', 4096) : undefined;
}

/** Of OLMoE, too. */
export class Attention {
  private readonly projections: AttentionProjections;
  private readonly qNorm: RmsNorm;
  private readonly kNorm: RmsNorm;

  constructor(
    private readonly config: Olmo2Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionBias: bias, rmsNormEps } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    this.qNorm = parameters.rmsNorm(`${name}.q_norm`, heads * headDim, rmsNormEps);
    this.kNorm = parameters.rmsNorm(`${name}.k_norm`, kvHeads * headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, windows, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(this.qNorm.apply(q), cos, sin, heads);
    const turnedK = rotary(this.kNorm.apply(k), cos, sin, kvHeads);
    const options = { heads, kvHeads, scale: headDim ** -0.5, window: windows[this.layer], dropout };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
  }
}

class Block extends PostNormBlock<Olmo2Config> {
  constructor(config: Olmo2Config, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Olmo2 extends RotaryDecoder<Olmo2Config> {
  constructor(config: Olmo2Config, origin: Origin) {
    super(config, origin, Block);
  }
}
