/**
 * Gemma 2 (Gemma team 2024): every other layer sees a sliding window, and both the scores of attention and the logits are soft-capped. transformers
 * leaves the scores' cap out but where it computes attention step by step (`attn_implementation: eager`), which is what is computed here.
 */
import { ConfigReader, readModelConfig, readPaddingIdx, readSoftcap, readTypedWindows, refuseLookingAhead } from './config';
import type { GemmaConfig } from './gemma';
import { readRope, ropePositionLimit } from './rope';

export function readGemma2Config(reader: ConfigReader): GemmaConfig {
  const raw = { num_key_value_heads: 4, head_dim: 256, eos_token_id: 1, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'gemma2', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 8192,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  refuseLookingAhead(reader);
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    finalLogitSoftcapping: readSoftcap(reader, 'final_logit_softcapping', 30),
    hiddenAct: reader.activation('hidden_activation', 'gelu_pytorch_tanh'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    norms: 'around one',
    embeddingScale: Math.sqrt(common.hiddenSize),
    attentionBias: reader.boolean('attention_bias', false),
    attentionScale: reader.positive('query_pre_attn_scalar', 256) ** -0.5,
    attnLogitSoftcapping: readSoftcap(reader, 'attn_logit_softcapping', 50),
    normalizesHeads: false,
    rope,
    windows: readWindows(reader, common.numHiddenLayers),
  };
}

function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  const window = reader.count('sliding_window', 4096);
  return readTypedWindows(
    reader,
    layers,
    (layer) => layer % 2 === 0,
    () => window,
  );
}
