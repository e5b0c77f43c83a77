/** What llama.cpp calls the parts of a model, of each family that it computes, and what it does not compute of it. */
import { UserError } from '../errors';
import { stretchesPositions } from './batch';
import type { CohereConfig } from './cohere';
import { hasJsClass } from './families';
import type { GemmaConfig } from './gemma';
import type { Gemma3Config } from './gemma3';
import { gptOss, graniteMoe, lfm2Moe, mixtral, olmoe, qwen2Moe, qwen3Moe } from './gguf-experts';
import { gemma4 } from './gguf-gemma4';
import { bool, float, type GgufKeys, text, whole, wholes } from './gguf-keys';
import { bloom, gpt2, gptBigCode, gptNeoX, phi, stablelm, starcoder2 } from './gguf-layer-norm';
import { type GgufLayout, NORMS_OF_HEADS, POST_NORM_NAMES, type Refuse, ROTARY_NAMES, rotaryKeys, shortest } from './gguf-layout';
import { inPairs } from './gguf-order';
import { falconH1, granitehybrid, qwen35 } from './gguf-states';
import type { GlmConfig } from './glm';
import type { GraniteConfig } from './granite';
import type { HunYuanConfig } from './hunyuan';
import type { Lfm2Config } from './lfm2';
import type { LlamaConfig } from './llama';
import type { Olmo2Config } from './olmo2';
import type { Phi3Config } from './phi3';
import type { Qwen3Config } from './qwen3';
import { type RopeConfig, ropeFrequencies } from './rope';
import type { CausalLM, Family } from './types';

/** @throws UserError when llama.cpp has no such family, or computes something else than this configuration says */
export function ggufLayoutOf({ family, config, source }: CausalLM): GgufLayout {
  const refuse = (what: string): UserError =>
    new UserError(
      `${source} ${what}, which llama.cpp does not compute${hasJsClass(config.modelType) ? '; export it for transformers.js instead (exportModel, or tunebook export --output_dir)' : ''}.`,
    );
  const layout = LAYOUTS[family];
  if (!layout) throw refuse(`is of the family ${family}`);
  if (stretchesPositions(config)) throw refuse('stretches its positions with the length of the text (dynamic RoPE)');
  return layout(config as never, refuse);
}

/** Each reads the configuration of its own family. */
type Layout = (config: never, refuse: Refuse) => GgufLayout;

const LAYOUTS: Partial<Record<Family, Layout>> = {
  llama,
  mixtral: (config: LlamaConfig, refuse) => mixtral(config, llama(config, refuse), refuse),
  qwen2_moe: qwen2Moe,
  smollm3,
  ministral3,
  exaone4,
  cohere: (config: CohereConfig, refuse) => cohere(config, 'command-r', refuse),
  cohere2,
  ernie4_5: ernie45,
  hunyuan_v1_dense: hunYuan,
  granite,
  granitemoe: (config: GraniteConfig, refuse) => graniteMoe(config, granite(config, refuse), refuse),
  granitemoehybrid,
  falcon_h1: falconH1,
  glm: (config: GlmConfig, refuse) => glm(config, 'chatglm', refuse),
  glm4: (config: GlmConfig, refuse) => glm(config, 'glm4', refuse),
  phi,
  phi3,
  stablelm,
  lfm2,
  lfm2_moe: (config: Lfm2Config, refuse) => lfm2Moe(config, lfm2(config, refuse), refuse),
  olmo,
  olmo2,
  olmoe,
  qwen3,
  qwen3_moe: qwen3Moe,
  qwen3_5: qwen35,
  gemma: gemma1,
  gemma2,
  gemma3,
  gemma4,
  gpt2,
  gpt_oss: (_: unknown, refuse) => gptOss(refuse),
  gpt_neox: gptNeoX,
  gpt_bigcode: gptBigCode,
  starcoder2,
  bloom,
};

function llama(config: LlamaConfig, refuse: Refuse): GgufLayout {
  const { rope, hiddenAct, modelType, numAttentionHeads, numKeyValueHeads, windows } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  const isQwen = modelType === 'qwen2';
  if (isQwen && config.headDim * numAttentionHeads !== config.hiddenSize) throw refuse('has heads of another width in a model of Qwen2');
  if (isQwen && rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Qwen2');
  const heads: Record<string, number> = { q_proj: numAttentionHeads, k_proj: numKeyValueHeads };
  return {
    architecture: isQwen ? 'qwen2' : 'llama',
    keys: rotaryKeys(config, shortest(windows)),
    names: ROTARY_NAMES,
    change: (name, values) => {
      const count = isQwen ? undefined : heads[name.split('.').at(-2) ?? ''];
      return count === undefined ? values : inPairs(values, count, config.headDim);
    },
    more: rope.type === 'llama3' ? { 'rope_freqs.weight': stretches(rope) } : undefined,
  };
}

function ernie45(config: LlamaConfig, refuse: Refuse): GgufLayout {
  if (config.hiddenAct !== 'silu' && config.hiddenAct !== 'swish') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.mlpBias) throw refuse('has biases in a model of ERNIE 4.5');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of ERNIE 4.5');
  return { architecture: 'ernie4_5', keys: rotaryKeys(config), names: ROTARY_NAMES };
}

function glm(config: GlmConfig, architecture: string, refuse: Refuse): GgufLayout {
  const { hiddenAct, rope, postNorms, headDim, numAttentionHeads, hiddenSize } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (!postNorms && headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of GLM');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of GLM');
  if (rope.rotaryDim % 2 !== 0) throw refuse(`turns ${rope.rotaryDim} features of a head`);
  const names = {
    'model.layers.#.mlp.gate_up_proj': 'blk.#.ffn_up',
    'model.layers.#.post_self_attn_layernorm': 'blk.#.post_attention_norm',
    'model.layers.#.post_mlp_layernorm': 'blk.#.post_ffw_norm',
  };
  return { architecture, keys: rotaryKeys(config), names: { ...ROTARY_NAMES, ...names } };
}

function hunYuan(config: HunYuanConfig, refuse: Refuse): GgufLayout {
  if (config.hiddenAct !== 'silu' && config.hiddenAct !== 'swish') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.attentionBias) throw refuse('has biases in a model of Hunyuan');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Hunyuan');
  const names = {
    'model.layers.#.self_attn.query_layernorm': 'blk.#.attn_q_norm',
    'model.layers.#.self_attn.key_layernorm': 'blk.#.attn_k_norm',
  };
  return { architecture: 'hunyuan-dense', keys: rotaryKeys(config), names: { ...ROTARY_NAMES, ...names } };
}

/** In llama.cpp every fourth layer of a SmolLM3 does not turn with its positions. */
function smollm3(config: LlamaConfig, refuse: Refuse): GgufLayout {
  if (config.rotaryLayers.some((turns, layer) => turns !== ((layer + 1) % 4 !== 0)))
    throw refuse('turns in other layers than a SmolLM3 usually does');
  if (config.qkvBias || config.mlpBias) throw refuse('has biases in a model of SmolLM3');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of SmolLM3');
  return { ...llama(config, refuse), architecture: 'smollm3' };
}

/** Its YaRN leaves the strength of attention as it is, in llama.cpp whatever the file says. */
function ministral3(config: LlamaConfig, refuse: Refuse): GgufLayout {
  const { rope } = config;
  if (rope.type !== 'yarn' || rope.attentionFactor !== 1) throw refuse('stretches the positions of a Ministral 3 otherwise than usual');
  const { keys, ...layout } = llama(config, refuse);
  const { 'rope.scaling.attn_factor': _, ...stretching } = yarnKeys(rope, refuse);
  const growth = { 'rope.scaling.yarn_log_multiplier': float(1), 'attention.temperature_scale': float(rope.queryGrowth?.by ?? 0) };
  return { ...layout, architecture: 'mistral3', keys: { ...keys, ...stretching, ...growth } };
}

/** Layers of the large EXAONE 4, by which llama.cpp knows that every fourth sees everything and does not turn; of others all turn, and see everything. */
const LAYERS_WITH_WINDOWS = 64;

function exaone4(config: Qwen3Config, refuse: Refuse): GgufLayout {
  const { hiddenAct, rope, windows, rotaryLayers = [], numHiddenLayers, headDim, numAttentionHeads, hiddenSize } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of EXAONE 4');
  const haveWindows = numHiddenLayers === LAYERS_WITH_WINDOWS;
  const slides = (layer: number): boolean => haveWindows && (layer + 1) % 4 !== 0;
  if (windows.some((window, layer) => (window !== undefined) !== slides(layer)))
    throw refuse('has windows in other layers than an EXAONE 4 usually does');
  if (rotaryLayers.some((turns, layer) => turns !== (!haveWindows || slides(layer))))
    throw refuse('turns in other layers than an EXAONE 4 usually does');
  const window = shortest(windows);
  return {
    architecture: 'exaone4',
    keys: { ...rotaryKeys(config), ...(window && { 'attention.sliding_window': whole(window) }) },
    names: { ...POST_NORM_NAMES, ...NORMS_OF_HEADS },
    more: rope.type === 'llama3' ? { 'rope_freqs.weight': stretches(rope) } : undefined,
  };
}

/** In llama.cpp the head of a Cohere is the embedding. */
function cohere(config: CohereConfig, architecture: string, refuse: Refuse): GgufLayout {
  const { hiddenAct, headDim, numAttentionHeads, hiddenSize } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (config.qkvBias) throw refuse('has biases in a model of Cohere');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of Cohere');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Cohere');
  if (!config.tieWordEmbeddings) throw refuse('has an output head of its own in a model of Cohere');
  const { 'attention.layer_norm_rms_epsilon': epsilon, ...keys } = rotaryKeys(config);
  return {
    architecture,
    keys: { ...keys, 'attention.layer_norm_epsilon': epsilon, logit_scale: float(config.logitScale) },
    names: ROTARY_NAMES,
  };
}

/** In llama.cpp every fourth layer of a Cohere 2 sees everything, and the others turn. */
function cohere2(config: CohereConfig, refuse: Refuse): GgufLayout {
  const { keys, ...layout } = cohere(config, 'cohere2', refuse);
  if (config.windows.some((window, layer) => (window !== undefined) !== ((layer + 1) % 4 !== 0)))
    throw refuse('has windows in other layers than a Cohere 2 usually does');
  return { ...layout, keys: { ...keys, 'attention.sliding_window': whole(shortest(config.windows) ?? config.positionLimit) } };
}

function granite(config: GraniteConfig, refuse: Refuse): GgufLayout {
  const { keys, ...layout } = llama(config, refuse);
  const scales = {
    'attention.scale': float(config.attentionScale),
    embedding_scale: float(config.embeddingMultiplier),
    residual_scale: float(config.residualMultiplier),
    logit_scale: float(config.logitsScaling),
  };
  return { ...layout, architecture: 'granite', keys: { ...keys, ...scales } };
}

/** A Granite 4.0 is one of the older ones, but that it may not turn with its positions, and have experts, and layers of Mamba 2. */
function granitemoehybrid(config: GraniteConfig, refuse: Refuse): GgufLayout {
  const { keys, names, ...layout } = granite(config, refuse);
  const turns = config.rotaryLayers.every(Boolean);
  const dense = {
    ...layout,
    keys: { ...keys, ...(!turns && { 'rope.scaling.finetuned': bool(false) }) },
    names: { ...names, 'model.layers.#.shared_mlp.output_linear': 'blk.#.ffn_down' },
    parts: { 'model.layers.#.shared_mlp.input_linear': ['blk.#.ffn_gate', 'blk.#.ffn_up'] },
  };
  return granitehybrid(config, graniteMoe(config, dense, refuse), refuse);
}

/** By how much longer each wavelength is than without the stretching. */
function stretches(rope: RopeConfig): Float32Array {
  const stretched = ropeFrequencies(rope, 0);
  return ropeFrequencies({ ...rope, type: 'default' }, 0).map((frequency, i) => frequency / stretched[i]);
}

function qwen3(config: Qwen3Config, refuse: Refuse): GgufLayout {
  if (config.hiddenAct !== 'silu' && config.hiddenAct !== 'swish') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.attentionBias) throw refuse('has biases in a model of Qwen3');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Qwen3');
  return { architecture: 'qwen3', keys: rotaryKeys(config, shortest(config.windows)), names: { ...ROTARY_NAMES, ...NORMS_OF_HEADS } };
}

/** What llama.cpp takes for granted of a Gemma. */
interface GemmaHabits {
  name: string;
  architecture: string;
  /** Of every so many layers the last sees everything, the others a window. */
  period: number;
  /** Layers of the largest, by which it is known: its scores are scaled by the width of the hidden states' part, the others' by that of a head. */
  largest: number;
}

const GEMMA2: GemmaHabits = { name: 'Gemma 2', architecture: 'gemma2', period: 2, largest: 46 };
const GEMMA3: GemmaHabits = { name: 'Gemma 3', architecture: 'gemma3', period: 6, largest: 62 };

function gemma(config: GemmaConfig, habits: GemmaHabits, refuse: Refuse): GgufLayout {
  const { windows, headDim, attentionScale, hiddenSize, numAttentionHeads, numHiddenLayers } = config;
  const { name, architecture, period, largest } = habits;
  if (config.hiddenAct !== 'gelu_pytorch_tanh') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.attentionBias) throw refuse(`has biases in a model of ${name}`);
  if (config.rope.type !== 'default') throw refuse(`stretches the positions of a ${name}`);
  const width = numHiddenLayers === largest ? hiddenSize / numAttentionHeads : headDim;
  if (Math.abs(attentionScale * width ** 0.5 - 1) > 1e-6) throw refuse(`scales the scores of a ${name} by ${attentionScale}`);
  if (windows.some((window, layer) => (window !== undefined) !== ((layer + 1) % period !== 0)))
    throw refuse(`has windows in other layers than a ${name} usually does`);
  return {
    architecture,
    keys: { ...rotaryKeys(config), 'attention.sliding_window': whole(shortest(windows) ?? config.maxPositionEmbeddings) },
    names: { ...POST_NORM_NAMES, 'model.layers.#.pre_feedforward_layernorm': 'blk.#.ffn_norm' },
    change: wholeNorms,
  };
}

/** Checkpoints have what the weights of norms differ from 1 by. */
const wholeNorms: GgufLayout['change'] = (name, values) => (/norm\.weight$/.test(name) ? values.map((value) => value + 1) : values);

function gemma1(config: LlamaConfig, refuse: Refuse): GgufLayout {
  if (config.hiddenAct !== 'gelu_pytorch_tanh') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.qkvBias) throw refuse('has biases in a model of Gemma');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Gemma');
  if (!config.tieWordEmbeddings) throw refuse('has an output head of its own in a model of Gemma');
  return { architecture: 'gemma', keys: rotaryKeys(config), names: ROTARY_NAMES, change: wholeNorms };
}

/** In llama.cpp a Gemma 2 soft-caps both scores and logits, and its head is the embedding. */
function gemma2(config: GemmaConfig, refuse: Refuse): GgufLayout {
  const { attnLogitSoftcapping: scores, finalLogitSoftcapping: logits } = config;
  if (scores === undefined || logits === undefined) throw refuse('does not soft-cap the scores and the logits of a Gemma 2');
  if (!config.tieWordEmbeddings) throw refuse('has an output head of its own in a model of Gemma 2');
  const { keys, ...layout } = gemma(config, GEMMA2, refuse);
  return { ...layout, keys: { ...keys, attn_logit_softcapping: float(scores), final_logit_softcapping: float(logits) } };
}

/** The base by which its layers with a window turn in llama.cpp. */
const SLIDING_THETA = 10000;

function gemma3(config: Gemma3Config, refuse: Refuse): GgufLayout {
  const { slidingRope } = config;
  if (slidingRope.type !== 'default') throw refuse('stretches the positions of a Gemma 3');
  if (slidingRope.theta !== SLIDING_THETA) throw refuse(`turns the layers with a window by the base ${slidingRope.theta}`);
  const { names, ...layout } = gemma(config, GEMMA3, refuse);
  return { ...layout, names: { ...names, ...NORMS_OF_HEADS } };
}

/** The first OLMo is a Llama there, too, without weights of norms. */
function olmo(config: LlamaConfig, refuse: Refuse): GgufLayout {
  const { qkvClip, headDim, numAttentionHeads, hiddenSize, rope } = config;
  if (config.qkvBias) throw refuse('has biases in a model of OLMo');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of OLMo');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of OLMo');
  const { keys, ...layout } = llama(config, refuse);
  const { 'attention.layer_norm_rms_epsilon': epsilon, ...others } = keys;
  return {
    ...layout,
    architecture: 'olmo',
    keys: { ...others, 'attention.layer_norm_epsilon': epsilon, ...(qkvClip && { 'attention.clamp_kqv': float(qkvClip) }) },
  };
}

/** In llama.cpp every fourth layer of an OLMo 3 sees everything, and the others turn by the same base, without stretching. */
function olmo2(config: Olmo2Config, refuse: Refuse): GgufLayout {
  const { windows, rope, slidingRope, headDim, numAttentionHeads, hiddenSize } = config;
  if (config.hiddenAct !== 'silu' && config.hiddenAct !== 'swish') throw refuse(`has the activation ${config.hiddenAct}`);
  if (config.attentionBias) throw refuse('has biases in a model of OLMo');
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of OLMo');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of OLMo');
  const sliding = windows.map((window) => window !== undefined);
  const isUsual = sliding.every((slides, layer) => slides === ((layer + 1) % 4 !== 0));
  if (slidingRope && !isUsual) throw refuse('has windows in other layers than an OLMo 3 usually does');
  if (slidingRope && (slidingRope.type !== 'default' || slidingRope.theta !== rope.theta))
    throw refuse('turns the layers with a window of an OLMo 3 otherwise');
  return {
    architecture: 'olmo2',
    keys: {
      ...rotaryKeys(config),
      ...(slidingRope && { 'attention.sliding_window': whole(shortest(windows) ?? config.positionLimit) }),
      ...(rope.type === 'yarn' && yarnKeys(rope, refuse)),
    },
    names: { ...POST_NORM_NAMES, ...NORMS_OF_HEADS },
    repeatsHead: true,
  };
}

/** Its LongRoPE counts for texts as long as those of the pretraining; the file says that the model reads no longer ones. */
function phi3(config: Phi3Config, refuse: Refuse): GgufLayout {
  const { rope, hiddenAct, windows } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  const factors = Float32Array.from(rope.shortFactors);
  const isStretched = rope.type === 'longrope';
  return {
    architecture: 'phi3',
    keys: {
      ...rotaryKeys(config, shortest(windows)),
      'rope.scaling.original_context_length': whole(rope.originalMaxPositions),
      ...(isStretched && { 'rope.scaling.attn_factor': float(rope.attentionFactor) }),
    },
    names: {
      ...ROTARY_NAMES,
      'model.layers.#.self_attn.qkv_proj': 'blk.#.attn_qkv',
      'model.layers.#.mlp.gate_up_proj': 'blk.#.ffn_up',
    },
    more: isStretched ? { 'rope_factors_short.weight': factors, 'rope_factors_long.weight': factors } : undefined,
  };
}

/** Layers without heads of keys and values are those with a convolution. */
function lfm2(config: Lfm2Config, refuse: Refuse): GgufLayout {
  const { layerTypes, numAttentionHeads, numKeyValueHeads, headDim, hiddenSize, taps } = config;
  if (new Set(layerTypes).size === 1) throw refuse(`has no layers in a model of LFM2 but those of the kind ${layerTypes[0]}`);
  if (headDim * numAttentionHeads !== hiddenSize) throw refuse('has heads of another width in a model of LFM2');
  if (taps === 1) throw refuse('has convolutions of one token');
  if (config.convBias) throw refuse('has biases in its convolutions');
  if (config.rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of LFM2');
  return {
    architecture: 'lfm2',
    keys: {
      ...rotaryKeys(config),
      'attention.head_count_kv': wholes(layerTypes.map((type) => (type === 'conv' ? 0 : numKeyValueHeads))),
      'shortconv.l_cache': whole(taps),
    },
    names: {
      'model.embed_tokens': 'token_embd',
      'model.embedding_norm': 'token_embd_norm',
      lm_head: 'output',
      'model.layers.#.operator_norm': 'blk.#.attn_norm',
      'model.layers.#.self_attn.q_proj': 'blk.#.attn_q',
      'model.layers.#.self_attn.k_proj': 'blk.#.attn_k',
      'model.layers.#.self_attn.v_proj': 'blk.#.attn_v',
      'model.layers.#.self_attn.out_proj': 'blk.#.attn_output',
      'model.layers.#.self_attn.q_layernorm': 'blk.#.attn_q_norm',
      'model.layers.#.self_attn.k_layernorm': 'blk.#.attn_k_norm',
      'model.layers.#.conv.in_proj': 'blk.#.shortconv.in_proj',
      'model.layers.#.conv.conv': 'blk.#.shortconv.conv',
      'model.layers.#.conv.out_proj': 'blk.#.shortconv.out_proj',
      'model.layers.#.ffn_norm': 'blk.#.ffn_norm',
      'model.layers.#.feed_forward.w1': 'blk.#.ffn_gate',
      'model.layers.#.feed_forward.w3': 'blk.#.ffn_up',
      'model.layers.#.feed_forward.w2': 'blk.#.ffn_down',
    },
  };
}

function yarnKeys({ factor, originalMaxPositions, attentionFactor, betaFast, betaSlow, truncate }: RopeConfig, refuse: Refuse): GgufKeys {
  if (!truncate) throw refuse('stretches its positions between places that are no whole numbers (truncate)');
  return {
    'rope.scaling.type': text('yarn'),
    'rope.scaling.factor': float(factor),
    'rope.scaling.original_context_length': whole(originalMaxPositions),
    // beside what llama.cpp multiplies by itself
    'rope.scaling.attn_factor': float(attentionFactor / (1 + 0.1 * Math.log(factor))),
    'rope.scaling.yarn_beta_fast': float(betaFast),
    'rope.scaling.yarn_beta_slow': float(betaSlow),
  };
}
