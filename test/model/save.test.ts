import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as fsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { checkOutputFolder, createModel, loadModel, saveModel } from '../../lib/model';
import { readSafetensors } from '../../lib/model/safetensors';
import { saveInto } from '../../lib/model/save';
import { projectRoot } from '../../lib/project';
import { closeTo, fixtures, logitsOf } from './support';

const golden = path.join(projectRoot, 'test', 'golden');
const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-save-'));
const ids = [5, 9, 12, 30, 41, 7];
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

for (const variant of [
  'llama-old-keys',
  'qwen2',
  'qwen3',
  'gemma1-old-keys',
  'gemma2-defaults',
  'gemma3-old-keys',
  'gemma4',
  'gemma4-published',
  'nanochat-defaults',
  'smollm3-defaults',
  'ernie4_5-defaults',
  'hunyuan-old-keys',
  'starcoder2-old-keys',
  'gpt_bigcode-old-keys',
  'glm-old-keys',
  'glm4-old-keys',
  'gptj-old-keys',
  'codegen-old-keys',
  'bloom-old-keys',
  'ministral3-defaults',
  'exaone4-old-keys',
  'cohere-defaults',
  'cohere2-old-keys',
  'olmo-old-keys',
  'olmo2-defaults',
  'olmo3-defaults',
  'granite-defaults',
  'granitemoe',
  'granitemoehybrid-nope',
  'granitemoehybrid-mamba',
  'granitemoehybrid-experts',
  'qwen2_moe-old-keys',
  'qwen3_moe',
  'olmoe',
  'mixtral',
  'lfm2_moe-defaults',
  'gpt_oss-old-keys',
  'falcon_h1',
  'phi-old-keys',
  'phi3-old-keys',
  'stablelm',
  'lfm2-old-keys',
  'qwen3_5-defaults',
  'gpt2-bare',
  'gpt2-untied',
  'gpt-neox-old-keys',
  'opt-350m',
  'opt-bare',
  'sharded-bf16',
]) {
  test(`${variant}: a saved model loads with exactly its logits, its configuration and its tokenizer`, async () => {
    const folder = path.join(scratch, variant);
    const model = await loadModel(path.join(fixtures, variant));
    const logits = await logitsOf(model, ids);
    await saveModel(model, folder);
    model.dispose();
    const again = await loadModel(folder);
    assert.deepEqual(await logitsOf(again, ids), logits);
    again.dispose();
    const config = (place: string) => JSON.parse(readFileSync(path.join(place, 'config.json'), 'utf8')) as Record<string, unknown>;
    const { dtype: _, torch_dtype: __, ...kept } = config(path.join(fixtures, variant));
    const saved = config(folder);
    assert.equal(saved.dtype ?? saved.torch_dtype, 'float32');
    for (const [key, value] of Object.entries(kept)) assert.deepEqual(saved[key], value, key);
    for (const file of ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json'])
      assert.ok(existsSync(path.join(folder, file)), file);
  });
}

test('numbers that transformers wants with a point are saved with one', async () => {
  const changed = (variant: string, key: string, value: string): string => {
    const folder = path.join(scratch, `${variant}-${key}`);
    cpSync(path.join(fixtures, variant), folder, { recursive: true });
    const place = path.join(folder, 'config.json');
    writeFileSync(place, readFileSync(place, 'utf8').replace(new RegExp(`("${key}"): [^,]*`), `$1: ${value}`));
    return folder;
  };
  const limits = /"time_step_limit": \[\s*0\.0,\s*\{\s*"__float__": "Infinity"\s*\}\s*\]/;
  for (const [before, ...pointed] of [
    [path.join(fixtures, 'granitemoehybrid'), limits],
    [changed('qwen3', 'rms_norm_eps', '0.0'), /"rms_norm_eps": 0\.0,/],
    [changed('cohere2', 'logit_scale', '1.0'), /"logit_scale": 1\.0,/],
    [changed('olmo', 'clip_qkv', '8.0'), /"clip_qkv": 8\.0,/],
    [path.join(golden, 'gemma2', 'model'), /"attn_logit_softcapping": 1\.0,/, /"final_logit_softcapping": 2\.0,/],
  ] as const) {
    const after = path.join(scratch, 'pointed');
    const model = await loadModel(before);
    await saveModel(model, after);
    model.dispose();
    const [read, saved] = [before, after].map((folder) => readFileSync(path.join(folder, 'config.json'), 'utf8'));
    for (const pattern of pointed) {
      assert.match(read, pattern);
      assert.match(saved, pattern);
    }
    assert.deepEqual(JSON.parse(saved), JSON.parse(read));
  }
});

test('a head of its own stays one although the configuration says that it is the embedding', async () => {
  const folder = path.join(scratch, 'other-head');
  const model = await loadModel(path.join(fixtures, 'llama-other-head'));
  const logits = await logitsOf(model, ids);
  await saveModel(model, folder);
  model.dispose();
  assert.match(readFileSync(path.join(folder, 'config.json'), 'utf8'), /"tie_word_embeddings": false/);
  const again = await loadModel(folder);
  assert.deepEqual(await logitsOf(again, ids), logits);
  again.dispose();
});

test("an LFM2's head that has become a matrix of its own stays one, although an older name says that it is the embedding", async () => {
  const folder = path.join(scratch, 'untied-lfm2');
  const model = await loadModel(path.join(fixtures, 'lfm2-old-keys'));
  const logits = await logitsOf(model, ids);
  model.untie();
  await saveModel(model, folder);
  model.dispose();
  const again = await loadModel(folder);
  assert.equal(again.config.tieWordEmbeddings, false);
  assert.ok(again.parameters.has('lm_head.weight'));
  assert.deepEqual(await logitsOf(again, ids), logits);
  again.dispose();
});

test('config.json names the number format once, whatever it did before', async () => {
  const folder = path.join(scratch, 'two-dtypes');
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  const raw = { ...model.config.raw, dtype: 'bfloat16', torch_dtype: 'bfloat16' };
  await saveModel(Object.assign(model, { config: { ...model.config, raw } }), folder);
  model.dispose();
  const saved = JSON.parse(readFileSync(path.join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual([saved.dtype, saved.torch_dtype], ['float32', undefined]);
});

test('the small files of a model are those that it was loaded with, whatever becomes of its folder', async () => {
  const [source, folder] = ['source', 'from-source'].map((name) => path.join(scratch, name));
  cpSync(path.join(fixtures, 'qwen2'), source, { recursive: true });
  writeFileSync(path.join(source, 'tokenizer.model'), Uint8Array.of(0xff, 0xfe, 0, 10));
  const small = (place: string) => readdirSync(place).filter((name) => /^(?:tokenizer|special|generation)/.test(name));
  const contents = (place: string) => small(place).map((name) => readFileSync(path.join(place, name)).toString('hex'));
  const [names, before] = [small(source), contents(source)];
  assert.ok(names.includes('generation_config.json') && names.includes('tokenizer.json'));
  const model = await loadModel(source);
  rmSync(source, { recursive: true });
  await saveModel(model, folder);
  model.dispose();
  assert.deepEqual(small(folder), names);
  assert.deepEqual(contents(folder), before);
});

test('a model saved as bfloat16 or float16 takes half the space and keeps what those formats can hold', async () => {
  const model = await loadModel(path.join(fixtures, 'sharded-bf16'));
  const logits = (await logitsOf(model, ids)).flat();
  for (const [dtype, tolerance] of [
    ['bfloat16', 0],
    ['float16', 2e-3],
  ] as const) {
    const folder = path.join(scratch, dtype);
    await saveModel(model, folder, { dtype });
    assert.match(readFileSync(path.join(folder, 'config.json'), 'utf8'), new RegExp(`"dtype": "${dtype}"`));
    const again = await loadModel(folder);
    closeTo((await logitsOf(again, ids)).flat(), logits, tolerance);
    again.dispose();
  }
  model.dispose();
});

test('saving replaces an earlier checkpoint and leaves nothing else behind', async () => {
  const folder = path.join(scratch, 'twice');
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  await saveModel(model, folder);
  const files = readdirSync(folder);
  writeFileSync(path.join(folder, 'metrics.jsonl'), '{}\n');
  model.parameters.get('model.norm.weight')?.assign(tf.zeros([32]));
  await saveModel(model, folder);
  model.dispose();
  assert.deepEqual(readdirSync(folder).sort(), [...files, 'metrics.jsonl'].sort());
  assert.deepEqual((await readSafetensors(path.join(folder, 'model.safetensors'))).get('model.norm.weight')?.data, new Float32Array(32));
});

test('saving takes the files of an earlier model away that this one has not', async () => {
  const folder = path.join(scratch, 'earlier');
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  await saveModel(model, folder);
  const files = readdirSync(folder).sort();
  writeFileSync(path.join(folder, 'chat_template.jinja'), '{{ messages }}');
  writeFileSync(path.join(folder, 'notes.txt'), 'mine');
  await saveModel(model, folder);
  model.dispose();
  assert.deepEqual(readdirSync(folder).sort(), [...files, 'notes.txt'].sort());
});

test('a full disk is said in one sentence, and the earlier checkpoint stays as it was', async (context) => {
  const folder = path.join(scratch, 'full');
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  await saveModel(model, folder);
  const before = readFileSync(path.join(folder, 'model.safetensors'));
  const files = readdirSync(folder);
  model.parameters.get('model.norm.weight')?.assign(tf.zeros([32]));
  const probe = await fsPromises.open(path.join(scratch, 'probe'), 'w');
  let writes = 0;
  // every file handle fails from its second write on, as on a disk that has just become full
  context.mock.method(Object.getPrototypeOf(probe), 'write', async (_bytes: Uint8Array, _at: number, length: number) => {
    if (++writes > 1) throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    return { bytesWritten: length };
  });
  await probe.close();
  await assert.rejects(
    saveModel(model, folder),
    (error: Error) => error instanceof UserError && /disk is full/.test(error.message) && error.message.includes(folder),
  );
  context.mock.restoreAll();
  assert.deepEqual(readdirSync(folder), files);
  assert.deepEqual(readFileSync(path.join(folder, 'model.safetensors')), before);
  model.dispose();
});

test('what a device says in one sentence while it computes what is saved is told as it is', async () => {
  const folder = path.join(scratch, 'device');
  const sentence = 'The device has too little memory; choose a smaller model.';
  const write = async (): Promise<never> => {
    throw new UserError(sentence, { cause: new Error('failed to allocate') });
  };
  await assert.rejects(saveInto(folder, write), { name: 'UserError', message: sentence });
});

test('an output folder that holds something else is refused and stays untouched', async () => {
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  const folder = path.join(scratch, 'thesis');
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'chapter1.txt'), 'It was');
  await assert.rejects(saveModel(model, folder), { name: 'UserError', message: /thesis holds something else \(chapter1.txt\)/ });
  assert.deepEqual(readdirSync(folder), ['chapter1.txt']);
  writeFileSync(path.join(folder, 'config.json'), '{"editor": "dark"}');
  assert.throws(() => checkOutputFolder(folder), { name: 'UserError' });
  await assert.rejects(saveModel(model, path.join(folder, 'chapter1.txt')), { name: 'UserError', message: /is a file/ });
  await assert.rejects(saveModel(model, path.join(folder, 'chapter1.txt', 'model')), {
    name: 'UserError',
    message: /chapter1\.txt is a file, so no model can be saved there; choose a folder\.$/,
  });
  model.dispose();
});

test('new, empty and earlier output folders are accepted', () => {
  checkOutputFolder(path.join(scratch, 'not-there'));
  mkdirSync(path.join(scratch, 'fresh', 'checkpoint-10'), { recursive: true });
  checkOutputFolder(path.join(scratch, 'fresh'));
  checkOutputFolder(path.join(fixtures, 'qwen2'));
});

test('a created model has the weights that its seed says, distributed as Hugging Face initializes them', async () => {
  const { tokenizer, config } = await loadModel(path.join(fixtures, 'gpt-neox-serial'));
  const raw = { ...config.raw, initializer_range: 0.02, architectures: undefined };
  const make = (seed: number) => createModel(raw, { seed, tokenizer });
  const [one, same, other] = [make(1), make(1), make(2)];
  const weights = (model: typeof one, name: string) => model.parameters.get(name)?.dataSync() as Float32Array;
  const embedding = weights(one, 'gpt_neox.embed_in.weight');
  const deviation = Math.sqrt(embedding.reduce((sum, x) => sum + x * x, 0) / embedding.length);
  assert.ok(Math.abs(deviation - 0.02) < 0.001, `deviation ${deviation}`);
  assert.ok(weights(one, 'gpt_neox.final_layer_norm.weight').every((x) => x === 1));
  assert.ok(weights(one, 'gpt_neox.layers.0.mlp.dense_h_to_4h.bias').every((x) => x === 0));
  assert.deepEqual(await logitsOf(one, ids), await logitsOf(same, ids));
  assert.notDeepEqual(embedding, weights(other, 'gpt_neox.embed_in.weight'));
  await saveModel(one, path.join(scratch, 'created'));
  const saved = JSON.parse(readFileSync(path.join(scratch, 'created', 'config.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual(saved.architectures, ['GPTNeoXForCausalLM']);
  (await loadModel(path.join(scratch, 'created'))).dispose();
});

test('states of a created Qwen3.5 decay as those of transformers do at first', async () => {
  const { tokenizer, config } = await loadModel(path.join(fixtures, 'qwen3_5'));
  const heads = 512;
  const linear = { linear_num_key_heads: heads, linear_num_value_heads: heads, linear_key_head_dim: 1, linear_value_head_dim: 1 };
  const created = createModel({ ...config.raw, ...linear }, { seed: 1, tokenizer });
  const weights = (name: string) => created.parameters.get(`model.layers.0.linear_attn.${name}`)?.dataSync() as Float32Array;
  const decays = weights('A_log').map(Math.exp);
  assert.ok(decays.every((decay) => decay > 0.0099 && decay < 16.001));
  assert.ok(Math.abs(decays.reduce((sum, decay) => sum + decay, 0) / heads - 8) < 0.8, 'evenly from 0.01 to 16');
  assert.ok(weights('dt_bias').every((x) => x === 1));
  created.dispose();
});

test('states of a created Granite 4.0 H decay by the number of their head at first, as those of transformers do', async () => {
  const { tokenizer, config } = await loadModel(path.join(fixtures, 'granitemoehybrid-mamba'));
  const created = createModel(config.raw, { seed: 1, tokenizer });
  const weights = (name: string) => Array.from(created.parameters.get(`model.layers.0.mamba.${name}`)?.dataSync() ?? []);
  assert.deepEqual(weights('A_log'), [...Float32Array.from([1, 2, 3, 4], Math.log)]);
  for (const name of ['D', 'dt_bias']) assert.deepEqual(weights(name), [1, 1, 1, 1]);
  created.dispose();
});

test('a disposed model leaves no tensor behind, and loading tells its progress to the last byte', async () => {
  const tensors = tf.memory().numTensors;
  const seen: [number, number][] = [];
  const model = await loadModel(path.join(fixtures, 'sharded-fp16'), { onProgress: ({ loaded, total }) => seen.push([loaded, total]) });
  assert.equal(tf.memory().numTensors, tensors + model.parameters.size);
  await logitsOf(model, ids);
  model.dispose();
  assert.equal(tf.memory().numTensors, tensors);
  const [loaded, total] = seen[seen.length - 1];
  assert.equal(loaded, total);
});
