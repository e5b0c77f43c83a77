/**
 * OLMo (Groeneveld et al. 2024), the first, is Llama, but that its norms are those of layers (Ba et al. 2016) without weights and biases, and that
 * queries, keys and values may be clipped.
 */
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { LlamaConfig } from './llama';
import { readRope, ropePositionLimit } from './rope';

export function readOlmoConfig(reader: ConfigReader): LlamaConfig {
  const raw = { eos_token_id: 50279, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'olmo', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const bias = reader.boolean('attention_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 1),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    norms: 'of layers, without weights',
    // no key of the configuration says another
    rmsNormEps: 1e-5,
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: bias,
    outputBias: bias,
    qkvClip: reader.get('clip_qkv') === undefined ? undefined : reader.positive('clip_qkv'),
    mlpBias: false,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: common.headDim ** -0.5,
  };
}
