/** What llama.cpp calls the parts of models whose layers keep a state, and how they lie in a file. */

import type { FalconH1Config } from './falcon-h1';
import { type GgufKeys, whole, wholes } from './gguf-keys';
import { type GgufLayout, NORMS_OF_HEADS, type Refuse, ROTARY_NAMES, rotaryKeys } from './gguf-layout';
import { behind, groupsInTurn, inEachRow } from './gguf-order';
import type { GraniteConfig } from './granite';
import type { Mamba2Config } from './mamba2';
import type { Qwen35Config } from './qwen3-5';

/** In llama.cpp a state is as wide as it is high, and its heads of values take the heads of keys in turn. */
export function qwen35(config: Qwen35Config, refuse: Refuse): GgufLayout {
  const { hiddenAct, rope, rmsNormEps, layerTypes, hiddenSize, linear } = config;
  const { keyHeads, valueHeads, keyDim, valueDim, taps } = linear;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (config.attentionBias) throw refuse('has biases in a model of Qwen3.5');
  if (new Set(layerTypes).size === 1) throw refuse(`has no layers in a model of Qwen3.5 but those of the kind ${layerTypes[0]}`);
  if (keyDim !== valueDim) throw refuse(`keeps states of ${keyDim} by ${valueDim} (linear_key_head_dim, linear_value_head_dim)`);
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Qwen3.5');
  if (rope.rotaryDim % 2 !== 0) throw refuse(`turns ${rope.rotaryDim} features of a head`);
  // it brings queries and keys to one length with the epsilon of the norms, where that makes no difference yet
  if (rmsNormEps > 1e-4) throw refuse(`has norms with the epsilon ${rmsNormEps} (rms_norm_eps) in a model of Qwen3.5`);
  const inTurn = (values: Float32Array): Float32Array => groupsInTurn(values, keyHeads, valueHeads);
  return {
    architecture: 'qwen35',
    keys: {
      ...rotaryKeys(config),
      ...attendingKeys(layerTypes.map((type) => type === 'full_attention')),
      'rope.dimension_sections': wholes(sectionsOf(rope.rotaryDim / 2)),
      'ssm.conv_kernel': whole(taps),
      'ssm.state_size': whole(keyDim),
      'ssm.group_count': whole(keyHeads),
      'ssm.time_step_rank': whole(valueHeads),
      'ssm.inner_size': whole(valueHeads * valueDim),
    },
    names: {
      ...ROTARY_NAMES,
      ...NORMS_OF_HEADS,
      'model.layers.#.post_attention_layernorm': 'blk.#.post_attention_norm',
      'model.layers.#.linear_attn.in_proj_qkv': 'blk.#.attn_qkv',
      'model.layers.#.linear_attn.in_proj_z': 'blk.#.attn_gate',
      'model.layers.#.linear_attn.in_proj_a': 'blk.#.ssm_alpha',
      'model.layers.#.linear_attn.in_proj_b': 'blk.#.ssm_beta',
      'model.layers.#.linear_attn.conv1d': 'blk.#.ssm_conv1d',
      'model.layers.#.linear_attn.dt_bias': 'blk.#.ssm_dt.bias',
      'model.layers.#.linear_attn.A_log': 'blk.#.ssm_a',
      'model.layers.#.linear_attn.norm': 'blk.#.ssm_norm',
      'model.layers.#.linear_attn.out_proj': 'blk.#.ssm_out',
    },
    change: (name, values) => {
      const [module, part] = name
        .replace(/\.weight$/, '')
        .split('.')
        .slice(-2);
      // checkpoints have what the weights of the other norms differ from 1 by
      if (module !== 'linear_attn') return /norm$/.test(part) ? values.map((value) => value + 1) : values;
      switch (part) {
        case 'norm':
          return values;
        case 'A_log':
          return inTurn(values).map((value) => -Math.exp(value));
        case 'in_proj_qkv':
        case 'conv1d':
          return behind(values, 2 * keyHeads * keyDim * (part === 'conv1d' ? taps : hiddenSize), inTurn);
        case 'out_proj':
          return inEachRow(values, valueHeads * valueDim, inTurn);
        default:
          return inTurn(values);
      }
    },
  };
}

/** Which layers attend: every so many, or else what each of them does. */
function attendingKeys(attends: readonly boolean[]): GgufKeys {
  const interval = attends.indexOf(true) + 1;
  const isRegular = attends.every((does, layer) => does === ((layer + 1) % interval === 0));
  return isRegular
    ? { full_attention_interval: whole(interval) }
    : { 'attention.recurrent_layers': wholes(attends.map((does) => (does ? 0 : 1))) };
}

/** llama.cpp gives the pairs of features that turn to three positions in turn, which are one in a text; it wants to know how many each gets. */
const sectionsOf = (pairs: number): number[] => [0, 1, 2].map((place) => Math.ceil((pairs - place) / 3)).concat(0);

/**
 * What a family with layers of Mamba 2 has beside the rest; in llama.cpp their convolutions are followed by silu, and no time step is limited.
 * @param layers which are of Mamba 2
 */
function mamba2(
  config: Mamba2Config,
  layers: readonly boolean[],
  refuse: Refuse,
): Required<Pick<GgufLayout, 'keys' | 'names' | 'vectors' | 'change' | 'more'>> {
  const { heads, headDim, groups, stateSize, taps, convBias, hiddenAct, timeStepLimit } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (timeStepLimit[0] > 0 || timeStepLimit[1] < Number.POSITIVE_INFINITY)
    throw refuse(`keeps time steps between ${timeStepLimit.join(' and ')} (time_step_limit)`);
  if (config.inBias || config.outBias) throw refuse('has biases around its states');
  if (taps === 1) throw refuse('has convolutions of one token');
  const zeros = () => new Float32Array(heads * headDim + 2 * groups * stateSize);
  return {
    keys: {
      'ssm.conv_kernel': whole(taps),
      'ssm.state_size': whole(stateSize),
      'ssm.group_count': whole(groups),
      'ssm.time_step_rank': whole(heads),
      'ssm.inner_size': whole(heads * headDim),
    },
    names: {
      'model.layers.#.mamba.in_proj': 'blk.#.ssm_in',
      'model.layers.#.mamba.conv1d': 'blk.#.ssm_conv1d',
      'model.layers.#.mamba.dt_bias': 'blk.#.ssm_dt.bias',
      'model.layers.#.mamba.A_log': 'blk.#.ssm_a',
      'model.layers.#.mamba.D': 'blk.#.ssm_d',
      'model.layers.#.mamba.norm': 'blk.#.ssm_norm',
      'model.layers.#.mamba.out_proj': 'blk.#.ssm_out',
    },
    vectors: {
      'blk.#.ssm_a': [heads, 1],
      'blk.#.ssm_d': [heads, 1],
      'blk.#.ssm_norm.weight': [groups, (heads * headDim) / groups],
    },
    change: (name, values) => (name.endsWith('.A_log') ? values.map((value) => -Math.exp(value)) : values),
    // it adds them in any case
    more: Object.fromEntries(layers.flatMap((keeps, layer) => (keeps && !convBias ? [[`blk.${layer}.ssm_conv1d.bias`, zeros()]] : []))),
  };
}

/** A Granite 4.0 with layers of Mamba 2: those have no heads of keys there. @param dense the layout that it would have without */
export function granitehybrid({ mamba, hiddenSize, numKeyValueHeads }: GraniteConfig, dense: GgufLayout, refuse: Refuse): GgufLayout {
  if (!mamba) return dense;
  if (mamba.heads * mamba.headDim !== 2 * hiddenSize)
    throw refuse(`has states of ${mamba.heads * mamba.headDim} features, not twice as many as the model (mamba_expand)`);
  if (mamba.layers.every(Boolean)) throw refuse('has no layers in a model of Granite 4.0 H but those of Mamba');
  // llama.cpp would normalize each group by itself
  if (mamba.groups > 1) throw refuse(`has ${mamba.groups} groups of heads (mamba_n_groups) in a model of Granite 4.0 H`);
  const { keys, names, change, vectors, more } = mamba2(mamba, mamba.layers, refuse);
  return {
    ...dense,
    architecture: 'granitehybrid',
    keys: { ...dense.keys, 'attention.head_count_kv': wholes(mamba.layers.map((keeps) => (keeps ? 0 : numKeyValueHeads))), ...keys },
    names: { ...dense.names, ...names },
    vectors,
    more: { ...dense.more, ...more },
    change: (name, values) => (name.includes('.mamba.') ? change(name, values) : (dense.change?.(name, values) ?? values)),
  };
}

/** Of llama.cpp's weights all multipliers of the configuration are part, and so its head is not the embedding. */
export function falconH1(config: FalconH1Config, refuse: Refuse): GgufLayout {
  const { mamba, mambaNorm, multipliers, hiddenAct, rope, numHiddenLayers, hiddenSize } = config;
  if (hiddenAct !== 'silu' && hiddenAct !== 'swish') throw refuse(`has the activation ${hiddenAct}`);
  if (config.qkvBias || config.mlpBias) throw refuse('has biases in a model of Falcon-H1');
  if (mambaNorm === 'before gate') throw refuse('normalizes states before their gate (mamba_norm_before_gate)');
  if (rope.type === 'llama3') throw refuse('has the positions of Llama 3 in a model of Falcon-H1');
  const states = mamba2(mamba, new Array<boolean>(numHiddenLayers).fill(true), refuse);
  const factors = factorsOf(config);
  const [gate, values, keys] = [mamba.heads * mamba.headDim, mamba.heads * mamba.headDim, mamba.groups * mamba.stateSize];
  const ofRows = [gate, values, keys, keys, mamba.heads].flatMap((rows, i) => new Array<number>(rows).fill(multipliers.mambaParts[i]));
  return {
    architecture: 'falcon-h1',
    keys: { ...rotaryKeys(config), ...states.keys },
    names: {
      ...ROTARY_NAMES,
      ...states.names,
      'model.final_layernorm': 'output_norm',
      // llama.cpp looks for it without a `.weight`
      'model.layers.#.pre_ff_layernorm.weight': 'blk.#.ffn_norm',
      'model.layers.#.feed_forward.gate_proj': 'blk.#.ffn_gate',
      'model.layers.#.feed_forward.up_proj': 'blk.#.ffn_up',
      'model.layers.#.feed_forward.down_proj': 'blk.#.ffn_down',
    },
    change: (name, values) => {
      const factor = factors[name.split('.').at(-2) ?? ''] ?? 1;
      if (name.endsWith('.in_proj.weight')) return values.map((value, at) => value * factor * ofRows[Math.floor(at / hiddenSize)]);
      return factor === 1 ? states.change(name, values) : values.map((value) => value * factor);
    },
    vectors: states.vectors,
    more: states.more,
    repeatsHead: true,
  };
}

/** What the weights of layers are multiplied by, by the layers' names. */
function factorsOf({ multipliers }: FalconH1Config): Record<string, number> {
  const { embedding, logits, attentionIn, attentionOut, key, mambaIn, mambaOut, mlp } = multipliers;
  return {
    ...{ embed_tokens: embedding, lm_head: logits },
    ...{ q_proj: attentionIn, k_proj: attentionIn * key, v_proj: attentionIn, o_proj: attentionOut },
    ...{ in_proj: mambaIn, out_proj: mambaOut, gate_proj: mlp[0], down_proj: mlp[1] },
  };
}
