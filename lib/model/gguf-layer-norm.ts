/** What llama.cpp calls the parts of models with layer normalizations, and what it does not compute of them. */
import type { Activation } from '../engine';
import type { BloomConfig } from './bloom';
import { bool, float, type GgufKeys, whole } from './gguf-keys';
import { commonKeys, type GgufLayout, type Refuse, ROTARY_NAMES, shortest, turningKeys } from './gguf-layout';
import { byKind } from './gguf-order';
import type { GptBigCodeConfig } from './gpt-bigcode';
import type { GptNeoXConfig } from './gpt-neox';
import type { Gpt2Config } from './gpt2';
import type { PhiConfig } from './phi';
import type { StableLmConfig } from './stablelm';
import type { Starcoder2Config } from './starcoder2';
import type { ModelConfig } from './types';

/** Names of the activation that llama.cpp calls GELU. */
const TANH_GELUS: ReadonlySet<Activation> = new Set(['gelu_new', 'gelu_fast', 'gelu_pytorch_tanh']);

function refuseOtherGelu(activation: Activation, refuse: Refuse): void {
  if (!TANH_GELUS.has(activation)) throw refuse(`has the activation ${activation}`);
}

/** Keys of every architecture, and the epsilon of the norms. @param window as of `commonKeys` */
const layerNormKeys = (config: ModelConfig & { layerNormEps: number }, window?: number): GgufKeys => ({
  ...commonKeys(config, window),
  'attention.layer_norm_epsilon': float(config.layerNormEps),
});

const GPT_NAMES = {
  'transformer.wte': 'token_embd',
  'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm',
  lm_head: 'output',
  'transformer.h.#.ln_1': 'blk.#.attn_norm',
  'transformer.h.#.attn.c_attn': 'blk.#.attn_qkv',
  'transformer.h.#.attn.c_proj': 'blk.#.attn_output',
  'transformer.h.#.ln_2': 'blk.#.ffn_norm',
  'transformer.h.#.mlp.c_fc': 'blk.#.ffn_up',
  'transformer.h.#.mlp.c_proj': 'blk.#.ffn_down',
};

export function gpt2(config: Gpt2Config, refuse: Refuse): GgufLayout {
  const { activationFunction, scales, headDim } = config;
  refuseOtherGelu(activationFunction, refuse);
  if (scales.some((scale) => scale !== headDim ** -0.5))
    throw refuse('scales the scores of its layers otherwise than by the width of a head');
  return {
    architecture: 'gpt2',
    keys: layerNormKeys(config),
    names: GPT_NAMES,
    repeatsHead: true,
  };
}

export function gptNeoX(config: GptNeoXConfig, refuse: Refuse): GgufLayout {
  const { rope, numAttentionHeads: heads } = config;
  if (!config.hiddenAct.startsWith('gelu')) throw refuse(`has the activation ${config.hiddenAct}`);
  if (!config.attentionBias) throw refuse('has no biases in a model of GPT-NeoX');
  if (rope.type !== 'default') throw refuse('stretches the positions of a GPT-NeoX');
  if (rope.rotaryDim % 2 !== 0) throw refuse(`turns ${rope.rotaryDim} features of a head`);
  return {
    architecture: 'gptneox',
    keys: {
      ...layerNormKeys(config),
      'rope.dimension_count': whole(rope.rotaryDim),
      'rope.freq_base': float(rope.theta),
      use_parallel_residual: bool(config.useParallelResidual),
    },
    names: {
      'gpt_neox.embed_in': 'token_embd',
      'gpt_neox.final_layer_norm': 'output_norm',
      embed_out: 'output',
      'gpt_neox.layers.#.input_layernorm': 'blk.#.attn_norm',
      'gpt_neox.layers.#.attention.query_key_value': 'blk.#.attn_qkv',
      'gpt_neox.layers.#.attention.dense': 'blk.#.attn_output',
      'gpt_neox.layers.#.post_attention_layernorm': 'blk.#.ffn_norm',
      'gpt_neox.layers.#.mlp.dense_h_to_4h': 'blk.#.ffn_up',
      'gpt_neox.layers.#.mlp.dense_4h_to_h': 'blk.#.ffn_down',
    },
    change: (name, values) => (name.includes('query_key_value') ? byKind(values, heads) : values),
    repeatsHead: true,
  };
}

/** Its one matrix has all queries, then all keys, then all values where the heads of queries share a head of keys, as there. */
export function gptBigCode(config: GptBigCodeConfig, refuse: Refuse): GgufLayout {
  const { activationFunction, attentionScale, headDim, numAttentionHeads: heads, multiQuery } = config;
  refuseOtherGelu(activationFunction, refuse);
  if (attentionScale !== headDim ** -0.5) throw refuse('does not scale its scores by the width of a head');
  return {
    architecture: 'starcoder',
    keys: { ...layerNormKeys(config), 'attention.head_count_kv': whole(config.numKeyValueHeads) },
    names: GPT_NAMES,
    change: (name, values) => (name.includes('c_attn') && !multiQuery ? byKind(values, heads) : values),
  };
}

export function starcoder2(config: Starcoder2Config, refuse: Refuse): GgufLayout {
  const { hiddenAct, bias, rope, headDim, numAttentionHeads, hiddenSize, windows } = config;
  refuseOtherGelu(hiddenAct, refuse);
  if (!bias) throw refuse('has no biases in a model of StarCoder2');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of StarCoder2');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of StarCoder2');
  return {
    architecture: 'starcoder2',
    keys: { ...layerNormKeys(config, shortest(windows)), ...turningKeys(config) },
    names: { ...ROTARY_NAMES, 'model.layers.#.mlp.c_fc': 'blk.#.ffn_up', 'model.layers.#.mlp.c_proj': 'blk.#.ffn_down' },
  };
}

/** In llama.cpp a Phi has an output head of its own, and its heads share the features of the states. */
export function phi(config: PhiConfig, refuse: Refuse): GgufLayout {
  const { rope, headDim, numAttentionHeads, hiddenSize } = config;
  refuseOtherGelu(config.hiddenAct, refuse);
  if (config.qkLayernorm) throw refuse('normalizes queries and keys in a model of Phi');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of Phi');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Phi');
  if (rope.rotaryDim % 2 !== 0) throw refuse(`turns ${rope.rotaryDim} features of a head`);
  return {
    architecture: 'phi2',
    keys: { ...layerNormKeys(config), ...turningKeys(config) },
    names: {
      ...ROTARY_NAMES,
      'model.final_layernorm': 'output_norm',
      'model.layers.#.self_attn.dense': 'blk.#.attn_output',
      'model.layers.#.mlp.fc1': 'blk.#.ffn_up',
      'model.layers.#.mlp.fc2': 'blk.#.ffn_down',
    },
    repeatsHead: true,
  };
}

/** llama.cpp sees by the norm that is missing that attention and MLP are side by side. */
export function stablelm(config: StableLmConfig, refuse: Refuse): GgufLayout {
  const { rope, hiddenAct } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of StableLM');
  if (rope.rotaryDim % 2 !== 0) throw refuse(`turns ${rope.rotaryDim} features of a head`);
  return {
    architecture: 'stablelm',
    keys: {
      ...layerNormKeys(config),
      ...turningKeys(config),
      use_parallel_residual: bool(config.useParallelResidual),
    },
    names: {
      ...ROTARY_NAMES,
      'model.layers.#.self_attn.q_layernorm.norms': 'blk.#.attn_q_norm',
      'model.layers.#.self_attn.k_layernorm.norms': 'blk.#.attn_k_norm',
    },
    repeatsHead: true,
  };
}

/** Its texts have no longest length, but llama.cpp is to be told one. */
export function bloom(config: BloomConfig, refuse: Refuse): GgufLayout {
  const { residualBehindNorm, numAttentionHeads: heads, pretrainedLength } = config;
  if (residualBehindNorm) throw refuse('adds what it normalized, in a model of BLOOM');
  return {
    architecture: 'bloom',
    keys: {
      ...layerNormKeys(config, pretrainedLength),
      'attention.head_count_kv': whole(heads),
    },
    names: {
      'transformer.word_embeddings': 'token_embd',
      'transformer.word_embeddings_layernorm': 'token_embd_norm',
      'transformer.ln_f': 'output_norm',
      lm_head: 'output',
      'transformer.h.#.input_layernorm': 'blk.#.attn_norm',
      'transformer.h.#.self_attention.query_key_value': 'blk.#.attn_qkv',
      'transformer.h.#.self_attention.dense': 'blk.#.attn_output',
      'transformer.h.#.post_attention_layernorm': 'blk.#.ffn_norm',
      'transformer.h.#.mlp.dense_h_to_4h': 'blk.#.ffn_up',
      'transformer.h.#.mlp.dense_4h_to_h': 'blk.#.ffn_down',
    },
    change: (name, values) => (name.includes('query_key_value') ? byKind(values, heads) : values),
  };
}
