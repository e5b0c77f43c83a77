/**
 * SmolLM3 (Hugging Face 2025) is Llama, but that queries and keys of some layers, usually every fourth, do not turn with their positions (Yang
 * et al. 2025, "Rope to Nope and Back Again: A New Hybrid Attention Strategy"). Those may see a sliding window.
 */
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { LlamaConfig } from './llama';
import { readRope, ropePositionLimit } from './rope';

export function readSmolLm3Config(reader: ConfigReader): LlamaConfig {
  const raw = { num_key_value_heads: 4, eos_token_id: 128001, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'smollm3', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 32768,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { theta: 2e6 });
  const rotaryLayers = readRotaryLayers(reader, common.numHiddenLayers);
  const attentionBias = reader.boolean('attention_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 128004),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    rope,
    rotaryLayers,
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: reader.boolean('mlp_bias', false),
    windows: readWindows(reader, rotaryLayers),
    attentionScale: common.headDim ** -0.5,
  };
}

/** `no_rope_layers` has, its name notwithstanding, a 1 for each layer that turns, and a 0 for each that does not. */
function readRotaryLayers(reader: ConfigReader, layers: number): boolean[] {
  const interval = reader.count('no_rope_layer_interval', 4);
  const given = reader.get('no_rope_layers') ?? Array.from({ length: layers }, (_, layer) => Number((layer + 1) % interval !== 0));
  if (!Array.isArray(given) || given.length < layers || !given.every((turns) => turns === 0 || turns === 1))
    throw reader.wrong('no_rope_layers', given, `a 1 or a 0 for each of the ${layers} layers`);
  return given.slice(0, layers).map((turns) => turns === 1);
}

/** `layer_types` counts, also without `use_sliding_window`. */
function readWindows(reader: ConfigReader, rotaryLayers: readonly boolean[]): Array<number | undefined> {
  const types = reader.get('layer_types');
  const slides = reader.boolean('use_sliding_window', false) && reader.get('sliding_window') !== undefined;
  return rotaryLayers.map((turns, layer) => {
    const isSliding = Array.isArray(types) ? types[layer] === 'sliding_attention' : slides && !turns;
    return isSliding ? reader.count('sliding_window') : undefined;
  });
}
