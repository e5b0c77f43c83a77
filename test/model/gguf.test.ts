/** GGUF files: their numbers, names, keys and tokens are those that llama.cpp computes with. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { addAdapter, exportGguf, GGUF_DTYPES, type GgufDtype, mergeAdapter } from '../../lib/model';
import { GGUF_FORMATS } from '../../lib/model/gguf-dtypes';
import { created, golden, loaded, open, refuses, temporaryFile, valuesOf, weightOf } from './gguf-files';
import { computesTheSame, withoutLlamaCpp } from './llama-cpp';
import { fixtures } from './support';

before(() => useDevice('cpu'));

test("numbers are encoded as ggml's own package does it", () => {
  const { values, bytes } = readJson(path.join(fixtures, 'gguf.json')) as { values: number[]; bytes: Record<GgufDtype, string> };
  for (const dtype of GGUF_DTYPES) {
    assert.equal(Buffer.from(GGUF_FORMATS[dtype].encode(Float32Array.from(values))).toString('hex'), bytes[dtype]);
    assert.equal(GGUF_FORMATS[dtype].bytes(values.length), bytes[dtype].length / 2);
  }
});

test('a Llama: keys, names, and queries and keys in pairs of features', async (t) => {
  const [file, model] = [temporaryFile(t), await loaded(t, golden('llama'))];
  await exportGguf(model, file, { dtype: 'f32' });
  const found = await open(file);
  const { metadata, tensorInfos } = found;
  const expected = {
    ...{ 'general.architecture': 'llama', 'general.file_type': 0, 'llama.block_count': 2, 'llama.context_length': 512 },
    ...{ 'llama.attention.head_count': 4, 'llama.attention.head_count_kv': 2, 'llama.rope.dimension_count': 16 },
    ...{ 'tokenizer.ggml.model': 'gpt2', 'tokenizer.ggml.pre': 'gpt-2', 'tokenizer.ggml.eos_token_id': model.tokenizer.eosId },
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(metadata[key], value, key);
  assert.equal(tensorInfos.length, model.parameters.size);
  assert.ok(tensorInfos.every(({ dtype, offset }) => dtype === 0 && offset % 32n === 0n));
  // columns come first there
  assert.deepEqual(tensorInfos.find(({ name }) => name === 'blk.1.ffn_down.weight')?.shape, [160n, 64n]);
  assert.deepEqual(valuesOf(file, found, 'blk.1.ffn_down.weight'), weightOf(model, 'model.layers.1.mlp.down_proj.weight'));
  const [paired, halves] = [valuesOf(file, found, 'blk.0.attn_k.weight'), weightOf(model, 'model.layers.0.self_attn.k_proj.weight')];
  const row = (values: Float32Array, index: number) => [...values.subarray(64 * index, 64 * (index + 1))];
  for (const head of [0, 1])
    for (let i = 0; i < 8; i++) {
      assert.deepEqual(row(paired, 16 * head + 2 * i), row(halves, 16 * head + i));
      assert.deepEqual(row(paired, 16 * head + 2 * i + 1), row(halves, 16 * head + 8 + i));
    }
});

test('Llama 3 has the stretching of its positions as a tensor, a linear one as a key', async (t) => {
  const [file, other] = [temporaryFile(t), temporaryFile(t)];
  await exportGguf(await loaded(t, path.join(fixtures, 'llama-llama3')), file, { dtype: 'f32' });
  const factors = valuesOf(file, await open(file), 'rope_freqs.weight');
  const { rope_scaling, rope_parameters } = readJson(path.join(fixtures, 'llama-llama3', 'config.json')) as Record<
    string,
    { factor: number }
  >;
  const { factor } = rope_scaling ?? rope_parameters;
  assert.ok(factors.every((x) => x >= 1 && x < factor + 1e-5));
  assert.ok(Math.abs((factors.at(-1) ?? 0) - factor) < 1e-5);
  await exportGguf(await loaded(t, path.join(fixtures, 'llama-linear')), other);
  const { metadata } = await open(other);
  assert.equal(metadata['llama.rope.scaling.type'], 'linear');
});

test('GPT-NeoX has queries, keys and values one after the other, and a head of its own', async (t) => {
  const [file, model] = [temporaryFile(t), await loaded(t, golden('gpt_neox'))];
  await exportGguf(model, file, { dtype: 'f32' });
  const found = await open(file);
  const values = valuesOf(file, found, 'blk.0.attn_qkv.weight');
  const inFile = weightOf(model, 'gpt_neox.layers.0.attention.query_key_value.weight');
  const { numAttentionHeads: heads, headDim, hiddenSize } = model.config;
  const size = headDim * hiddenSize;
  // the keys of the last head
  assert.deepEqual(
    values.subarray((2 * heads - 1) * size, 2 * heads * size),
    inFile.subarray((3 * (heads - 1) + 1) * size, (3 * (heads - 1) + 2) * size),
  );
  assert.ok(found.tensorInfos.some(({ name }) => name === 'output.weight'));
  assert.equal(found.metadata['gptneox.use_parallel_residual'], true);
});

/** A model of Gemma 3's build that llama.cpp computes. */
const GEMMA = {
  ...{ model_type: 'gemma3_text', vocab_size: 1024, hidden_size: 64, intermediate_size: 128, num_hidden_layers: 7, num_attention_heads: 4 },
  ...{
    num_key_value_heads: 2,
    head_dim: 32,
    query_pre_attn_scalar: 32,
    max_position_embeddings: 512,
    sliding_window: 8,
    initializer_range: 0.25,
  },
};

/** One of Gemma 2's, whose scores and logits reach beyond their caps. */
const GEMMA2 = { ...GEMMA, model_type: 'gemma2', num_hidden_layers: 4, attn_logit_softcapping: 2, final_logit_softcapping: 5 };

/** One of the small Gemma 4's. */
const GEMMA4 = {
  ...{ ...GEMMA, model_type: 'gemma4_text', num_hidden_layers: 6, hidden_size_per_layer_input: 32, global_head_dim: 64 },
  ...{ num_kv_shared_layers: 3, use_double_wide_mlp: true, final_logit_softcapping: 5, initializer_range: 0.1 },
  layer_types: [
    ...new Array<string>(2).fill('sliding_attention'),
    'full_attention',
    'sliding_attention',
    'sliding_attention',
    'full_attention',
  ],
};

/** One as the large ones, but that its positions are stretched, half of a head turns, and the head is a matrix of its own. */
const DENSE_GEMMA4 = {
  ...{ ...GEMMA4, num_kv_shared_layers: 0, hidden_size_per_layer_input: 0, use_double_wide_mlp: false, final_logit_softcapping: null },
  ...{ attention_k_eq_v: true, num_global_key_value_heads: 1, tie_word_embeddings: false },
  rope_parameters: {
    full_attention: { rope_type: 'proportional', partial_rotary_factor: 0.5, factor: 4, rope_theta: 500 },
    sliding_attention: { rope_type: 'default', rope_theta: 300 },
  },
};

/** A model of a build with a gated MLP. */
const GATED = {
  ...{ vocab_size: 1024, hidden_size: 64, intermediate_size: 96, num_attention_heads: 4, num_key_value_heads: 2, pad_token_id: 1 },
  ...{ max_position_embeddings: 512, initializer_range: 0.15 },
};

/** A model of OLMo 3's build, in some layers with a window, in the others with stretched positions. */
const OLMO3 = {
  ...{ ...GATED, model_type: 'olmo3', num_hidden_layers: 5, sliding_window: 8 },
  rope_scaling: { rope_type: 'yarn', factor: 4, attention_factor: 1.3, original_max_position_embeddings: 16 },
};

/** A model of Cohere 2's build. */
const COHERE2 = { ...GATED, model_type: 'cohere2', num_hidden_layers: 5, sliding_window: 8, logit_scale: 0.5, rope_theta: 500 };

/** A model of the small EXAONE 4's build. */
const EXAONE4 = {
  ...{ ...GATED, model_type: 'exaone4', num_hidden_layers: 3, sliding_window: null, rope_theta: 10000 },
  rope_scaling: { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 },
};

/** A model of LFM2's build that ends with a convolution, and has a head of its own. */
const LFM2 = {
  ...{ ...GATED, model_type: 'lfm2', num_hidden_layers: 4, full_attn_idxs: [0, 2], conv_L_cache: 5, tie_embedding: false },
  ...{ block_multiple_of: 8, rope_scaling: { rope_type: 'linear', factor: 4 }, rope_theta: 500 },
};

/** A model of StarCoder2's build, with stretched positions. */
const STARCODER2 = {
  ...{ ...GATED, model_type: 'starcoder2', num_hidden_layers: 2, sliding_window: 48, tie_word_embeddings: false },
  ...{ rope_scaling: { rope_type: 'linear', factor: 4 }, rope_theta: 500 },
};

/** One of StarCoder's, whose heads have keys of their own. */
const STARCODER = {
  ...{ model_type: 'gpt_bigcode', multi_query: false, vocab_size: 1024, n_embd: 64, n_layer: 2, n_head: 4, n_positions: 512 },
  ...{ initializer_range: 0.15 },
};

/** One of BLOOM's, with slopes from between those of a power of two. */
const BLOOM = { model_type: 'bloom', vocab_size: 1024, hidden_size: 96, n_layer: 2, n_head: 6, seq_length: 64, initializer_range: 0.15 };

test('Gemma 4 says layer by layer what differs, and which pairs of features turn where layers see everything', async (t) => {
  const [file, model] = [temporaryFile(t), await created(t, GEMMA4)];
  await exportGguf(model, file, { dtype: 'f32' });
  const found = await open(file);
  for (const [key, value] of Object.entries({
    ...{ feed_forward_length: [128, 128, 128, 256, 256, 256], embedding_length_per_layer_input: 32, final_logit_softcapping: 5 },
    ...{ 'attention.head_count_kv': 2, 'attention.shared_kv_layers': 3, 'attention.sliding_window': 8 },
    'attention.sliding_window_pattern': [true, true, false, true, true, false],
    ...{ 'attention.key_length': 64, 'attention.key_length_swa': 32, 'rope.dimension_count': 64, 'rope.dimension_count_swa': 32 },
    ...{ 'rope.freq_base': 1e6, 'rope.freq_base_swa': 1e4 },
  }))
    assert.deepEqual(found.metadata[`gemma4.${key}`], value, key);
  const factors = valuesOf(file, found, 'rope_freqs.weight');
  assert.deepEqual([...factors], [...new Array<number>(8).fill(1), ...new Array<number>(24).fill(Math.fround(1e30))]);
  assert.deepEqual([...valuesOf(file, found, 'blk.5.layer_output_scale.weight')], [1]);
  const table = weightOf(model, 'model.embed_tokens_per_layer.weight');
  assert.deepEqual(valuesOf(file, found, 'per_layer_token_embd.weight'), table);
  // norms lie as they are in checkpoints
  assert.deepEqual([...valuesOf(file, found, 'blk.0.post_norm.weight')], new Array(64).fill(1));
  assert.equal(found.tensorInfos.length, model.parameters.size + 1);
  const other = { ...GEMMA4, layer_types: [...GEMMA4.layer_types].reverse() };
  await refuses(t, await created(t, other), /has layers that read the keys of other ones than in a Gemma 4 usually/);
});

test('Gemma 3 has the weights of its norms whole, and a window', async (t) => {
  const [file, model] = [temporaryFile(t), await created(t, GEMMA)];
  await exportGguf(model, file, { dtype: 'bf16' });
  const found = await open(file);
  assert.ok(valuesOf(file, found, 'blk.6.post_ffw_norm.weight').every((value) => value === 1));
  assert.equal(found.metadata['gemma3.attention.sliding_window'], 8);
  assert.equal(found.metadata['general.file_type'], 32);
});

test('Gemma 2 has the caps of its scores and logits', async (t) => {
  const file = temporaryFile(t);
  await exportGguf(await created(t, GEMMA2), file, { dtype: 'bf16' });
  const { metadata } = await open(file);
  assert.deepEqual([metadata['gemma2.attn_logit_softcapping'], metadata['gemma2.final_logit_softcapping']], [2, 5]);
  assert.equal(metadata['gemma2.attention.sliding_window'], 8);
});

test('an embedding that has more rows than there are tokens gets tokens that are never used', async (t) => {
  const [file, model] = [temporaryFile(t), await created(t, { ...GEMMA, vocab_size: 1088 })];
  await exportGguf(model, file);
  const { metadata } = await open(file);
  const [tokens, kinds] = ['tokens', 'token_type'].map((key) => metadata[`tokenizer.ggml.${key}`] as unknown[]);
  assert.equal(tokens.length, 1088);
  assert.deepEqual([tokens[1087], kinds[1087], kinds[model.tokenizer.eosId], kinds[500]], ['[PAD1087]', 5, 3, 1]);
});

test('a window, and the length of the texts that a BLOOM was trained on, are how long a text may become', async (t) => {
  for (const [config, key, length] of [
    [STARCODER2, 'starcoder2.context_length', 48],
    [BLOOM, 'bloom.context_length', 64],
  ] as const) {
    const file = temporaryFile(t);
    await exportGguf(await created(t, config), file);
    assert.equal((await open(file)).metadata[key], length);
  }
});

test('what an adapter adds is merged first', async (t) => {
  const [file, model] = [temporaryFile(t), await loaded(t, golden('llama'))];
  addAdapter(model, {}, { seed: 0 });
  await assert.rejects(
    exportGguf(model, file),
    /has an adapter, which a GGUF file has no place for; merge it first \(mergeAdapter\(model\)\)/,
  );
  mergeAdapter(model);
  await exportGguf(model, file);
  assert.ok(existsSync(file));
});

describe('refused in one sentence, with nothing written:', () => {
  for (const [folder, pattern] of [
    [golden('opt'), /is of the family opt, which llama\.cpp does not compute/],
    [golden('gpt_neo'), /is of the family gpt_neo/],
    [golden('gptj'), /is of the family gptj/],
    [golden('codegen'), /is of the family codegen/],
    [path.join(fixtures, 'lfm2'), /has biases in its convolutions/],
    [path.join(fixtures, 'lfm2-old-keys'), /has heads of another width in a model of LFM2/],
    [path.join(fixtures, 'lfm2-defaults'), /has no layers in a model of LFM2 but those of the kind full_attention/],
    [path.join(fixtures, 'llama-dynamic'), /dynamic RoPE/],
    [path.join(fixtures, 'llama-gelu'), /has the activation gelu/],
    [path.join(fixtures, 'gpt-neox-odd'), /turns 3 features of a head/],
    [path.join(fixtures, 'gpt-neox-tied'), /has no biases in a model of GPT-NeoX/],
    [path.join(fixtures, 'gpt2-untied'), /scales the scores of its layers otherwise/],
    [path.join(fixtures, 'qwen3'), /has biases in a model of Qwen3/],
    [path.join(fixtures, 'olmo'), /has biases in a model of OLMo/],
    [path.join(fixtures, 'olmo2'), /has biases in a model of OLMo/],
    [golden('olmo3'), /has windows in other layers than an OLMo 3 usually does/],
    [path.join(fixtures, 'gemma1'), /has the activation silu/],
    [path.join(fixtures, 'cohere'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'gemma4'), /has the activation silu/],
    [golden('cohere2'), /has windows in other layers than a Cohere 2 usually does/],
    [path.join(fixtures, 'exaone4'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'exaone4-old-keys'), /has heads of another width in a model of EXAONE 4/],
    [golden('exaone4'), /has windows in other layers than an EXAONE 4 usually does/],
    [path.join(fixtures, 'ministral3'), /stretches the positions of a Ministral 3 otherwise/],
    [path.join(fixtures, 'glm-old-keys'), /has heads of another width in a model of GLM/],
    [path.join(fixtures, 'glm4'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'hunyuan'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'ernie4_5'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'starcoder2'), /has the activation relu/],
    [path.join(fixtures, 'gpt_bigcode'), /has the activation relu/],
    [path.join(fixtures, 'bloom'), /adds what it normalized, in a model of BLOOM/],
    [path.join(fixtures, 'phi'), /has the activation gelu/],
    [path.join(fixtures, 'phi-defaults'), /has heads of another width in a model of Phi/],
    [path.join(fixtures, 'stablelm-defaults'), /has the activation gelu_pytorch_tanh/],
    [path.join(fixtures, 'smollm3'), /turns in other layers than a SmolLM3 usually does/],
  ] as const)
    test(path.basename(folder) === 'model' ? path.basename(path.dirname(folder)) : path.basename(folder), async (t) =>
      refuses(t, await loaded(t, folder), pattern),
    );

  test('a Gemma 3 whose layers are not those of the released ones', async (t) => {
    await refuses(t, await created(t, { ...GEMMA, sliding_window_pattern: 2 }), /has windows in other layers/);
    await refuses(t, await created(t, { ...GEMMA, query_pre_attn_scalar: 64 }), /scales the scores of a Gemma 3 by 0\.125/);
    await refuses(t, await created(t, { ...GEMMA, rope_local_base_freq: 5000 }), /by the base 5000/);
  });

  test('a Gemma 2 that is not as the released ones, and nanochat', async (t) => {
    for (const [change, pattern] of [
      [{ attn_logit_softcapping: null }, /does not soft-cap the scores and the logits of a Gemma 2/],
      [{ final_logit_softcapping: null }, /does not soft-cap the scores and the logits of a Gemma 2/],
      [{ tie_word_embeddings: false }, /has an output head of its own in a model of Gemma 2/],
      [{ rope_scaling: { rope_type: 'linear', factor: 2 } }, /stretches the positions of a Gemma 2/],
      [{ query_pre_attn_scalar: 64 }, /scales the scores of a Gemma 2 by 0\.125/],
      [{ layer_types: new Array(4).fill('full_attention') }, /has windows in other layers than a Gemma 2 usually does/],
    ] as const)
      await refuses(t, await created(t, { ...GEMMA2, ...change }), pattern);
    await refuses(t, await loaded(t, golden('nanochat')), /is of the family nanochat/);
  });

  test('a StarCoder2 without biases, or with heads of another width, and a StarCoder that does not scale its scores', async (t) => {
    await refuses(t, await created(t, { ...STARCODER2, use_bias: false }), /has no biases in a model of StarCoder2/);
    await refuses(t, await created(t, { ...STARCODER2, head_dim: 32 }), /has heads of another width in a model of StarCoder2/);
    await refuses(t, await created(t, { ...STARCODER, scale_attn_weights: false }), /does not scale its scores by the width of a head/);
  });

  test('a number beyond float16, a number format that there is none of, another name', async (t) => {
    const model = await loaded(t, golden('llama'));
    const weight = model.parameters.get('model.layers.0.mlp.up_proj.weight');
    weight?.assign(weight.add(70000));
    await refuses(
      t,
      model,
      /The tensor blk\.0\.ffn_up\.weight holds [67]\d{4}\S*, beyond the range of f16 \(±65504\); choose the dtype bf16 or f32/,
    );
    await refuses(t, model, /There is no dtype "q4" of a GGUF file/, { dtype: 'q4' as GgufDtype });
    await assert.rejects(exportGguf(model, 'model.bin'), /model\.bin is no name of a GGUF file/);
  });

  test('weights that are no numbers, or too large for the scales of 8 bits', async (t) => {
    const model = await loaded(t, golden('llama'));
    const weight = model.parameters.get('model.layers.0.mlp.up_proj.weight');
    weight?.assign(weight.add(9e6));
    await refuses(t, model, /beyond the range of q8_0 \(±8319008\); choose the dtype bf16 or f32/, { dtype: 'q8_0' });
    weight?.assign(weight.mul(Number.NaN));
    for (const dtype of GGUF_DTYPES) await refuses(t, model, /The tensor blk\.0\.ffn_up\.weight holds NaN/, { dtype });
  });

  test('heads of another width in a Qwen2, and the scale of scores that llama.cpp gives the largest Gemma 3', async (t) => {
    const qwen = { ...GEMMA, model_type: 'qwen2', head_dim: 24, num_hidden_layers: 1 };
    await refuses(t, await created(t, qwen), /has heads of another width in a model of Qwen2/);
    const largest = {
      ...GEMMA,
      num_hidden_layers: 62,
      hidden_size: 16,
      intermediate_size: 16,
      num_attention_heads: 2,
      num_key_value_heads: 1,
    };
    await refuses(t, await created(t, largest), /scales the scores of a Gemma 3/);
    await exportGguf(await created(t, { ...largest, query_pre_attn_scalar: 8 }), temporaryFile(t));
  });
});

describe('llama.cpp itself', () => {
  for (const [name, make] of [
    ...[
      'llama',
      'ernie4_5',
      'hunyuan_v1_dense',
      'gpt_bigcode',
      'bloom',
      'gemma',
      'gemma4_dense',
      'ministral3',
      'qwen3',
      'olmo',
      'glm',
      'glm4',
      'olmo2',
      'granite',
      'granitemoehybrid',
      'lfm2',
      'gpt2',
      'gpt_neox',
      'phi',
      'stablelm',
      'gemma',
    ].map((family) => [family, (t: TestContext) => loaded(t, golden(family))] as const),
    ...[
      'llama-biases',
      'olmo-old-keys',
      'glm',
      'glm4-old-keys',
      'llama-llama3',
      'llama-linear',
      'qwen2',
      'granite',
      'granitemoehybrid',
      'granitemoehybrid-nope',
      'phi3-longrope',
      'gpt-neox-serial',
      'phi-old-keys',
      'stablelm',
    ].map((fixture) => [fixture, (t: TestContext) => loaded(t, path.join(fixtures, fixture))] as const),
    ['gemma3', (t: TestContext) => created(t, GEMMA)] as const,
    ['gemma2', (t: TestContext) => created(t, GEMMA2)] as const,
    ['gemma4', (t: TestContext) => created(t, GEMMA4)] as const,
    ['gemma4 as the large ones', (t: TestContext) => created(t, DENSE_GEMMA4)] as const,
    ['exaone4', (t: TestContext) => created(t, EXAONE4)] as const,
    ['cohere2', (t: TestContext) => created(t, COHERE2)] as const,
    ['cohere', (t: TestContext) => created(t, { ...GATED, model_type: 'cohere', num_hidden_layers: 2 })] as const,
    ['olmo3', (t: TestContext) => created(t, OLMO3)] as const,
    ['lfm2 with longer convolutions', (t: TestContext) => created(t, LFM2)] as const,
    ['starcoder2 with stretched positions', (t: TestContext) => created(t, STARCODER2)] as const,
    ['gpt_bigcode with keys for each head', (t: TestContext) => created(t, STARCODER)] as const,
    ['bloom with six heads', (t: TestContext) => created(t, BLOOM)] as const,
    ['smollm3', (t: TestContext) => created(t, { ...GATED, model_type: 'smollm3', num_hidden_layers: 5 })] as const,
  ])
    test(`computes the same tokens and probabilities: ${name}`, { skip: withoutLlamaCpp }, async (t) =>
      computesTheSame(await make(t), temporaryFile(t)),
    );
});
