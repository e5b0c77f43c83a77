/** GGUF files of Qwen3.5: llama.cpp keeps the same states, and takes the heads of keys in turn. */
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { type CausalLM, createModel, exportGguf } from '../../lib/model';
import { ggufVocabulary } from '../../lib/model/gguf-vocabulary';
import { loadTokenizer, type Tokenizer } from '../../lib/text';
import { created, golden, loaded, open, refuses, temporaryFile, valuesOf, weightOf } from './gguf-files';
import { computesTheSame, withoutLlamaCpp } from './llama-cpp';
import { fixtures } from './support';

before(() => useDevice('cpu'));

/** Two heads of values for each of keys. */
const QWEN35 = {
  ...{ model_type: 'qwen3_5_text', vocab_size: 1024, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4, pad_token_id: 1 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32, max_position_embeddings: 512, initializer_range: 0.15 },
  ...{ linear_num_key_heads: 2, linear_num_value_heads: 4, linear_key_head_dim: 16, linear_value_head_dim: 16, tie_word_embeddings: true },
};

/** With other vectors than a fresh model's, most of which are alike in all features. */
async function varied(t: TestContext, config: Record<string, unknown>): Promise<CausalLM> {
  const model = await created(t, { ...QWEN35, ...config });
  for (const [i, variable] of [...model.parameters.values()].entries())
    if (variable.rank === 1)
      tf.tidy(() => variable.assign(tf.add(variable, tf.randomUniform(variable.shape, -0.7, 0.7, 'float32', i + 1))));
  return model;
}

test('keys, and weights as llama.cpp reads them', async (t) => {
  const [file, model] = [
    temporaryFile(t),
    await varied(t, { linear_num_value_heads: 6, rope_parameters: { partial_rotary_factor: 0.625 } }),
  ];
  await exportGguf(model, file, { dtype: 'f32' });
  const found = await open(file);
  const expected = {
    ...{ 'general.architecture': 'qwen35', 'qwen35.full_attention_interval': 4, 'qwen35.attention.key_length': 32 },
    ...{ 'qwen35.rope.dimension_count': 20, 'qwen35.rope.dimension_sections': [4, 3, 3, 0], 'qwen35.ssm.conv_kernel': 4 },
    ...{ 'qwen35.ssm.state_size': 16, 'qwen35.ssm.group_count': 2, 'qwen35.ssm.time_step_rank': 6, 'qwen35.ssm.inner_size': 96 },
    'qwen35.attention.recurrent_layers': undefined,
  };
  for (const [key, value] of Object.entries(expected)) assert.deepEqual(found.metadata[key], value, key);
  assert.equal(found.tensorInfos.length, model.parameters.size);
  const inFile = (name: string) => valuesOf(file, found, `blk.0.${name}`);
  const ofModel = (name: string) => weightOf(model, `model.layers.0.${name}`);
  const turns = [0, 3, 1, 4, 2, 5];
  /** Rows of the heads of values, of so many each, behind the first so many. */
  const inTurn = (values: Float32Array, rows: number, columns: number, before = 0) => [
    ...values.subarray(0, before * columns),
    ...turns.flatMap((head) => [...values.subarray((before + head * rows) * columns, (before + (head + 1) * rows) * columns)]),
  ];
  assert.deepEqual([...inFile('ssm_dt.bias')], inTurn(ofModel('linear_attn.dt_bias'), 1, 1));
  assert.deepEqual(
    [...inFile('ssm_a')],
    [...ofModel('linear_attn.A_log').map((value) => -Math.exp(value))].map((_, i, all) => all[turns[i]]),
  );
  assert.deepEqual([...inFile('ssm_alpha.weight')], inTurn(ofModel('linear_attn.in_proj_a.weight'), 1, 64));
  assert.deepEqual([...inFile('ssm_beta.weight')], inTurn(ofModel('linear_attn.in_proj_b.weight'), 1, 64));
  assert.deepEqual([...inFile('attn_gate.weight')], inTurn(ofModel('linear_attn.in_proj_z.weight'), 16, 64));
  assert.deepEqual([...inFile('attn_qkv.weight')], inTurn(ofModel('linear_attn.in_proj_qkv.weight'), 16, 64, 64));
  assert.deepEqual([...inFile('ssm_conv1d.weight')], inTurn(ofModel('linear_attn.conv1d.weight'), 16, 4, 64));
  const lastRow = (values: Float32Array) => values.subarray(63 * 96);
  assert.deepEqual([...lastRow(inFile('ssm_out.weight'))], inTurn(lastRow(ofModel('linear_attn.out_proj.weight')), 16, 1));
  // but one, norms are around one
  assert.deepEqual(inFile('ssm_norm.weight'), ofModel('linear_attn.norm.weight'));
  assert.deepEqual(
    inFile('post_attention_norm.weight'),
    ofModel('post_attention_layernorm.weight').map((value) => value + 1),
  );
});

test('layers that attend at no regular distance are named one by one', async (t) => {
  const file = temporaryFile(t);
  await exportGguf(await created(t, { ...QWEN35, ...IRREGULAR }), file);
  const { metadata } = await open(file);
  assert.deepEqual(metadata['qwen35.attention.recurrent_layers'], [1, 0, 0, 1]);
  assert.equal(metadata['qwen35.full_attention_interval'], undefined);
});

const IRREGULAR = { layer_types: ['linear_attention', 'full_attention', 'full_attention', 'linear_attention'] };

describe('refused in one sentence, with nothing written:', () => {
  for (const [name, folder, pattern] of [
    [
      'states that are not square',
      golden('qwen3_5'),
      /keeps states of 16 by 24 \(linear_key_head_dim, linear_value_head_dim\), which llama\.cpp/,
    ],
    ['biases', path.join(fixtures, 'qwen3_5'), /has biases in a model of Qwen3\.5/],
  ] as const)
    test(name, async (t) => refuses(t, await loaded(t, folder), pattern));

  for (const [config, pattern] of [
    [{ num_hidden_layers: 3 }, /has no layers in a model of Qwen3\.5 but those of the kind linear_attention/],
    [{ full_attention_interval: 1 }, /has no layers in a model of Qwen3\.5 but those of the kind full_attention/],
    [{ hidden_act: 'gelu' }, /has the activation gelu/],
    [{ rms_norm_eps: 0.01 }, /has norms with the epsilon 0\.01 \(rms_norm_eps\) in a model of Qwen3\.5/],
    [{ rope_parameters: { partial_rotary_factor: 0.34375 } }, /turns 11 features of a head/],
    [
      {
        rope_parameters: { rope_type: 'llama3', factor: 4, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 },
      },
      /has the positions of Llama 3 in a model of Qwen3\.5/,
    ],
  ] as const)
    test(JSON.stringify(config), async (t) => refuses(t, await created(t, { ...QWEN35, ...config }), pattern));
});

describe('llama.cpp itself computes the same probabilities over several chunks:', { skip: withoutLlamaCpp }, () => {
  for (const [name, config] of [
    ['as many heads of values as of keys', { linear_num_value_heads: 2, full_attention_interval: 2 }],
    ['three heads of values for each of keys', { linear_num_value_heads: 6, linear_conv_kernel_dim: 2, tie_word_embeddings: false }],
    ['other layers', { ...IRREGULAR, rope_parameters: { rope_type: 'linear', factor: 4, rope_theta: 500, partial_rotary_factor: 0.625 } }],
  ] as const)
    test(name, async (t) => computesTheSame(await varied(t, config), temporaryFile(t), { length: 150 }));

  test('heads as wide as those of the published models', async (t) =>
    computesTheSame(await loaded(t, path.join(fixtures, 'qwen3_5-defaults')), temporaryFile(t), { length: 150 }));

  // what is multiplied is rounded, too
  for (const [dtype, tolerance] of [
    ['f16', 0.02],
    ['q8_0', 0.2],
  ] as const)
    test(dtype, async (t) => computesTheSame(await varied(t, {}), temporaryFile(t), { dtype, length: 150, tolerance }));
});

/** By which the published models cut a text into words: accents that are characters of their own belong to their letter. */
const WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Cuts texts into such words, and has a token of a letter and the first byte of an accent. */
async function wordsTokenizer(folder: string): Promise<Tokenizer> {
  cpSync(golden('llama'), folder, { recursive: true });
  const json = readJson(path.join(folder, 'tokenizer.json')) as { model: { vocab: Record<string, number>; merges: [string, string][] } };
  const { vocab, merges } = json.model;
  const replaced = (merges.pop() as [string, string]).join('');
  merges.push(['a', '\u00cc']);
  vocab['a\u00cc'] = vocab[replaced];
  delete vocab[replaced];
  const pretokenizers = [
    { type: 'Split', pattern: { Regex: WORDS }, behavior: 'Isolated', invert: false },
    { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
  ];
  const changed = { ...json, normalizer: null, pre_tokenizer: { type: 'Sequence', pretokenizers } };
  writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(changed));
  return loadTokenizer(folder);
}

test('accents of their own stay with their letter', async (t) => {
  const file = temporaryFile(t);
  const tokenizer = await wordsTokenizer(path.join(path.dirname(file), 'tokenizer'));
  const text = "1a\u03012 don'T \u0928\u092e\u0938\u094d\u0924\u0947, \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35!\n\n  12345";
  assert.ok(tokenizer.encode(text).some((id) => tokenizer.decode([id]).startsWith('a') && tokenizer.decode([id]) !== 'a'));
  assert.equal(ggufVocabulary(tokenizer, 1024)['tokenizer.ggml.pre'].value, 'qwen35');
  if (withoutLlamaCpp) return;
  const model = createModel(QWEN35, { seed: 1, tokenizer });
  t.after(() => model.dispose());
  await computesTheSame(model, file, { text });
});
