/**
 * Gemma 3 (Gemma team 2025), the models that read text alone: most layers see a sliding window, every sixth everything, each kind with
 * angles of its own; queries and keys are normalized.
 */
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { GemmaConfig } from './gemma';
import { type RopeConfig, readRope, ropePositionLimit } from './rope';
import type { ModelConfig } from './types';

export interface Gemma3Config extends GemmaConfig {
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
    norms: 'around one',
    embeddingScale: Math.sqrt(common.hiddenSize),
    attentionBias: reader.boolean('attention_bias', false),
    attentionScale: reader.positive('query_pre_attn_scalar', 256) ** -0.5,
    normalizesHeads: true,
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
