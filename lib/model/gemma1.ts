/**
 * The first Gemma (Gemma team 2024, "Gemma: Open Models Based on Gemini Research and Technology") is Llama, but that embeddings are multiplied by
 * the square root of their width, checkpoints hold the weights of norms as what they differ from 1 by, and GELU is in the place of SiLU.
 */
import { ConfigReader, readModelConfig, readPaddingIdx, refuseLookingAhead } from './config';
import type { LlamaConfig } from './llama';
import { readRope, ropePositionLimit } from './rope';

export function readGemma1Config(reader: ConfigReader): LlamaConfig {
  const raw = { num_key_value_heads: 16, head_dim: 256, eos_token_id: 1, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'gemma', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 8192,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  refuseLookingAhead(reader);
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const activation = reader.activation('hidden_act', 'gelu_pytorch_tanh');
  const bias = reader.boolean('attention_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    // older checkpoints call it so, and mean the approximation
    hiddenAct: activation === 'gelu' ? 'gelu_pytorch_tanh' : activation,
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    norms: 'around one',
    embeddingScale: Math.sqrt(common.hiddenSize),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: bias,
    outputBias: bias,
    mlpBias: false,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: common.headDim ** -0.5,
  };
}
