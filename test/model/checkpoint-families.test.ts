/** What a family's configuration may not say, and what it may leave out. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { loadModel, tokenNll } from '../../lib/model';
import type { GlmConfig } from '../../lib/model/glm';
import { changeConfig, copyOf, refused } from './checkpoint-copies';
import { changeTensors, fixtures, logitsOf } from './support';

before(() => useDevice('cpu'));

test('a Gemma 3 model that bounds its scores, or looks ahead, is refused', async () => {
  for (const change of [{ final_logit_softcapping: 30 }, { attn_logit_softcapping: 50 }, { use_bidirectional_attention: true }]) {
    const folder = copyOf('gemma3');
    changeConfig(folder, (json) => Object.assign(json, change));
    const [[key, value]] = Object.entries(change);
    await refused(folder, `"${key}" is ${value}`, 'as in the Gemma 3 models for text');
  }
});

test('a Gemma 4 model with experts, or one that looks ahead, or whose layers cannot be as it says, is refused', async () => {
  const both = { full_attention: { rope_type: 'linear', factor: 2 }, sliding_attention: { rope_type: 'default' } };
  for (const [change, ...named] of [
    [{ enable_moe_block: true }, '"enable_moe_block" is true', 'as in the Gemma 4 models without experts'],
    [{ use_bidirectional_attention: 'all' }, '"use_bidirectional_attention" is "all"', 'null or "vision", as in models that write'],
    [{ num_kv_shared_layers: 3 }, '"num_kv_shared_layers" is 3', 'a layer of each kind has keys and values of its own'],
    [{ num_kv_shared_layers: 4 }, '"num_kv_shared_layers" is 4'],
    [{ vocab_size_per_layer_input: 60 }, '"vocab_size_per_layer_input" is 60', 'vocab_size, which is 64'],
    [{ rope_parameters: both }, 'RoPE of type "linear" is not supported; supported are default and proportional'],
    [{ rope_parameters: { full_attention: both.sliding_attention } }, 'an object that has "sliding_attention"'],
    [{ per_layer_config: { 0: { head_dim: 16 } } }, 'layers of one kind must have the same'],
    [{ per_layer_config: { 0: { skip: ['mlp'] } } }, 'nothing but head_dim and num_key_value_heads of one layer'],
    [{ per_layer_config: { 7: {} } }, 'in "per_layer_config": "7"', 'one of the 4 layers by its number'],
    [
      { per_layer_config: undefined, num_global_key_value_heads: 3 },
      '"num_global_key_value_heads" is 3',
      'a divisor of num_attention_heads',
    ],
  ] as const) {
    const folder = copyOf('gemma4');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('a Gemma 2 or nanochat model whose cap is none, or a Gemma that looks ahead, is refused', async () => {
  for (const [variant, change, expected] of [
    ['gemma2', { attn_logit_softcapping: 0 }, 'a number above 0'],
    ['gemma2', { final_logit_softcapping: '30' }, 'a number above 0'],
    ['nanochat', { final_logit_softcapping: -15 }, 'a number above 0'],
    ['gemma1', { use_bidirectional_attention: true }, 'null, as in models that write'],
    ['gemma2', { use_bidirectional_attention: true }, 'null, as in models that write'],
    ['gemma2', { layer_types: ['full_attention'] }, '"sliding_attention" or "full_attention" for each of the 2 layers'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    const [[key, value]] = Object.entries(change);
    await refused(folder, `"${key}" is ${JSON.stringify(value)}`, expected);
  }
});

test('the base of a Hunyuan model grows with alpha, which has to be a number, and its texts are as long as it says', async () => {
  const folder = copyOf('hunyuan-old-keys');
  const model = await loadModel(folder);
  assert.equal(model.config.positionLimit, 32);
  model.dispose();
  changeConfig(folder, (json) => Object.assign(json, { rope_scaling: { type: 'dynamic', alpha: -1, factor: 1 } }));
  await refused(folder, '"alpha" is -1', 'a number above 0');
  changeConfig(folder, (json) => Object.assign(json, { rope_scaling: { type: 'dynamic', factor: 2 } }));
  const stretching = await loadModel(folder);
  assert.equal(stretching.config.positionLimit, Number.POSITIVE_INFINITY);
  stretching.dispose();
});

test('a checkpoint may call its class as BigCode and BigScience once did', async () => {
  for (const [variant, name] of [
    ['gpt_bigcode-old-keys', 'GPTBigCodeLMHeadModel'],
    ['bloom-old-keys', 'BloomModel'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, { architectures: [name] }));
    const model = await loadModel(folder);
    assert.equal(model.config.modelType, variant.replace('-old-keys', ''));
    model.dispose();
  }
});

test('a StarCoder2, StarCoder or BLOOM model that says what cannot be computed is refused', async () => {
  for (const [variant, change, expected] of [
    ['starcoder2', { sliding_window: 0 }, 'a whole number of at least 1'],
    ['starcoder2', { use_bias: 1 }, 'true or false'],
    ['gpt_bigcode', { add_cross_attention: true }, 'false: a model that reads text alone'],
    ['gpt_bigcode', { multi_query: 'yes' }, 'true or false'],
    ['bloom', { slow_but_exact: true, pretraining_tp: 2 }, 'false: matrices that are multiplied as a whole'],
    ['bloom', { n_head: 7 }, 'a multiple of n_head, which is 7'],
    ['bloom-old-keys', { num_attention_heads: 5 }, 'a multiple of num_attention_heads, which is 5'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    const [[key, value]] = Object.entries(change);
    await refused(folder, key, String(value), expected);
  }
});

test('a Phi that normalizes queries and keys, and a StableLM, have heads that share the features of the states', async () => {
  for (const [variant, change, ...named] of [
    ['phi', { head_dim: 16 }, '"head_dim" is 16', 'hidden_size / num_attention_heads, which is 8'],
    ['stablelm', { head_dim: 4 }, '"head_dim" is 4', 'hidden_size / num_attention_heads, which is 8'],
    // what its class in transformers takes where none are named
    ['stablelm', { num_key_value_heads: undefined }, '"num_key_value_heads" is 32', 'a divisor of num_attention_heads, which is 4'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, ...named);
  }
});

test('the norms of the heads of a StableLM are all there, a vector each', async () => {
  const name = 'model.layers.0.self_attn.k_layernorm.norms.1.weight';
  const folder = copyOf('stablelm');
  await changeTensors(folder, (tensors) => tensors.set(name, { shape: [4], data: new Float32Array(4) }));
  await refused(folder, `"${name}" has shape [4], but config.json asks for [8]`);
  await changeTensors(folder, (tensors) => tensors.delete(name));
  await refused(folder, `"${name}" is missing`);
});

test('a Ministral 3 model whose queries grow by no number, or from nowhere, is refused', async () => {
  for (const [change, ...named] of [
    [{ llama_4_scaling_beta: -1 }, '"llama_4_scaling_beta" is -1', 'a number of at least 0'],
    [{ llama_4_scaling_beta: undefined }, '"llama_4_scaling_beta" is missing'],
    [{ rope_type: 'default', original_max_position_embeddings: undefined }, '"original_max_position_embeddings" is missing'],
    [{ truncate: 'no' }, '"truncate" is "no"', 'true or false'],
  ] as const) {
    const folder = copyOf('ministral3');
    changeConfig(folder, (json) => Object.assign(json.rope_parameters as object, change));
    await refused(folder, 'config.json, in "rope_parameters"', ...named);
  }
});

test('an EXAONE 4 model without a window where layers have one, or without the kinds of its layers, is refused', async () => {
  for (const [change, ...named] of [
    [{ sliding_window: null }, '"sliding_window" is missing'],
    [{ layer_types: null, sliding_window_pattern: 'LLLG' }, '"sliding_window_pattern" is "LLLG"', 'where there are no "layer_types"'],
    [{ layer_types: ['full_attention'] }, '"sliding_attention" or "full_attention" for each of the 2 layers'],
  ] as const) {
    const folder = copyOf('exaone4');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('a Cohere model whose heads are normalized, or a Cohere 2 without a window, is refused', async () => {
  for (const [variant, change, ...named] of [
    ['cohere', { use_qk_norm: true }, '"use_qk_norm" is true', 'false'],
    ['cohere2', { sliding_window: null }, '"sliding_window" is missing'],
    ['cohere2', { logit_scale: 0 }, '"logit_scale" is 0', 'a number above 0'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('an OLMo model clips by a number above 0, or not at all', async () => {
  for (const bound of [0, -8, 'no']) {
    const folder = copyOf('olmo');
    changeConfig(folder, (json) => Object.assign(json, { clip_qkv: bound }));
    await refused(folder, 'config.json', `"clip_qkv" is ${JSON.stringify(bound)}`, 'a number above 0');
  }
});

test('a GPT-J or CodeGen model turns pairs of features, CodeGen has heads for four devices, and texts are as long as the table of positions', async () => {
  for (const [variant, change, ...named] of [
    ['gptj', { rotary_dim: 3 }, '"rotary_dim" is 3', 'an even number, at most the 8 features of a head'],
    ['codegen', { rotary_dim: null }, '"rotary_dim" is 64', 'an even number, at most the 4 features of a head'],
    ['codegen', { n_head: 2 }, '"n_head" is 2', 'a multiple of 4'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
  const model = await loadModel(path.join(fixtures, 'gptj'));
  await assert.rejects(logitsOf(model, new Array<number>(33).fill(5)), /33 tokens is longer than the 32 positions/);
  model.dispose();
});

test('half of a head of a GLM turns where its configuration does not say how much, and all of it where that is null', async () => {
  for (const [variant, share, features] of [
    ['glm-old-keys', undefined, 8],
    ['glm4-old-keys', null, 8],
    ['glm-old-keys', 0.75, 12],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, { partial_rotary_factor: share }));
    const model = await loadModel(folder);
    assert.equal((model.config as GlmConfig).rope.rotaryDim, features);
    model.dispose();
  }
});

test('a checkpoint whose weights are quantized is refused, also beside what reads pictures', async () => {
  for (const [variant, quantization_config, named] of [
    ['qwen2', { quant_method: 'bitsandbytes', load_in_4bit: true }, 'quant_method "bitsandbytes"'],
    ['ministral3-multimodal', { quant_method: 'fp8', activation_scheme: 'static' }, 'quant_method "fp8"'],
    ['qwen2', {}, 'quant_method undefined'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, { quantization_config }));
    await refused(folder, 'the weights are quantized', named, 'take the checkpoint in 16 or 32 bits');
  }
});

test('a SmolLM3 model that does not say of each layer whether it turns is refused', async () => {
  for (const layers of [[1], [1, 2], 'all']) {
    const folder = copyOf('smollm3');
    changeConfig(folder, (json) => Object.assign(json, { no_rope_layers: layers }));
    await refused(folder, `"no_rope_layers" is ${JSON.stringify(layers)}`, 'a 1 or a 0 for each of the 2 layers');
  }
});

test('a Granite 4.0 model whose layers are of no known kind is refused', async () => {
  for (const [change, ...named] of [
    [{ layer_types: ['attention'] }, '"layer_types" is ["attention"]', '"attention" or "mamba" for each of the 2 layers'],
    [{ layer_types: ['attention', 'conv'] }, '"layer_types" is ["attention","conv"]', '"attention" or "mamba"'],
  ] as const) {
    const folder = copyOf('granitemoehybrid');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('all layers of a Granite 4.0 model are of Mamba where the configuration does not say', async () => {
  const folder = copyOf('granitemoehybrid-mamba');
  changeConfig(folder, (json) => Object.assign(json, { layer_types: undefined }));
  await refused(folder, 'model.layers.1.mamba.');
});

test('a Granite 4.0 model whose parts of Mamba do not fit each other is refused', async () => {
  for (const [change, ...named] of [
    [{ mamba_n_heads: 5 }, '"mamba_n_heads" is 5', 'as many as make up 96 features with 24 each (mamba_d_head)'],
    [{ mamba_n_groups: 3 }, '"mamba_n_groups" is 3', 'a divisor of mamba_n_heads, which is 4'],
    [{ time_step_limit: [1] }, '"time_step_limit" is [1]', 'two numbers, the first no larger than the second'],
    [{ time_step_limit: [2, 1] }, '"time_step_limit" is [2,1]', 'two numbers'],
  ] as const) {
    const folder = copyOf('granitemoehybrid-mamba');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('a Falcon-H1 model whose multipliers are not as many as there are parts is refused', async () => {
  for (const [change, ...named] of [
    [{ ssm_multipliers: [1, 1, 1, 1] }, '"ssm_multipliers" is [1,1,1,1]', '5 numbers above 0'],
    [{ mlp_multipliers: [1, 0] }, '"mlp_multipliers" is [1,0]', '2 numbers above 0'],
    [{ mamba_d_ssm: null }, '"mamba_n_heads" is 4', 'as many as make up 64 features with 12 each (mamba_d_head)'],
  ] as const) {
    const folder = copyOf('falcon_h1');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('an LFM2 model that does not say of each layer whether it attends or reads its neighbours is refused', async () => {
  for (const layer_types of [['conv'], ['conv', 'full_attention', 'sliding_attention'], 'conv']) {
    const folder = copyOf('lfm2');
    changeConfig(folder, (json) => Object.assign(json, { layer_types }));
    await refused(folder, `"layer_types" is ${JSON.stringify(layer_types)}`, '"full_attention" or "conv" for each of the 3 layers');
  }
});

test('a Qwen3.5 model that does not say of each layer whether it attends to all tokens or keeps a state is refused', async () => {
  for (const layer_types of [['linear_attention'], ['linear_attention', 'full_attention', 'sliding_attention'], 'linear_attention']) {
    const folder = copyOf('qwen3_5');
    changeConfig(folder, (json) => Object.assign(json, { layer_types }));
    const named = '"full_attention" or "linear_attention" for each of the 3 layers';
    await refused(folder, `"layer_types" is ${JSON.stringify(layer_types)}`, named);
  }
});

test('a Qwen3.5 model whose heads of values do not share keys evenly is refused', async () => {
  const folder = copyOf('qwen3_5');
  changeConfig(folder, (json) => Object.assign(json, { linear_num_key_heads: 2, linear_num_value_heads: 3 }));
  await refused(folder, '"linear_num_value_heads" is 3', 'a multiple of linear_num_key_heads, which is 2');
});

test('a Phi-3 model with another RoPE than those of Phi-3, or without its factors, is refused', async () => {
  for (const [change, ...named] of [
    [{ rope_type: 'linear', factor: 4 }, 'RoPE of type "linear" is not supported', 'default and longrope'],
    [{ rope_type: 'longrope' }, '"short_factor" is undefined', 'each of the 3 pairs'],
    [{ type: 'su', short_factor: [1, 2], long_factor: [1, 2] }, '"short_factor" is [1,2]', 'each of the 3 pairs'],
  ] as const) {
    const folder = copyOf('phi3-longrope');
    changeConfig(folder, (json) => Object.assign(json, { rope_scaling: change, partial_rotary_factor: 0.75 }));
    await refused(folder, ...named);
  }
});

test('a Phi-3 model with LongRoPE reads texts as long as those of its pretraining', async () => {
  const model = await loadModel(path.join(fixtures, 'phi3-longrope'));
  assert.deepEqual([model.config.maxPositionEmbeddings, model.config.positionLimit], [256, 32]);
  await assert.rejects(tokenNll(model, new Array<number>(33).fill(5)), /A text of 33 tokens is longer than the 32 that the model can read/);
  model.dispose();
});

test('a GPT-NeoX model whose heads do not make up its features is refused', async () => {
  const folder = copyOf('gpt-neox-tied');
  changeConfig(folder, (json) => Object.assign(json, { head_dim: 4 }));
  await refused(folder, '"head_dim" is 4', 'hidden_size / num_attention_heads');
});

test('a share of the features that RoPE cannot turn is refused', async () => {
  for (const share of [3, 0.001]) {
    const folder = copyOf('gpt-neox-tied');
    changeConfig(folder, (json) => Object.assign(json, { rope_parameters: { rope_type: 'default', partial_rotary_factor: share } }));
    await refused(folder, 'RoPE turns features in pairs', 'partial_rotary_factor');
  }
});
