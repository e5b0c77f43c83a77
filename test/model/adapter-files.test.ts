import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { addAdapter, loadModel, saveModel } from '../../lib/model';
import { readSafetensors, type TensorToWrite, writeSafetensors } from '../../lib/model/safetensors';
import { projectRoot } from '../../lib/project';
import { closeTo, fixtures, logitsOf } from './support';

const golden = path.join(projectRoot, 'test/golden/llama');
const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-adapter-'));
const ids = [5, 9, 12, 30, 41, 7];
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

let made = 0;

/** A copy of PEFT's adapter beside its base, with some keys of its configuration changed. */
function adapter(changes: Record<string, unknown> = {}): string {
  const folder = path.join(scratch, `${made++}`, 'adapter');
  cpSync(path.join(golden, 'lora_trained'), folder, { recursive: true });
  const file = path.join(folder, 'adapter_config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  writeFileSync(file, JSON.stringify({ ...config, base_model_name_or_path: path.join(golden, 'model'), ...changes }));
  return folder;
}

/** Writes the weights of an adapter again, changed. */
async function withTensors(folder: string, change: (tensors: Map<string, { shape: readonly number[]; data: Float32Array }>) => void) {
  const file = path.join(folder, 'adapter_model.safetensors');
  const tensors = await readSafetensors(file);
  change(tensors);
  await writeSafetensors(
    file,
    [...tensors].map(([name, { shape, data }]): TensorToWrite => ({ name, shape, data: () => data })),
  );
  return folder;
}

test("PEFT's adapter is loaded with its base, whose path counts from the adapter too", async () => {
  const absolute = await loadModel(adapter());
  const logits = await logitsOf(absolute, ids);
  absolute.dispose();
  const folder = adapter({ base_model_name_or_path: '../base-of-this-adapter' });
  cpSync(path.join(golden, 'model'), path.join(folder, '../base-of-this-adapter'), { recursive: true });
  const relative = await loadModel(folder);
  assert.deepEqual(await logitsOf(relative, ids), logits);
  assert.equal(relative.source, folder);
  relative.dispose();
});

test('how an adapter began, where that left the base as it was, does not matter', async () => {
  const usual = await loadModel(adapter());
  const logits = await logitsOf(usual, ids);
  usual.dispose();
  for (const initial of [false, 'gaussian', 'orthogonal', 'eva']) {
    const model = await loadModel(adapter({ init_lora_weights: initial }));
    assert.deepEqual(await logitsOf(model, ids), logits, `${initial}`);
    model.dispose();
  }
});

test('an adapter may lie in the folder of its base', async () => {
  const folder = adapter();
  cpSync(path.join(golden, 'model'), folder, { recursive: true });
  const file = path.join(folder, 'adapter_config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), base_model_name_or_path: folder }));
  const model = await loadModel(folder);
  assert.equal(model.adapter?.parameters.size, 28);
  model.dispose();
});

/** Where it is not all layers: PEFT refuses one of Falcon-H1, and takes experts for layers. */
const TARGETS: Record<string, string[]> = {
  falcon_h1: ['in_proj', 'q_proj', 'v_proj', 'down_proj'],
  qwen3_moe: ['q_proj', 'o_proj'],
  olmoe: ['k_proj', 'v_proj'],
  mixtral: ['q_proj', 'k_proj'],
};

for (const variant of [
  'qwen2',
  'qwen3',
  'gemma1',
  'gemma2',
  'gemma3',
  'gemma4',
  'nanochat',
  'smollm3',
  'ernie4_5',
  'hunyuan',
  'starcoder2',
  'gpt_bigcode',
  'glm',
  'glm4',
  'gptj',
  'codegen',
  'bloom',
  'ministral3',
  'exaone4',
  'cohere2',
  'olmo',
  'olmo2',
  'granite',
  'granitemoehybrid',
  'granitemoehybrid-mamba',
  'granitemoehybrid-experts',
  'qwen2_moe',
  'qwen3_moe',
  'olmoe',
  'mixtral',
  'lfm2_moe-defaults',
  'gpt_oss',
  'falcon_h1',
  'phi',
  'phi3',
  'stablelm',
  'lfm2',
  'qwen3_5',
  'gpt2-untied',
  'gpt-neox-old-keys',
  'opt-350m',
]) {
  test(`${variant}: an adapter that was saved loads with exactly its logits`, async () => {
    const model = await loadModel(path.join(fixtures, variant));
    const plain = (await logitsOf(model, ids)).flat();
    const targetModules = TARGETS[variant] ?? 'all-linear';
    for (const matrix of addAdapter(model, { r: 3, targetModules }, { seed: 1 }).parameters.values()) matrix.assign(matrix.add(0.01));
    const logits = await logitsOf(model, ids);
    assert.ok(logits.flat().some((x, i) => Math.abs(x - plain[i]) > 1e-4));
    const folder = path.join(scratch, variant);
    model.tokenizer.useChatTemplate('{{ messages }}');
    await saveModel(model, folder);
    model.dispose();
    const again = await loadModel(folder);
    assert.deepEqual(await logitsOf(again, ids), logits);
    assert.equal(again.tokenizer.directory, folder);
    assert.ok(again.tokenizer.hasChatTemplate);
    await saveModel(again, path.join(scratch, `${variant}-16`), { dtype: 'bfloat16' });
    again.dispose();
    const rounded = await loadModel(path.join(scratch, `${variant}-16`));
    closeTo((await logitsOf(rounded, ids)).flat(), logits.flat(), 0.02);
    rounded.dispose();
  });
}

test('a saved adapter takes the place of an earlier model, and a model that of an earlier adapter', async () => {
  const folder = path.join(scratch, 'places');
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  const has = (name: string) => existsSync(path.join(folder, name));
  await saveModel(model, folder);
  addAdapter(model, {}, { seed: 1 });
  await saveModel(model, folder);
  assert.ok(has('adapter_config.json') && has('adapter_model.safetensors') && !has('config.json') && !has('model.safetensors'));
  model.dispose();
  const whole = await loadModel(path.join(fixtures, 'qwen2'));
  await saveModel(whole, folder);
  assert.ok(!has('adapter_config.json') && !has('adapter_model.safetensors') && has('config.json') && has('model.safetensors'));
  whole.dispose();
});

test('a plain name of target modules is saved as a list, because PEFT takes a text for a pattern of whole names', async () => {
  for (const [targetModules, written] of [
    ['q_proj', ['q_proj']],
    ['.*layers\\.0\\..*q_proj', '.*layers\\.0\\..*q_proj'],
  ] as const) {
    const model = await loadModel(path.join(golden, 'model'));
    addAdapter(model, { targetModules }, { seed: 1 });
    const folder = path.join(scratch, `target-${made++}`);
    await saveModel(model, folder);
    model.dispose();
    const config = JSON.parse(readFileSync(path.join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>;
    assert.deepEqual(config.target_modules, written);
  }
});

test('an adapter of some layers is saved again as one of those, however PEFT chose them', async () => {
  const targetsOf = (folder: string): unknown =>
    (JSON.parse(readFileSync(path.join(folder, 'adapter_config.json'), 'utf8')) as Record<string, unknown>).target_modules;
  const savedAgain = async (folder: string): Promise<unknown> => {
    const model = await loadModel(folder);
    await saveModel(model, path.join(folder, 'again'));
    model.dispose();
    return targetsOf(path.join(folder, 'again'));
  };
  assert.deepEqual(await savedAgain(adapter()), targetsOf(adapter()));
  const target_modules = ['q_proj', 'v_proj'];
  const some = await withTensors(adapter({ target_modules, layers_to_transform: [1] }), (tensors) => {
    for (const name of tensors.keys()) if (!/layers\.1\..*(q|v)_proj/.test(name)) tensors.delete(name);
  });
  assert.deepEqual(await savedAgain(some), ['model.layers.1.self_attn.q_proj', 'model.layers.1.self_attn.v_proj']);
});

test('an adapter that computes otherwise, or cannot be read, is refused with file, value and remedy', async () => {
  for (const [changes, why] of [
    [{ peft_type: 'IA3' }, /adapter_config\.json: peft_type is "IA3", but must be "LORA"/],
    [{ base_model_name_or_path: null }, /base_model_name_or_path is null, but must be the folder or the Hub id of the base model/],
    [
      { base_model_name_or_path: './nowhere' },
      /adapter_config\.json names the base model of the adapter, base_model_name_or_path: There is no folder \.\/nowhere/,
    ],
    [{ r: 0 }, /r is 0, but must be a whole number/],
    [{ lora_alpha: 'x' }, /lora_alpha is "x", but must be a number above 0/],
    [{ use_dora: true }, /lora_magnitude_vector" is missing/],
    [{ use_qalora: true }, /use_qalora is true, but must be off/],
    [{ bias: 'all' }, /bias is "all", but must be "none"/],
    [{ alpha_pattern: { q_proj: 0 } }, /alpha_pattern is {"q_proj":0}, but must be a table of numbers above 0 by patterns of names/],
    [{ modules_to_save: 'lm_head' }, /modules_to_save is "lm_head", but must be a list of names/],
    [{ modules_to_save: ['lm_head'] }, /the tensor "base_model\.model\.lm_head\.weight" is missing/],
    [{ modules_to_save: ['lm_head'], ensure_weight_tying: 1 }, /ensure_weight_tying is 1, but must be true or false/],
    [{ init_lora_weights: 'pissa' }, /init_lora_weights is "pissa", but must be .*; others change the base model: .* path_initial_model/],
    [{ target_modules: 7 }, /target_modules is 7, but must be a list of names/],
    [{ r: 4 }, /has shape \[8,64\], but this model and r ask for \[4,64\]/],
  ] as const)
    await assert.rejects(loadModel(adapter(changes)), why);
  const anyName = 'base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight';
  await assert.rejects(loadModel(await withTensors(adapter(), (tensors) => tensors.delete(anyName))), /lora_B\.weight" is missing/);
  await assert.rejects(
    loadModel(await withTensors(adapter(), (tensors) => tensors.set('lm_head.lora_A.weight', { shape: [1], data: new Float32Array(1) }))),
    /holds the tensor "lm_head\.lora_A\.weight", which is no matrix of a linear layer of this model/,
  );
  await assert.rejects(loadModel(await withTensors(adapter(), (tensors) => tensors.clear())), /holds no tensors/);
  for (const shape of [[], [5], [0, 64], [3_000_000, 0]]) {
    const size = shape.reduce((product, length) => product * length, 1);
    const name = 'base_model.model.model.embed_tokens.weight';
    const odd = await withTensors(adapter(), (tensors) => tensors.set(name, { shape, data: new Float32Array(size) }));
    await assert.rejects(loadModel(odd), {
      name: 'UserError',
      message: /embed_tokens\.weight" has shape \[.*\], but a row for each token was expected; save the adapter again\.$/,
    });
  }
  const tensors = tf.memory().numTensors;
  const odd = adapter();
  const weights = path.join(odd, 'adapter_model.safetensors');
  const bytes = readFileSync(weights);
  // the type of the last tensor is one that is not read
  const at = bytes.lastIndexOf('"F32"');
  writeFileSync(weights, Buffer.concat([bytes.subarray(0, at), Buffer.from('"I32"'), bytes.subarray(at + 5)]));
  await assert.rejects(loadModel(odd), /I32/);
  assert.equal(tf.memory().numTensors, tensors, 'what was read until then is freed');
  const other = adapter({ base_model_name_or_path: path.join(projectRoot, 'test/golden/gpt_neox/model') });
  await assert.rejects(loadModel(other), /the adapter is another model's/);
  const nested = adapter({ base_model_name_or_path: adapter() });
  await assert.rejects(loadModel(nested), /is an adapter itself/);
  const old = adapter();
  renameSync(path.join(old, 'adapter_model.safetensors'), path.join(old, 'adapter_model.bin'));
  await assert.rejects(loadModel(old), /has its weights in adapter_model\.bin, which is not read, .*; open it with PEFT and save it again/);
  const empty = path.join(scratch, 'empty');
  mkdirSync(empty);
  writeFileSync(path.join(empty, 'adapter_config.json'), '[]');
  await assert.rejects(loadModel(empty), /adapter_config\.json is not a JSON object/);
});
