import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { createModel, exportModel, generate, generateBatch, loadModel, saveModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { families, hasExperts, isKnownToTransformersJs } from '../golden-families';
import { Exported, exported, rowsOf } from './exported';
import { closeTo, fixtures, logitsOf } from './support';

const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-export-'));
const golden = path.join(projectRoot, 'test/golden');
const base = path.join(projectRoot, 'data/base');
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

const variants = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && entry.name !== 'llama-dynamic')
  .map(({ name }) => path.join(fixtures, name))
  .filter(isKnownToTransformersJs);

for (const folder of variants) {
  test(`${path.basename(folder)}: the exported model computes transformers' logits, whole and from a cache`, async () => {
    const { sequences } = readJson(path.join(folder, 'expected.json')) as { sequences: { input_ids: number[]; logits: number[][] }[] };
    await exported(folder, async ({ open }) => {
      for (const { input_ids: ids, logits } of sequences) {
        closeTo(rowsOf(await open.run({ ids: [ids] })).flat(), logits.flat(), 2e-5);
        if (ids.length === 1) continue;
        const cut = Math.ceil(ids.length / 2);
        const first = await open.run({ ids: [ids.slice(0, cut)] });
        const rest = await open.run({ ids: [ids.slice(cut)], before: first });
        closeTo([...rowsOf(first), ...rowsOf(rest)].flat(), logits.flat(), 2e-5);
      }
    });
  });
}

const sourceOf = (family: string): string => path.join(golden, family, 'model');

for (const family of families.filter((name) => isKnownToTransformersJs(sourceOf(name)))) {
  const source = sourceOf(family);

  for (const [dtype, tolerance] of [
    ['fp32', 1e-4],
    ['fp16', 1e-2],
  ] as const) {
    if (dtype === 'fp16' && hasExperts(source)) continue;
    test(`${family}, ${dtype}: prompts padded on the left to one length get the logits that each has alone`, async () => {
      await exported(
        source,
        async ({ model, open }) => {
          const [long, short] = [
            [5, 9, 12, 30, 41, 7, 3],
            [11, 4, 8],
          ];
          const padding = new Array<number>(long.length - short.length).fill(0);
          const mask = [long.map(() => 1), [...padding, ...short.map(() => 1)]];
          const first = await open.run({ ids: [long, [...padding, ...short]], mask });
          closeTo(rowsOf(first, 0).flat(), (await logitsOf(model, long)).flat(), tolerance);
          closeTo(rowsOf(first, 1).slice(padding.length).flat(), (await logitsOf(model, short)).flat(), tolerance);
          const next = await open.run({ ids: [[21], [22]], mask: mask.map((row) => [...row, 1]), before: first });
          closeTo(rowsOf(next, 1)[0], (await logitsOf(model, [...short, 22]))[short.length], tolerance);
        },
        dtype,
      );
    });
  }

  test(`${family}: transformers.js opens the folder, and continues a text as transformers does`, async () => {
    const { greedy } = readJson(path.join(golden, family, 'forward.json')) as { greedy: { prompt_ids: number[]; output_ids: number[] } };
    const prompt = greedy.prompt_ids;
    await exported(source, async ({ model, folder }) => {
      const { AutoModelForCausalLM, AutoTokenizer, Tensor } = await import('@huggingface/transformers');
      const there = await AutoModelForCausalLM.from_pretrained(folder, { device: 'cpu', local_files_only: true });
      const input_ids = new Tensor('int64', BigInt64Array.from(prompt, BigInt), [1, prompt.length]);
      const attention_mask = new Tensor('int64', new BigInt64Array(prompt.length).fill(1n), [1, prompt.length]);
      const settings = { input_ids, attention_mask, max_new_tokens: 24, do_sample: false };
      const output = (await there.generate(settings as never)) as { tolist(): bigint[][] };
      assert.deepEqual(output.tolist()[0].map(Number), greedy.output_ids);
      await there.dispose();
      const tokenizer = await AutoTokenizer.from_pretrained(folder, { local_files_only: true });
      assert.deepEqual(tokenizer.encode('What has two wheels?'), [...model.tokenizer.encode('What has two wheels?')]);
    });
  });
}

/** The model of a folder with other tokenizer files, exported, and its tokenizer there. */
async function exportedTokenizer(change: (folder: string, read: (name: string) => Record<string, unknown>) => void) {
  const source = mkdtempSync(path.join(scratch, 'source-'));
  cpSync(path.join(golden, 'opt/model'), source, { recursive: true });
  change(source, (name) => readJson(path.join(source, name)) as Record<string, unknown>);
  const folder = `${source}-exported`;
  const model = await loadModel(source);
  await exportModel(model, folder, { dtypes: ['fp32'] });
  model.dispose();
  const { AutoTokenizer } = await import('@huggingface/transformers');
  return { here: model.tokenizer, there: await AutoTokenizer.from_pretrained(folder, { local_files_only: true }), folder };
}

const put = (folder: string, name: string, json: unknown) => writeFileSync(path.join(folder, name), JSON.stringify(json));

describe('transformers.js makes the same tokenizer', () => {
  test('where the chat template has a file of its own, beside an older one', async () => {
    const { here, there } = await exportedTokenizer((folder, read) => {
      put(folder, 'tokenizer_config.json', { ...read('tokenizer_config.json'), chat_template: 'older' });
      writeFileSync(path.join(folder, 'chat_template.jinja'), '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}');
    });
    const messages = [{ role: 'user', content: 'Hi.' }] as const;
    assert.equal(there.apply_chat_template([...messages], { tokenize: false }), '<user>Hi.');
    assert.equal(here.applyChatTemplate(messages), '<user>Hi.');
  });

  test('of a vocabulary with merges, and without a configuration', async () => {
    const { here, there } = await exportedTokenizer((folder, read) => {
      const { model } = read('tokenizer.json') as { model: { vocab: object; merges: Array<string | string[]> } };
      put(folder, 'vocab.json', model.vocab);
      writeFileSync(path.join(folder, 'merges.txt'), model.merges.map((merge) => [merge].flat().join(' ')).join('\n'));
      put(folder, 'special_tokens_map.json', { eos_token: read('tokenizer_config.json').eos_token });
      rmSync(path.join(folder, 'tokenizer.json'));
      rmSync(path.join(folder, 'tokenizer_config.json'));
    });
    const text = 'What has two wheels ?';
    assert.deepEqual(there.encode(text, { add_special_tokens: false }), here.encode(text));
    assert.equal(there.eos_token, here.eosToken);
    // what stands before a mark stays
    assert.equal(there.decode(here.encode(text)), text);
  });

  test('and its pipeline puts around a text what goes there', async () => {
    const { here, folder } = await exportedTokenizer((folder, read) => {
      const begins = { SpecialToken: { id: '<|endoftext|>', type_id: 0 } };
      const post_processor = {
        type: 'TemplateProcessing',
        single: [begins, { Sequence: { id: 'A', type_id: 0 } }],
        pair: [begins, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }],
        special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
      };
      put(folder, 'tokenizer.json', { ...read('tokenizer.json'), post_processor });
    });
    const text = 'What has two wheels?';
    assert.equal(here.encode(text, { addSpecialTokens: true })[0], 0);
    const { pipeline } = await import('@huggingface/transformers');
    const generator = await pipeline('text-generation', folder, { local_files_only: true, device: 'cpu' });
    const model = await loadModel(folder.replace(/-exported$/, ''));
    const [{ generated_text }] = (await generator(text, { max_new_tokens: 12, do_sample: false })) as [{ generated_text: string }];
    assert.equal(generated_text, text + (await generate(model, text, { maxNewTokens: 12 })));
    await generator.dispose();
    model.dispose();
  });
});

test('without a generation_config.json a model opens by its path, and a text ends at the tokens that end it here', async () => {
  const source = mkdtempSync(path.join(scratch, 'source-'));
  cpSync(path.join(golden, 'llama/model'), source, { recursive: true });
  rmSync(path.join(source, 'generation_config.json'));
  const text = 'What has two wheels?';
  const before = await loadModel(source);
  const [{ ids }] = await generateBatch(before, [text], { maxNewTokens: 3 });
  // a token that the tokenizer alone knows to end a text
  const eos_token = before.tokenizer.tokenText(ids[1]);
  const config = readJson(path.join(source, 'tokenizer_config.json')) as object;
  put(source, 'tokenizer_config.json', { ...config, eos_token });
  before.dispose();
  const model = await loadModel(source);
  const folder = `${source}-exported`;
  await exportModel(model, folder, { dtypes: ['fp32'] });
  const { pipeline } = await import('@huggingface/transformers');
  const generator = await pipeline('text-generation', folder, { device: 'cpu' });
  const settings = { max_new_tokens: 12, do_sample: false, add_special_tokens: true, return_full_text: false };
  const [{ generated_text }] = (await generator(text, settings)) as [{ generated_text: string }];
  assert.equal(generated_text, await generate(model, text, { maxNewTokens: 12 }));
  await generator.dispose();
  model.dispose();
});

test('models of experts that transformers.js does not know, or that would compute in float16, are refused', async () => {
  for (const [variant, dtype, sentence] of [
    [
      'granitemoe',
      'fp32',
      /is of the family granitemoe, which transformers\.js does not know; export it for llama\.cpp instead \(exportGguf, or tunebook export --gguf\)\.$/,
    ],
    ['olmoe', 'q8', /is of the family olmoe, which/],
    ['mixtral', 'fp32', /is of the family mixtral, which transformers\.js does not know; export it for llama\.cpp instead/],
    ['lfm2_moe', 'q4f16', /has experts, which do not compute in float16, so it cannot be exported as q4f16/],
    ['qwen3_moe', 'fp16', /has experts, which do not compute in float16, so it cannot be exported as fp16; choose fp32, q8 or q4\.$/],
    ['granitemoehybrid-experts', 'q4f16', /has experts, which .* as q4f16/],
  ] as const) {
    const model = await loadModel(path.join(fixtures, variant));
    const folder = path.join(scratch, `refused-${variant}`);
    await assert.rejects(exportModel(model, folder, { dtypes: [dtype] }), { name: 'UserError', message: sentence });
    assert.ok(!existsSync(folder));
    model.dispose();
  }
});

test('a StableLM whose heads share keys and values, of which transformers.js would make other caches, is refused', async () => {
  const model = await loadModel(path.join(fixtures, 'stablelm'));
  const folder = path.join(scratch, 'refused-stablelm');
  const message =
    /has 2 heads of keys and values for 4 of queries, which transformers\.js does not expect of a StableLM; export it for llama\.cpp/;
  await assert.rejects(exportModel(model, folder, { dtypes: ['fp32'] }), { name: 'UserError', message });
  assert.ok(!existsSync(folder));
  model.dispose();
});

test('heads of keys that a configuration leaves to its class are said to transformers.js', async () => {
  const model = await loadModel(path.join(fixtures, 'phi-old-keys'));
  const folder = path.join(scratch, 'heads-of-keys');
  await exportModel(model, folder, { dtypes: ['fp32'] });
  const { AutoModelForCausalLM, Tensor } = await import('@huggingface/transformers');
  const there = await AutoModelForCausalLM.from_pretrained(folder, { device: 'cpu', local_files_only: true });
  const [input_ids, attention_mask] = [
    [5n, 9n, 12n],
    [1n, 1n, 1n],
  ].map((row) => new Tensor('int64', BigInt64Array.from(row), [1, 3]));
  const output = (await there.generate({ input_ids, attention_mask, max_new_tokens: 5, do_sample: false } as never)) as {
    tolist(): bigint[][];
  };
  const [{ ids }] = await generateBatch(model, [[5, 9, 12]], { maxNewTokens: 5, ignoreEos: true });
  const found = output.tolist()[0].slice(3).map(Number);
  assert.deepEqual(found, ids.slice(0, found.length));
  await there.dispose();
  model.dispose();
});

test('a model of experts opens in transformers.js, and continues a text as here', async () => {
  for (const variant of ['qwen2_moe', 'qwen3_moe', 'granitemoehybrid-experts', 'lfm2_moe'])
    for (const dtype of ['fp32', 'q8'] as const)
      await exported(
        path.join(fixtures, variant),
        async ({ model, folder }) => {
          const { AutoModelForCausalLM, Tensor } = await import('@huggingface/transformers');
          const there = await AutoModelForCausalLM.from_pretrained(folder, { dtype, device: 'cpu', local_files_only: true });
          const ids = [5, 9, 12, 30, 41, 7, 22];
          const longs = (numbers: number[]) => new Tensor('int64', BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
          const settings = {
            input_ids: longs(ids),
            attention_mask: longs(ids.map(() => 1)),
            max_new_tokens: 8,
            min_new_tokens: 8,
            eos_token_id: -1,
          };
          const output = (await there.generate({ ...settings, do_sample: false } as never)) as { tolist(): bigint[][] };
          const [expected] = await generateBatch(model, [ids], { maxNewTokens: 8, ignoreEos: true });
          assert.deepEqual(output.tolist()[0].slice(ids.length).map(Number), expected.ids);
          await there.dispose();
        },
        dtype,
      );
});

test('a model of convolutions alone, from whose cache transformers.js could not tell how long a text is, is refused', async () => {
  const tokenizer = await loadTokenizer(path.join(golden, 'llama/model'));
  const sizes = { vocab_size: 1024, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, num_key_value_heads: 1 };
  const config = { ...sizes, model_type: 'lfm2', intermediate_size: 24, block_multiple_of: 8, full_attn_idxs: [] };
  const model = createModel(config, { seed: 1, tokenizer });
  const folder = path.join(scratch, 'convolutions');
  await assert.rejects(exportModel(model, folder), { name: 'UserError', message: /^No layer of new weights, seed 1 attends, so that/ });
  model.dispose();
});

test('of the last tokens alone logits are computed where only those are wanted', async () => {
  await exported(path.join(golden, 'llama/model'), async ({ open }) => {
    const ids = [[5, 9, 12, 30, 41, 7]];
    const all = rowsOf(await open.run({ ids }));
    closeTo(rowsOf(await open.run({ ids, keep: 2 })).flat(), all.slice(-2).flat(), 1e-6);
    assert.equal(rowsOf(await open.run({ ids, keep: 1 })).length, 1);
  });
});

const adapters = [
  { name: 'an adapter', files: path.join(golden, 'llama/lora_trained') },
  { name: 'an adapter with magnitudes of its own (DoRA)', files: path.join(projectRoot, 'test/train/fixtures/dora/llama') },
];

for (const { name, files } of adapters) {
  for (const [dtype, tolerance] of [
    ['fp32', 1e-4],
    ['fp16', 1e-2],
  ] as const)
    test(`what ${name} adds is part of the exported model, in ${dtype}`, async () => {
      const adapter = mkdtempSync(path.join(scratch, 'adapter-'));
      cpSync(files, adapter, { recursive: true });
      const config = readJson(path.join(adapter, 'adapter_config.json')) as object;
      const base_model_name_or_path = path.join(golden, 'llama/model');
      put(adapter, 'adapter_config.json', { ...config, base_model_name_or_path });
      await exported(
        adapter,
        async ({ model, folder, open }) => {
          assert.ok(model.adapter);
          const ids = [5, 9, 12, 30, 41, 7];
          const found = rowsOf(await open.run({ ids: [ids] })).flat();
          closeTo(found, (await logitsOf(model, ids)).flat(), tolerance);
          const bare = await loadModel(base_model_name_or_path);
          const without = (await logitsOf(bare, ids)).flat();
          bare.dispose();
          assert.ok(
            found.some((value, i) => Math.abs(value - without[i]) > 1e-2),
            'the adapter changes nothing',
          );
          assert.ok(!readdirSync(folder).some((name) => name.includes('adapter')));
        },
        dtype,
      );
    });
}

test('a size of the model may be one of the numbers that stand for unknown sizes', async () => {
  const tokenizer = await loadTokenizer(base);
  const small = { model_type: 'llama', hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 };
  for (const vocab_size of [10007, 10009, 10037, 10039, 20046]) {
    const model = createModel({ ...small, vocab_size, intermediate_size: vocab_size }, { seed: 1, tokenizer });
    const folder = path.join(scratch, `vocabulary-${vocab_size}`);
    await exportModel(model, folder, { dtypes: ['fp32'] });
    const open = await Exported.open(folder);
    const ids = [5, 9, 12, 30];
    closeTo(rowsOf(await open.run({ ids: [ids] })).flat(), (await logitsOf(model, ids)).flat(), 1e-4);
    await open.release();
    model.dispose();
  }
});

test('a model that has generated exports as before, and leaves no tensor behind', async () => {
  const [first, second] = ['before', 'after'].map((name) => path.join(scratch, name));
  const model = await loadModel(base);
  await exportModel(model, first);
  const tensors = tf.memory().numTensors;
  // brings the weights into another layout
  await generate(model, 'Once', { maxNewTokens: 4 });
  await exportModel(model, second);
  assert.equal(tf.memory().numTensors, tensors);
  for (const name of readdirSync(path.join(first, 'onnx')))
    assert.deepEqual(readFileSync(path.join(second, 'onnx', name)), readFileSync(path.join(first, 'onnx', name)), name);
  model.dispose();
});

test('what is computed while an export goes on changes nothing in it', async () => {
  const [alone, beside] = ['alone', 'beside'].map((name) => path.join(scratch, name));
  const model = await loadModel(base);
  await exportModel(model, alone);
  await Promise.all([exportModel(model, beside), generate(model, 'Once', { maxNewTokens: 20 })]);
  for (const name of readdirSync(path.join(alone, 'onnx')))
    assert.ok(readFileSync(path.join(beside, 'onnx', name)).equals(readFileSync(path.join(alone, 'onnx', name))), name);
  model.dispose();
});

test('constants have the names of the parameters and begin at pages; a tied head is the embedding', async () => {
  await exported(base, async ({ model, folder }) => {
    const graph = readFileSync(path.join(folder, 'onnx/model.onnx')).toString('latin1');
    for (const name of model.parameters.keys()) assert.ok(graph.includes(name), name);
    const offsets = [...graph.matchAll(/offset\D\D(\d+)/gs)].map(([, offset]) => Number(offset));
    assert.ok(offsets.length >= model.parameters.size - 1);
    assert.deepEqual(
      offsets.filter((offset) => offset % 4096 !== 0),
      [],
    );
    const numbers = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
    assert.ok(statSync(path.join(folder, 'onnx/model.onnx_data')).size < 4.2 * numbers);
  });
});

describe('a folder', () => {
  test('of an earlier export is replaced, of a saved model afterwards has no graphs', async () => {
    const folder = path.join(scratch, 'again');
    const model = await loadModel(path.join(fixtures, 'qwen2'));
    await exportModel(model, folder);
    await exportModel(model, folder, { dtypes: ['q8'] });
    assert.deepEqual(readdirSync(path.join(folder, 'onnx')).sort(), ['model_quantized.onnx', 'model_quantized.onnx_data']);
    const config = readJson(path.join(folder, 'config.json')) as Record<string, Record<string, unknown>>;
    assert.deepEqual(config['transformers.js_config'], {
      dtype: 'q8',
      use_external_data_format: { 'model_quantized.onnx': true },
    });
    await saveModel(model, folder);
    assert.ok(!existsSync(path.join(folder, 'onnx')));
    model.dispose();
  });

  test('says which graphs take a cache in float16, for transformers.js 3', async () => {
    const folder = path.join(scratch, 'halves');
    const model = await loadModel(path.join(fixtures, 'qwen2'));
    await exportModel(model, folder, { dtypes: ['fp16', 'q8', 'q4f16'] });
    const config = readJson(path.join(folder, 'config.json')) as Record<string, Record<string, unknown>>;
    assert.deepEqual(config['transformers.js_config'].kv_cache_dtype, { fp16: 'float16', q4f16: 'float16' });
    model.dispose();
  });

  test('with weights or with something else is left alone', async () => {
    const model = await loadModel(path.join(fixtures, 'qwen2'));
    const saved = path.join(scratch, 'saved');
    await saveModel(model, saved);
    await assert.rejects(
      exportModel(model, saved),
      /holds the weights of a model \(model\.safetensors\), which would be replaced; export into another/,
    );
    const older = path.join(scratch, 'older');
    mkdirSync(older);
    put(older, 'config.json', { model_type: 'opt' });
    writeFileSync(path.join(older, 'pytorch_model.bin'), '');
    await assert.rejects(exportModel(model, older), /holds the weights of a model \(pytorch_model\.bin\)/);
    assert.deepEqual(readJson(path.join(older, 'config.json')), { model_type: 'opt' });
    const other = path.join(scratch, 'other');
    mkdirSync(other);
    writeFileSync(path.join(other, 'notes.txt'), 'mine');
    await assert.rejects(exportModel(model, other), /holds something else \(notes\.txt\)/);
    assert.deepEqual(readdirSync(other), ['notes.txt']);
    model.dispose();
  });
});

test('what cannot be exported is refused in one sentence', async () => {
  const dynamic = await loadModel(path.join(fixtures, 'llama-dynamic'));
  const folder = path.join(scratch, 'refused');
  await assert.rejects(exportModel(dynamic, folder), /stretches its positions with the length of the text \(dynamic RoPE\)/);
  dynamic.dispose();
  const model = await loadModel(path.join(fixtures, 'qwen2'));
  await assert.rejects(
    exportModel(model, folder, { dtypes: ['q5' as 'q8'] }),
    /There is no dtype "q5" to export; choose from fp32, fp16, q8, q4, and q4f16\./,
  );
  await assert.rejects(
    exportModel(model, folder, { dtypes: [] }),
    /dtypes is empty, so nothing would be exported; leave it out for fp32 and q8/,
  );
  await tf.setBackend('cpu');
  await assert.rejects(exportModel(model, folder), /call `await useDevice\('cpu'\)` first/);
  await useDevice('cpu');
  assert.ok(!existsSync(folder) || readdirSync(folder).length === 0);
  model.dispose();
});
