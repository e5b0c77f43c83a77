import assert from 'node:assert/strict';
import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { readJson } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { copyOfModel, goldenModel, put, refuses, tunebook, tunebookJson, workFolder } from './support';

test('export writes a folder for transformers.js, and says how it is opened', async (t) => {
  const folder = workFolder(t);
  const { code, stdout, stderr } = await tunebook(['export', '--model', goldenModel, '--output_dir', 'out'], { cwd: folder });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /The exported model is in out; transformers\.js opens it by pipeline\('text-generation', "\.\/out"\)/);
  const found = readdirSync(path.join(folder, 'out')).sort();
  assert.deepEqual(found, ['config.json', 'generation_config.json', 'onnx', 'tokenizer.json', 'tokenizer_config.json']);
  const graphs = (place: string) => readdirSync(path.join(folder, place, 'onnx')).sort();
  const quantized = ['model_quantized.onnx', 'model_quantized.onnx_data'];
  assert.deepEqual(graphs('out'), ['model.onnx', 'model.onnx_data', ...quantized]);
  const result = await tunebookJson(['export', '--model', goldenModel, '--output_dir', 'small', '--dtype', 'q8'], { cwd: folder });
  assert.deepEqual(result, { output_dir: 'small' });
  assert.deepEqual(graphs('small'), quantized);
  await tunebookJson(['export', '--model', goldenModel, '--output_dir', 'two', '--dtype', 'q8, q4, q8'], { cwd: folder });
  assert.deepEqual(graphs('two'), ['model_q4.onnx', 'model_q4.onnx_data', ...quantized]);
});

describe('refused in one sentence, with nothing written:', () => {
  test('a folder that holds the weights of a model', async (t) => {
    const folder = workFolder(t);
    const model = copyOfModel(folder);
    await refuses(['export', '--model', model, '--output_dir', model], /holds the weights of a model \(model\.safetensors\)/);
    assert.ok(!existsSync(path.join(model, 'onnx')));
  });

  test('a number format that there is none of, a device, a file in the place of a folder', async (t) => {
    const folder = workFolder(t);
    const words = ['export', '--model', goldenModel, '--output_dir', 'out'];
    await refuses(
      [...words, '--dtype', 'q5'],
      /--dtype is "q5", but must be one of both, fp32, fp16, q8, q4, q4f16, f32, f16, bf16, q8_0, or several of them separated by commas/,
      { cwd: folder },
    );
    await refuses([...words, '--device', 'webgpu'], /device/, { cwd: folder });
    put(folder, 'file', '');
    await refuses(['export', '--model', goldenModel, '--output_dir', 'file'], /is a file/, { cwd: folder });
    assert.deepEqual(readdirSync(folder), ['file']);
  });

  test('an export as a model to go on with', async (t) => {
    const folder = workFolder(t);
    await tunebookJson(['export', '--model', goldenModel, '--output_dir', 'out', '--dtype', 'q8'], { cwd: folder });
    await refuses(['generate', '--model', 'out', '--prompt', 'x'], /no weights/, { cwd: folder });
  });
});

describe('a GGUF file', () => {
  test('is written with what an adapter adds, and said how to be opened', async (t) => {
    const folder = workFolder(t);
    const adapter = path.join(folder, 'adapter');
    cpSync(path.join(projectRoot, 'test', 'golden', 'llama', 'lora_trained'), adapter, { recursive: true });
    const config = readJson(path.join(adapter, 'adapter_config.json')) as object;
    put(adapter, 'adapter_config.json', { ...config, base_model_name_or_path: goldenModel });
    const { code, stdout, stderr } = await tunebook(['export', '--model', adapter, '--gguf', 'out/tuned.gguf', '--dtype', 'q8_0'], {
      cwd: folder,
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /The exported model is out\/tuned\.gguf; llama\.cpp opens it by llama-cli -m "out\/tuned\.gguf"\./);
    assert.deepEqual(readdirSync(path.join(folder, 'out')), ['tuned.gguf']);
    assert.equal(readFileSync(path.join(folder, 'out', 'tuned.gguf'), 'latin1').slice(0, 4), 'GGUF');
    const result = await tunebookJson(['export', '--model', goldenModel, '--gguf', 'out/tuned.gguf'], { cwd: folder });
    assert.deepEqual(result, { gguf: 'out/tuned.gguf' });
  });

  test('and a folder are told apart', async (t) => {
    const folder = workFolder(t);
    const words = ['export', '--model', goldenModel];
    await refuses(words, /needs a place to write to; give --output_dir DIR for transformers\.js, or --gguf FILE/, { cwd: folder });
    await refuses([...words, '--gguf', 'a.gguf', '--output_dir', 'out'], /writes to one place at a time/, { cwd: folder });
    await refuses([...words, '--gguf', 'a.gguf', '--dtype', 'f16,q8_0'], /f16,q8_0, but a GGUF file has one format; name one/, {
      cwd: folder,
    });
    await refuses([...words, '--gguf', 'a.gguf', '--dtype', 'q4'], /no dtype "q4" of a GGUF file/, { cwd: folder });
    await refuses([...words, '--output_dir', 'out', '--dtype', 'bf16'], /no dtype "bf16" to export/, { cwd: folder });
    await refuses([...words, '--gguf', 'a.bin'], /a\.bin is no name of a GGUF file/, { cwd: folder });
    assert.deepEqual(readdirSync(folder), []);
  });
});
