/** ERNIE 4.5 (Baidu 2025), the dense models, is Llama, but that the two features of a pair that turns with the positions lie side by side. */
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { LlamaConfig } from './llama';
import { readRope, ropePositionLimit } from './rope';

export function readErnie45Config(reader: ConfigReader): LlamaConfig {
  const raw = { num_key_value_heads: 2, head_dim: 128, eos_token_id: 2, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'ernie4_5', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 131072,
    // its class drops nothing, whatever the configuration says
    dropout: {},
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { theta: 500000 });
  const bias = reader.boolean('use_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    interleavedPairs: true,
    qkvBias: bias,
    outputBias: bias,
    mlpBias: bias,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: common.headDim ** -0.5,
  };
}
