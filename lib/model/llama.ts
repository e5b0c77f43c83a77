/**
 * Llama (Touvron et al. 2023) and the models of its build: TinyLlama, SmolLM2, CodeLlama, Mistral (Llama with a sliding
 * window), Qwen2 (Llama with biases on queries, keys and values), Mixtral, Qwen2-MoE, SmolLM3, Ministral 3, ERNIE 4.5, the first OLMo and the first
 * Gemma (mixtral.ts, qwen2-moe.ts, smollm3.ts, ministral3.ts, ernie4-5.ts, olmo.ts and gemma1.ts read their configurations).
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections, type QueriesKeysValues } from './attention-projections';
import { type ConfigReader, readModelConfig, readPaddingIdx, readQwenWindows } from './config';
import type { Origin } from './decoder';
import type { ParameterList } from './layers';
import { PreNormBlock } from './pre-norm-block';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ModelConfig } from './types';

/** What its attention reads of a configuration. */
export interface RotaryAttentionConfig extends ModelConfig {
  /** Of each layer: whether its queries and keys turn with their positions. */
  readonly rotaryLayers: readonly boolean[];
  /** Whether the two features of a pair that turns lie side by side in a head, and not half of it apart. Default false. */
  readonly interleavedPairs?: boolean;
  /** Biases on the projections of queries, keys and values. */
  readonly qkvBias: boolean;
  /** Bias on the projection of the attention's output. */
  readonly outputBias: boolean;
  /** How far from 0 a number of queries, keys and values may be, where that is bounded. */
  readonly qkvClip?: number;
  /** What scores are multiplied by. */
  readonly attentionScale: number;
  /** Sliding window of each layer; undefined: the layer sees everything before it. */
  readonly windows: ReadonlyArray<number | undefined>;
}

export interface LlamaConfig extends RotaryConfig, RotaryAttentionConfig {
  readonly hiddenAct: Activation;
  readonly mlpBias: boolean;
}

export function readLlamaConfig(reader: ConfigReader): LlamaConfig {
  const modelType = reader.get('model_type');
  const common = readModelConfig(reader, 'llama', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: MAX_POSITIONS[String(modelType)] ?? 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  // keys of Llama's alone; others may carry them without a meaning
  const isLlama = modelType === 'llama';
  const attentionBias = isLlama && reader.boolean('attention_bias', false);
  return {
    ...common,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: modelType === 'qwen2' || attentionBias,
    outputBias: attentionBias,
    mlpBias: isLlama && reader.boolean('mlp_bias', false),
    windows: readWindows(reader, common.numHiddenLayers),
    attentionScale: common.headDim ** -0.5,
  };
}

/** `max_position_embeddings` where a configuration does not say. */
const MAX_POSITIONS: Record<string, number> = { mistral: 131072, qwen2: 32768 };

function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  if (reader.get('model_type') === 'qwen2') return readQwenWindows(reader, layers);
  if (reader.get('model_type') !== 'mistral' || reader.raw.sliding_window === null) return new Array<undefined>(layers).fill(undefined);
  const window = reader.count('sliding_window', 4096);
  // transformers reads a Mistral with such a list as Ministral, of which some layers see everything
  const types = reader.get('layer_types');
  return Array.from({ length: layers }, (_, layer) => (Array.isArray(types) && types[layer] !== 'sliding_attention' ? undefined : window));
}

/** Of Granite, Falcon-H1, StarCoder2, Cohere and GLM, too. */
export class Attention {
  private readonly projections: AttentionProjections;

  constructor(
    private readonly config: RotaryAttentionConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    this.projections = new AttentionProjections(parameters, name, config, config);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, attentionScale: scale, windows, attentionDropout: dropout } = this.config;
    const [q, k, v] = this.clipped(this.projections.apply(x));
    const [turnedQ, turnedK] = [grown(this.turned(q, angles, heads), angles), this.turned(k, angles, kvHeads)];
    const options = { heads, kvHeads, scale, window: windows[this.layer], dropout };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
  }

  private clipped({ q, k, v }: QueriesKeysValues): tf.Tensor2D[] {
    const { qkvClip: bound } = this.config;
    return bound === undefined ? [q, k, v] : [q, k, v].map((part) => tf.clipByValue(part, -bound, bound));
  }

  private turned(x: tf.Tensor2D, { cos, sin }: RotaryAngles, heads: number): tf.Tensor2D {
    const { rotaryLayers, interleavedPairs: interleaved } = this.config;
    return rotaryLayers[this.layer] ? rotary(x, cos, sin, heads, { interleaved }) : x;
  }
}

/** Queries, of which some may have grown with their positions. */
const grown = (q: tf.Tensor2D, { queryScale }: RotaryAngles): tf.Tensor2D => (queryScale ? tf.mul(q, queryScale) : q);

class Block extends PreNormBlock<LlamaConfig> {
  constructor(config: LlamaConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Llama extends RotaryDecoder<LlamaConfig> {
  constructor(config: LlamaConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
