import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { perplexity } from '../../lib/evaluate';
import { generateBatch, loadModel, tokenNll } from '../../lib/model';
import { changeConfig, changeJson, copyOf, refused, scratch } from './checkpoint-copies';
import { changeTensors, fixtures, packedLogits } from './support';

before(() => useDevice('cpu'));

test('a checkpoint without weights is refused, and PyTorch weights are named as the reason', async () => {
  const folder = copyOf('qwen2');
  renameSync(path.join(folder, 'model.safetensors'), path.join(folder, 'pytorch_model.bin'));
  await refused(folder, 'no weights', 'pytorch_model.bin', 'converted');
});

test('a folder without config.json is refused', async () => {
  const folder = copyOf('qwen2');
  rmSync(path.join(folder, 'config.json'));
  await refused(folder, folder, 'config.json');
});

test('a missing tensor is named', async () => {
  const folder = copyOf('qwen2');
  await changeTensors(folder, (tensors) => tensors.delete('model.layers.1.mlp.up_proj.weight'));
  await refused(folder, '"model.layers.1.mlp.up_proj.weight" is missing');
});

test('a missing output head is not made up', async () => {
  const folder = copyOf('llama-untied');
  await changeTensors(folder, (tensors) => tensors.delete('lm_head.weight'));
  await refused(folder, '"lm_head.weight" is missing');
});

test('an unknown tensor is named', async () => {
  const folder = copyOf('qwen2');
  await changeTensors(folder, (tensors) => tensors.set('model.layers.2.mlp.up_proj.weight', { shape: [1], data: new Float32Array(1) }));
  await refused(folder, '"model.layers.2.mlp.up_proj.weight"');
});

test('the embedding once more under the name of the head is no unknown tensor', async () => {
  const folder = copyOf('qwen2');
  await changeTensors(folder, (tensors) => {
    const embedding = tensors.get('model.embed_tokens.weight');
    if (embedding) tensors.set('lm_head.weight', embedding);
  });
  const model = await loadModel(folder);
  assert.equal(model.config.tieWordEmbeddings, true);
  model.dispose();
});

test('a tensor of the wrong shape is named with both shapes', async () => {
  const folder = copyOf('qwen2');
  await changeTensors(folder, (tensors) => tensors.set('model.norm.weight', { shape: [16], data: new Float32Array(16) }));
  await refused(folder, '"model.norm.weight"', '[16]', '[32]');
});

test('a truncated file is refused', async () => {
  const folder = copyOf('qwen2');
  const file = path.join(folder, 'model.safetensors');
  writeFileSync(file, readFileSync(file).subarray(0, -100));
  await refused(folder, file, 'truncated');
  writeFileSync(file, readFileSync(file).subarray(0, 5));
  await refused(folder, file, '5 bytes');
});

test('a header that claims more bytes than the file has is refused', async () => {
  const folder = copyOf('qwen2');
  const file = path.join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  bytes.writeBigUInt64LE(2n ** 62n);
  writeFileSync(file, bytes);
  await refused(folder, file, 'header claims 4611686018427387904 bytes', `the file has ${bytes.length}`);
});

test('a header that is no JSON is refused with line and column', async () => {
  const folder = copyOf('qwen2');
  const file = path.join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  bytes.write('[', 8);
  writeFileSync(file, bytes);
  await refused(folder, file, 'line 1, column');
});

/** Rewrites one entry of the header in place, leaving everything else. */
function spoilHeader(folder: string, from: RegExp, to: string): void {
  const file = path.join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE());
  const header = bytes.subarray(8, 8 + length).toString();
  const changed = header.replace(from, to);
  assert.notEqual(changed, header);
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(Buffer.byteLength(changed)));
  writeFileSync(file, Buffer.concat([start, Buffer.from(changed), bytes.subarray(8 + length)]));
}

test('tensors that overlap, have no whole entry or an unknown type are refused', async () => {
  const overlapping = copyOf('qwen2');
  spoilHeader(
    overlapping,
    /("model.layers.0.input_layernorm.weight":\{"dtype":"F32","shape":\[32\],"data_offsets":)\[\d+,\d+\]/,
    '$1[0,128]',
  );
  await refused(overlapping, 'begins at byte');
  const negative = copyOf('qwen2');
  spoilHeader(negative, /"shape":\[32\]/, '"shape":[-32]');
  await refused(negative, 'dtype, shape and data_offsets');
  const unknown = copyOf('qwen2');
  spoilHeader(unknown, /"F32"/, '"F99"');
  await refused(unknown, 'unknown type F99');
  const inherited = copyOf('qwen2');
  spoilHeader(inherited, /"F32"/, '"constructor"');
  await refused(inherited, 'unknown type constructor; known are F64');
  const deep = copyOf('qwen2');
  spoilHeader(deep, /"shape":\[32\]/, `"shape":${'['.repeat(100_000)}${']'.repeat(100_000)}`);
  // older versions of Node cannot write it as JSON, newer ones can: then it is cut
  await refused(
    deep,
    'dtype, shape and data_offsets',
    /, but is (?:a value that is endless or too deep|\{"dtype":"F32","shape":\[{150,200}\.\.\.); save/,
  );
});

test('a missing shard is named', async () => {
  const folder = copyOf('sharded-bf16');
  rmSync(path.join(folder, 'model-00002-of-00002.safetensors'));
  await refused(folder, 'model-00002-of-00002.safetensors', 'missing');
});

test('shard names that leave the folder are refused', async () => {
  for (const shard of ['../model.safetensors', '/etc/passwd', 'a\\b.safetensors', 'weights.bin', 7]) {
    const folder = copyOf('sharded-bf16');
    changeJson(path.join(folder, 'model.safetensors.index.json'), (json) => {
      (json.weight_map as Record<string, unknown>)['model.norm.weight'] = shard;
    });
    await refused(folder, JSON.stringify(shard), 'same folder');
  }
});

test('an unsupported architecture is refused by name, with the supported ones', async () => {
  const folder = copyOf('qwen2');
  changeConfig(folder, (json) => Object.assign(json, { model_type: 'mamba', architectures: ['MambaForCausalLM'] }));
  await refused(
    folder,
    'MambaForCausalLM',
    'LlamaForCausalLM',
    'MistralForCausalLM',
    'Qwen2ForCausalLM',
    'Qwen3ForCausalLM',
    'GPTNeoXForCausalLM',
    'OPTForCausalLM',
  );
  changeConfig(folder, (json) => Object.assign(json, { model_type: 'llama', architectures: ['LlamaForSequenceClassification'] }));
  await refused(folder, 'LlamaForSequenceClassification');
  changeConfig(folder, (json) => {
    delete json.model_type;
    delete json.architectures;
  });
  await refused(folder, 'without a model_type');
  changeConfig(folder, (json) => Object.assign(json, { model_type: 'toString' }));
  await refused(folder, '"toString"');
});

test('configuration values that make no sense are named with their key', async () => {
  const cases: [Record<string, unknown>, ...string[]][] = [
    [{ hidden_size: 'big' }, '"hidden_size" is "big"', 'whole number'],
    [{ num_key_value_heads: 3 }, '"num_key_value_heads" is 3', 'divisor'],
    [{ vocab_size: null }, '"vocab_size" is missing'],
    [{ hidden_act: 'swoosh' }, '"hidden_act" is "swoosh"', 'silu'],
    [{ rope_parameters: { rope_type: 'yarn', factor: 4 } }, '"yarn"', 'llama3'],
    [{ rope_parameters: { rope_type: 'linear' } }, '"factor" is missing'],
    [{ num_hidden_layers: 30_000_000 }, '"num_hidden_layers" is 30000000', 'at most 10000'],
    [{ tie_word_embeddings: 'yes' }, '"tie_word_embeddings" is "yes"', 'true or false'],
  ];
  for (const [change, ...named] of cases) {
    const folder = copyOf('qwen2');
    changeConfig(folder, (json) => Object.assign(json, change));
    await refused(folder, 'config.json', ...named);
  }
});

test('values that change nothing here are no reason to refuse a checkpoint', async () => {
  const ids = [[5, 9, 12, 40, 33]];
  for (const [variant, change] of [
    ['opt-350m', { head_dim: 16 }],
    ['opt-350m', { init_std: 0 }],
    ['llama-untied', { initializer_range: 0 }],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, change));
    const [changed, plain] = [await loadModel(folder), await loadModel(path.join(fixtures, variant))];
    assert.deepEqual(await packedLogits(changed, ids), await packedLogits(plain, ids), JSON.stringify(change));
    for (const model of [changed, plain]) model.dispose();
  }
});

test('normalization may add nothing to the square of what it divides by', async () => {
  for (const [variant, key] of [
    ['qwen3', 'rms_norm_eps'],
    ['gemma3', 'rms_norm_eps'],
    ['gpt-neox-tied', 'layer_norm_eps'],
  ] as const) {
    const folder = copyOf(variant);
    changeConfig(folder, (json) => Object.assign(json, { [key]: 0 }));
    const model = await loadModel(folder);
    assert.ok((await packedLogits(model, [[5, 9, 12]])).flat(2).every(Number.isFinite));
    model.dispose();
    changeConfig(folder, (json) => Object.assign(json, { [key]: -1 }));
    await refused(folder, `"${key}" is -1`, 'a number of at least 0');
  }
});

test('broken JSON in config.json is refused with line and column', async () => {
  const folder = copyOf('qwen2');
  writeFileSync(path.join(folder, 'config.json'), '{\n  "model_type": qwen2\n}');
  await refused(folder, 'config.json', 'line 2, column');
});

test('a path that is not there, or is a file, is refused', async () => {
  await assert.rejects(loadModel(path.join(scratch, 'nowhere')), UserError);
  await assert.rejects(loadModel(path.join(fixtures, 'make.py')), UserError);
  mkdirSync(path.join(scratch, 'empty'));
  await refused(path.join(scratch, 'empty'), 'empty');
});

test('a model that computes NaN gives no answer and no score', async () => {
  const folder = copyOf('qwen2');
  await changeTensors(folder, (tensors) => tensors.get('model.layers.0.input_layernorm.weight')?.data.fill(Number.NaN));
  const model = await loadModel(folder);
  const expected = { name: 'UserError', message: /^The model .+qwen2-\d+ computes NaN or infinity in place of numbers: [^\n]+\.$/ };
  await assert.rejects(tokenNll(model, [3, 4, 5]), expected);
  await assert.rejects(generateBatch(model, [[3, 4]]), expected);
  await assert.rejects(generateBatch(model, [[3, 4], [5]], { temperature: 1, topK: 3, seed: 1 }), expected);
  await assert.rejects(perplexity(model, ['some text that is long enough']), expected);
  model.dispose();
});

test('a token id outside the vocabulary is refused when scoring and when generating', async () => {
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  const expected = { name: 'UserError', message: /Token id 64 at place 2 .* 0 to 63/ };
  await assert.rejects(tokenNll(model, [3, 64, 5]), expected);
  await assert.rejects(generateBatch(model, [[3, 64]]), expected);
  await assert.rejects(tokenNll(model, [3, -1]), { name: 'UserError', message: /Token id -1/ });
  await assert.rejects(tokenNll(model, [3]), { name: 'UserError', message: /at least 2 tokens/ });
  await assert.rejects(tokenNll(model, new Array(33).fill(5)), { name: 'UserError', message: /33 tokens is longer than the 32/ });
  model.dispose();
});
