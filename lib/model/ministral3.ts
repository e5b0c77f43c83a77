/**
 * Ministral 3 (Mistral AI 2025) is Mistral, but that YaRN stretches its positions, and that queries grow with theirs, once these are beyond the
 * texts of the pretraining, so that attention stays sharp in long ones (as in Llama 4; Nakanishi 2025, "Scalable-Softmax Is Superior for Attention").
 */
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { LlamaConfig } from './llama';
import { type RopeConfig, readRope, ropePositionLimit } from './rope';
import type { ModelConfig } from './types';

export function readMinistral3Config(reader: ConfigReader): LlamaConfig {
  const raw = { num_key_value_heads: 8, eos_token_id: 2, ...reader.raw, ...(reader.raw.head_dim === undefined && { head_dim: 128 }) };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'ministral3', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 262144,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readGrowingRope(reader, common);
  const window = reader.get('sliding_window') === undefined ? undefined : reader.count('sliding_window');
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 11),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    windows: new Array<number | undefined>(common.numHiddenLayers).fill(window),
    attentionScale: common.headDim ** -0.5,
  };
}

/** What its class in transformers takes where the configuration has no RoPE. */
const USUAL_ROPE = {
  ...{ type: 'yarn', rope_theta: 1e6, factor: 16, original_max_position_embeddings: 16384, beta_fast: 32, beta_slow: 1 },
  ...{ mscale: 1, mscale_all_dim: 1, llama_4_scaling_beta: 0.1 },
};

function readGrowingRope(reader: ConfigReader, { headDim, maxPositionEmbeddings }: ModelConfig): RopeConfig {
  const given = reader.object('rope_scaling') ?? reader.object('rope_parameters');
  const settled = given ? reader : new ConfigReader({ ...reader.raw, rope_parameters: USUAL_ROPE }, reader.place);
  const rope = readRope(settled, headDim, maxPositionEmbeddings, { types: ['default', 'linear', 'dynamic', 'llama3', 'yarn'] });
  const own = given ?? new ConfigReader(USUAL_ROPE, reader.place);
  const stretches = rope.type === 'yarn' || rope.type === 'llama3';
  const from = stretches ? rope.originalMaxPositions : own.count('original_max_position_embeddings');
  return { ...rope, queryGrowth: { by: own.notNegative('llama_4_scaling_beta'), from } };
}
