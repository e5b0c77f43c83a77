/** How a model is laid out in a GGUF file, and what many families have in common there. */
import type { UserError } from '../errors';
import { float, type GgufKeys, text, whole } from './gguf-keys';
import type { RopeConfig } from './rope';
import type { ModelConfig } from './types';

/** How a family is laid out in a file. */
export interface GgufLayout {
  architecture: string;
  /** Keys of the architecture, without its name before them. */
  keys: GgufKeys;
  /** llama.cpp's names of tensors, by those of checkpoints, both without `.weight` and `.bias`, or both whole; `#` is the number of a layer. */
  names: Readonly<Record<string, string>>;
  /** Values as they lie in a file, where that is otherwise. @param name the checkpoint's */
  change?(name: string, values: Float32Array): Float32Array;
  /** Of matrices that are several ones there, one below the other: llama.cpp's names of those. */
  parts?: Readonly<Record<string, readonly string[]>>;
  /** Vectors that have more axes there: their shapes, by llama.cpp's names without the number of the layer. */
  vectors?: Readonly<Record<string, readonly number[]>>;
  /** Tensors that no checkpoint has. */
  more?: Readonly<Record<string, Float32Array>>;
  /** Whether the file has an output head even where it is the embedding. */
  repeatsHead?: boolean;
}

/** An error that says what of a model llama.cpp does not compute. */
export type Refuse = (what: string) => UserError;

/** Keys of every architecture. @param window in which tokens see each other, where that is the same in all layers */
export function commonKeys(config: ModelConfig, window = Number.POSITIVE_INFINITY): GgufKeys {
  return {
    block_count: whole(config.numHiddenLayers),
    // up to its length a window hides nothing
    context_length: whole(Math.min(config.positionLimit, window)),
    embedding_length: whole(config.hiddenSize),
    feed_forward_length: whole(config.intermediateSize),
    'attention.head_count': whole(config.numAttentionHeads),
    vocab_size: whole(config.vocabSize),
  };
}

/** Of those with rotary positions and root mean square norms. */
export function rotaryKeys(config: ModelConfig & { rope: RopeConfig; rmsNormEps: number }, window?: number): GgufKeys {
  return { ...commonKeys(config, window), ...turningKeys(config), 'attention.layer_norm_rms_epsilon': float(config.rmsNormEps) };
}

/** What those with rotary positions have beside the keys of every architecture. */
export function turningKeys({ rope, headDim, numKeyValueHeads }: ModelConfig & { rope: RopeConfig }): GgufKeys {
  return {
    'attention.head_count_kv': whole(numKeyValueHeads),
    'attention.key_length': whole(headDim),
    'attention.value_length': whole(headDim),
    'rope.dimension_count': whole(rope.rotaryDim),
    'rope.freq_base': float(rope.theta),
    ...(rope.type === 'linear' && { 'rope.scaling.type': text('linear'), 'rope.scaling.factor': float(rope.factor) }),
  };
}

export const ROTARY_NAMES = {
  'model.embed_tokens': 'token_embd',
  'model.norm': 'output_norm',
  lm_head: 'output',
  'model.layers.#.input_layernorm': 'blk.#.attn_norm',
  'model.layers.#.self_attn.q_proj': 'blk.#.attn_q',
  'model.layers.#.self_attn.k_proj': 'blk.#.attn_k',
  'model.layers.#.self_attn.v_proj': 'blk.#.attn_v',
  'model.layers.#.self_attn.o_proj': 'blk.#.attn_output',
  'model.layers.#.post_attention_layernorm': 'blk.#.ffn_norm',
  'model.layers.#.mlp.gate_proj': 'blk.#.ffn_gate',
  'model.layers.#.mlp.up_proj': 'blk.#.ffn_up',
  'model.layers.#.mlp.down_proj': 'blk.#.ffn_down',
};

/** Of those with norms behind their sublayers. */
export const POST_NORM_NAMES = {
  ...ROTARY_NAMES,
  'model.layers.#.post_attention_layernorm': 'blk.#.post_attention_norm',
  'model.layers.#.post_feedforward_layernorm': 'blk.#.post_ffw_norm',
};

export const NORMS_OF_HEADS = {
  'model.layers.#.self_attn.q_norm': 'blk.#.attn_q_norm',
  'model.layers.#.self_attn.k_norm': 'blk.#.attn_k_norm',
};

/** The shortest of windows; absent where there is none. */
export function shortest(windows: ReadonlyArray<number | undefined>): number | undefined {
  const found = windows.filter((window) => window !== undefined);
  return found.length > 0 ? Math.min(...found) : undefined;
}
