/** What llama.cpp calls the parts of models of experts, and what it does not compute of them. */
import type { ExpertsConfig } from './experts';
import { type GgufKeys, whole } from './gguf-keys';
import { type GgufLayout, NORMS_OF_HEADS, type Refuse, ROTARY_NAMES, rotaryKeys, shortest } from './gguf-layout';
import type { GraniteConfig } from './granite';
import type { Lfm2Config } from './lfm2';
import type { LlamaConfig } from './llama';
import type { OlmoeConfig } from './olmoe';
import type { Qwen3Config } from './qwen3';

/** LLAMA_MAX_EXPERTS. */
const MOST_EXPERTS = 512;

/** All experts of a layer are one tensor, or three: of gates, of what they multiply, and of what leads back. */
const GATE_AND_UP = ['blk.#.ffn_gate_exps', 'blk.#.ffn_up_exps'];

function keysOf({ count, perToken }: ExpertsConfig, refuse: Refuse): GgufKeys {
  if (count > MOST_EXPERTS) throw refuse(`has ${count} experts in a layer, more than ${MOST_EXPERTS}`);
  return { expert_count: whole(count), expert_used_count: whole(perToken) };
}

/** As transformers names them in most families. */
const NAMES = {
  'model.layers.#.mlp.gate': 'blk.#.ffn_gate_inp',
  'model.layers.#.mlp.experts.down_proj': 'blk.#.ffn_down_exps.weight',
};
const PARTS = { 'model.layers.#.mlp.experts.gate_up_proj': GATE_AND_UP.map((name) => `${name}.weight`) };

/** Whose weights of a token's experts sum up to 1, in all layers. */
export function qwen3Moe(config: Qwen3Config, refuse: Refuse): GgufLayout {
  const experts = config.experts as NonNullable<Qwen3Config['experts']>;
  if (!experts.layers.every(Boolean))
    throw refuse('has layers without experts in a model of Qwen3-MoE (mlp_only_layers, decoder_sparse_step)');
  if (!experts.normalized)
    throw refuse("does not bring the weights of a token's experts to a sum of 1 (norm_topk_prob) in a model of Qwen3-MoE");
  if (config.attentionBias) throw refuse('has biases in a model of Qwen3-MoE');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Qwen3-MoE');
  return {
    architecture: 'qwen3moe',
    keys: {
      ...rotaryKeys(config, shortest(config.windows)),
      ...keysOf(experts, refuse),
      expert_feed_forward_length: whole(experts.intermediateSize),
    },
    names: { ...ROTARY_NAMES, ...NORMS_OF_HEADS, ...NAMES },
    parts: PARTS,
  };
}

/** Whose weights of a token's experts are their shares of the softmax over all, in all layers; beside them one takes all tokens. */
export function qwen2Moe(config: LlamaConfig, refuse: Refuse): GgufLayout {
  const experts = config.experts as NonNullable<LlamaConfig['experts']>;
  const { headDim, numAttentionHeads, hiddenSize } = config;
  if (!experts.layers.every(Boolean))
    throw refuse('has layers without experts in a model of Qwen2-MoE (mlp_only_layers, decoder_sparse_step)');
  if (experts.normalized) throw refuse("brings the weights of a token's experts to a sum of 1 (norm_topk_prob) in a model of Qwen2-MoE");
  if (!config.qkvBias) throw refuse('has no biases of queries, keys and values (qkv_bias) in a model of Qwen2-MoE');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of Qwen2-MoE');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Qwen2-MoE');
  const shared = 'model.layers.#.mlp.shared_expert';
  return {
    architecture: 'qwen2moe',
    keys: {
      ...rotaryKeys(config, shortest(config.windows)),
      ...keysOf(experts, refuse),
      expert_feed_forward_length: whole(experts.intermediateSize),
      expert_shared_feed_forward_length: whole(experts.sharedSize ?? 0),
    },
    names: {
      ...ROTARY_NAMES,
      ...NAMES,
      [`${shared}.gate_proj`]: 'blk.#.ffn_gate_shexp',
      [`${shared}.up_proj`]: 'blk.#.ffn_up_shexp',
      [`${shared}.down_proj`]: 'blk.#.ffn_down_shexp',
      [`${shared}_gate`]: 'blk.#.ffn_gate_inp_shexp',
    },
    parts: PARTS,
    vectors: { 'blk.#.ffn_gate_inp_shexp.weight': [hiddenSize] },
  };
}

/** A Mixtral is a Llama there, too. @param dense the layout that it would have without experts */
export function mixtral(config: LlamaConfig, dense: GgufLayout, refuse: Refuse): GgufLayout {
  const experts = config.experts as NonNullable<LlamaConfig['experts']>;
  return {
    ...dense,
    keys: { ...dense.keys, ...keysOf(experts, refuse) },
    names: { ...dense.names, ...NAMES, 'model.layers.#.block_sparse_moe.gate': 'blk.#.ffn_gate_inp' },
    parts: PARTS,
  };
}

/** Whose weights of a token's experts are their shares of the softmax over all, and whose queries are as many as its keys. */
export function olmoe(config: OlmoeConfig, refuse: Refuse): GgufLayout {
  const { headDim, numAttentionHeads: heads, numKeyValueHeads, hiddenSize, rope } = config;
  const experts = config.experts as NonNullable<OlmoeConfig['experts']>;
  if (experts.normalized) throw refuse("brings the weights of a token's experts to a sum of 1 (norm_topk_prob) in a model of OLMoE");
  if (config.attentionBias) throw refuse('has biases in a model of OLMoE');
  if (numKeyValueHeads !== heads) throw refuse(`has ${numKeyValueHeads} heads of keys for ${heads} of queries in a model of OLMoE`);
  if (headDim * heads !== hiddenSize) throw refuse('has heads of another width in a model of OLMoE');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of OLMoE');
  return {
    architecture: 'olmoe',
    keys: { ...rotaryKeys(config), ...keysOf(experts, refuse) },
    names: { ...ROTARY_NAMES, ...NORMS_OF_HEADS, ...NAMES },
    parts: PARTS,
    repeatsHead: true,
  };
}

/** A Granite with experts, beside which Granite 4.0 has an MLP for all tokens. @param dense the layout that it would have without */
export function graniteMoe(config: GraniteConfig, dense: GgufLayout, refuse: Refuse): GgufLayout {
  const { experts, family, intermediateSize, mamba, rotaryLayers } = config;
  if (!experts) return dense;
  // it turns those without layers of Mamba in any case
  if (!mamba && !rotaryLayers.every(Boolean))
    throw refuse('has experts, attention in all layers and no positions (position_embedding_type)');
  const { keys, names, parts } = dense;
  const moe = 'model.layers.#.block_sparse_moe';
  const mlp = 'model.layers.#.shared_mlp';
  const hasMlp = family === 'granitemoehybrid';
  return {
    ...dense,
    architecture: 'granitemoe',
    keys: {
      ...keys,
      ...keysOf(experts, refuse),
      feed_forward_length: whole(experts.intermediateSize),
      ...(hasMlp && { expert_shared_feed_forward_length: whole(intermediateSize) }),
    },
    names: {
      ...names,
      [`${moe}.router.layer`]: 'blk.#.ffn_gate_inp',
      [`${moe}.output_linear`]: 'blk.#.ffn_down_exps',
      [`${mlp}.output_linear`]: 'blk.#.ffn_down_shexp',
    },
    parts: { ...parts, [`${moe}.input_linear`]: GATE_AND_UP, [`${mlp}.input_linear`]: ['blk.#.ffn_gate_shexp', 'blk.#.ffn_up_shexp'] },
  };
}

/** What llama.cpp knows the sigmoid by among the ways to weigh experts. */
const BY_SIGMOID = 2;

/** An LFM2 with experts behind its first layers, whose weights sum up to 1. @param dense the layout that it would have without */
export function lfm2Moe(config: Lfm2Config, dense: GgufLayout, refuse: Refuse): GgufLayout {
  const experts = config.experts as NonNullable<Lfm2Config['experts']>;
  const { count, layers, intermediateSize, normalized, biased, scale = 1 } = experts;
  if (!normalized) throw refuse("does not bring the weights of a token's experts to a sum of 1 (norm_topk_prob) in a model of LFM2-MoE");
  if (scale !== 1) throw refuse(`multiplies the weights of a token's experts by ${scale} (routed_scaling_factor) in a model of LFM2-MoE`);
  const feedForward = 'model.layers.#.feed_forward';
  // it adds them in any case
  const zeros = layers.flatMap((has, layer) => (has && !biased ? [[`blk.${layer}.exp_probs_b.bias`, new Float32Array(count)]] : []));
  return {
    ...dense,
    architecture: 'lfm2moe',
    keys: {
      ...dense.keys,
      ...keysOf(experts, refuse),
      expert_feed_forward_length: whole(intermediateSize),
      leading_dense_block_count: whole(layers.filter((has) => !has).length),
      expert_gating_func: whole(BY_SIGMOID),
    },
    names: {
      ...dense.names,
      [`${feedForward}.gate`]: 'blk.#.ffn_gate_inp',
      [`${feedForward}.expert_bias`]: 'blk.#.exp_probs_b.bias',
      [`${feedForward}.experts.down_proj`]: 'blk.#.ffn_down_exps.weight',
    },
    parts: { [`${feedForward}.experts.gate_up_proj`]: GATE_AND_UP.map((name) => `${name}.weight`) },
    more: Object.fromEntries(zeros),
  };
}

/** llama.cpp has the family, but rounds the places between which YaRN blends: then all positions turn otherwise. */
export function gptOss(refuse: Refuse): never {
  throw refuse('is a gpt-oss, whose positions are stretched between places that are no whole numbers (truncate)');
}
