/** How a Gemma 4 is laid out in a GGUF file. What a layer has of its own is said layer by layer; values lie as in checkpoints. */
import type { Gemma4Config } from './gemma4-config';
import { bools, float, type GgufKeys, type GgufValue, whole, wholes } from './gguf-keys';
import { type GgufLayout, NORMS_OF_HEADS, POST_NORM_NAMES, type Refuse, rotaryKeys, shortest } from './gguf-layout';

const NAMES = {
  ...POST_NORM_NAMES,
  ...NORMS_OF_HEADS,
  'model.layers.#.pre_feedforward_layernorm': 'blk.#.ffn_norm',
  'model.layers.#.layer_scalar': 'blk.#.layer_output_scale.weight',
  'model.layers.#.per_layer_input_gate': 'blk.#.inp_gate',
  'model.layers.#.per_layer_projection': 'blk.#.proj',
  'model.layers.#.post_per_layer_input_norm': 'blk.#.post_norm',
  'model.embed_tokens_per_layer': 'per_layer_token_embd',
  'model.per_layer_model_projection': 'per_layer_model_proj',
  'model.per_layer_projection_norm': 'per_layer_proj_norm',
};

/** By how much the wavelength of a pair that does not turn is longer there. */
const NEVER = 1e30;

export function gemma4(config: Gemma4Config, refuse: Refuse): GgufLayout {
  if (config.hiddenAct !== 'gelu_pytorch_tanh') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.attentionBias) throw refuse('has biases in a model of Gemma 4');
  if (config.slidingRope.type !== 'default') throw refuse('turns only a part of the heads of layers with a window');
  refuseOtherOwners(config, refuse);
  const { rotaryDim, turningPairs, factor } = config.rope;
  const factors = Float32Array.from({ length: rotaryDim / 2 }, (_, pair) => (pair < turningPairs ? factor : NEVER));
  return { architecture: 'gemma4', keys: keysOf(config), names: NAMES, more: { 'rope_freqs.weight': factors } };
}

/** In llama.cpp layers without keys of their own read those of the last two that have some, of which the second sees everything. */
function refuseOtherOwners({ layers, windows }: Gemma4Config, refuse: Refuse): void {
  const first = layers.findIndex(({ keysOf }) => keysOf !== undefined);
  const isOther = layers.some(({ keysOf }, layer) => keysOf !== undefined && keysOf !== first - (windows[layer] === undefined ? 1 : 2));
  if (isOther) throw refuse('has layers that read the keys of other ones than in a Gemma 4 usually');
}

/** One number, where it is the same for all layers. */
const ofEach = (counts: readonly number[]): GgufValue => (new Set(counts).size === 1 ? whole(counts[0]) : wholes(counts));

function keysOf(config: Gemma4Config): GgufKeys {
  const { layers, windows, slidingRope, rope, perLayerSize, finalLogitSoftcapping: cap } = config;
  const [full, sliding] = [rope.rotaryDim, slidingRope.rotaryDim];
  return {
    ...rotaryKeys(config),
    feed_forward_length: ofEach(layers.map(({ intermediateSize }) => intermediateSize)),
    embedding_length_per_layer_input: whole(perLayerSize),
    'attention.head_count_kv': ofEach(layers.map(({ kvHeads }) => kvHeads)),
    'attention.shared_kv_layers': whole(layers.filter(({ keysOf }) => keysOf !== undefined).length),
    'attention.sliding_window': whole(shortest(windows) ?? config.maxPositionEmbeddings),
    'attention.sliding_window_pattern': bools(windows.map((window) => window !== undefined)),
    'attention.key_length': whole(full),
    'attention.value_length': whole(full),
    'attention.key_length_swa': whole(sliding),
    'attention.value_length_swa': whole(sliding),
    'rope.dimension_count': whole(full),
    'rope.dimension_count_swa': whole(sliding),
    'rope.freq_base_swa': float(slidingRope.theta),
    ...(cap !== undefined && { final_logit_softcapping: float(cap) }),
  };
}
