/** Exported models whose weights are rounded, and those that compute in float16. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { createModel, exportModel, loadModel, ONNX_DTYPES } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { families, hasExperts, isKnownToTransformersJs } from '../golden-families';
import { Exported, exported, graphFiles, onnxRuntimeWeb, rowsOf } from './exported';
import { closeTo, fixtures, logitsOf } from './support';

const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-export-dtypes-'));
const golden = path.join(projectRoot, 'test/golden');
const base = path.join(projectRoot, 'data/base');
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

/** Whether such models can be exported in float16. */
const isExported = (folder: string): boolean => isKnownToTransformersJs(folder) && !hasExperts(folder);

for (const { name } of readdirSync(fixtures, { withFileTypes: true }).filter((entry) => entry.isDirectory())) {
  // the first stretches its positions
  if (name === 'llama-dynamic' || !isExported(path.join(fixtures, name))) continue;
  test(`${name} in float16: nearly transformers' logits`, async () => {
    const folder = path.join(fixtures, name);
    const { sequences } = readJson(path.join(folder, 'expected.json')) as { sequences: { input_ids: number[]; logits: number[][] }[] };
    await exported(
      folder,
      async ({ open }) => {
        for (const { input_ids: ids, logits } of sequences) closeTo(rowsOf(await open.run({ ids: [ids] })).flat(), logits.flat(), 2e-2);
      },
      'fp16',
    );
  });
}

/** Of rounded weights: how far the distributions may be from the exact ones, how far a cache may change the logits, and bytes for each number. */
const roundedWeights = [
  { name: 'float16: half of the size', dtype: 'fp16', divergence: 1e-5, cached: 1e-2, bytesEach: 2.1 },
  // each token is rounded by itself, so that those read together with it change next to nothing
  { name: '8 bits: a quarter of the size', dtype: 'q8', divergence: 0.02, cached: 2e-3, bytesEach: 1.3 },
  { name: '4 bits: less than a fifth of the size', dtype: 'q4', divergence: 0.2, cached: 1e-4, bytesEach: 0.8 },
  { name: '4 bits, for float16: a sixth of the size', dtype: 'q4f16', divergence: 0.2, cached: 1e-2, bytesEach: 0.7 },
] as const;

for (const { name, dtype, divergence, cached, bytesEach } of roundedWeights) {
  test(`weights in ${name}, a cache, and nearly the same distributions`, async () => {
    await exported(
      base,
      async ({ model, folder, open }) => {
        const ids = [...model.tokenizer.encode('The capital of France is Paris. Mia and Leo went to the garden with a cake.')];
        const exact = await logitsOf(model, ids);
        const found = rowsOf(await open.run({ ids: [ids] }));
        const mean = exact.map((row, i) => kullbackLeibler(row, found[i])).reduce((a, b) => a + b) / ids.length;
        assert.ok(mean < divergence && mean > 0, `${mean}`);
        const first = await open.run({ ids: [ids.slice(0, 5)] });
        closeTo(rowsOf(await open.run({ ids: [ids.slice(5)], before: first })).flat(), found.slice(5).flat(), cached);
        const bytes = statSync(path.join(folder, `onnx/${graphFiles[dtype]}_data`)).size;
        const numbers = [...model.parameters.values()].reduce((sum, { size }) => sum + size, 0);
        assert.ok(bytes < bytesEach * numbers, `${bytes} bytes for ${numbers} numbers`);
      },
      dtype,
    );
  });
}

/** Those that transformers.js continues in each way: of the others, weights in 4 bits that are computed in float16 are both ways at once. */
const IN_EACH_WAY = ['llama', 'gpt2', 'gemma3', 'granite_h', 'lfm2', 'qwen3_5'];

for (const family of families.filter((name) => isExported(path.join(golden, name, 'model')))) {
  for (const dtype of ['fp16', 'q4', 'q4f16'] as const) {
    if (dtype !== 'q4f16' && !IN_EACH_WAY.includes(family)) continue;
    test(`${family}: transformers.js continues a text in ${dtype}, by the likeliest tokens that the graph has`, async () => {
      await exported(
        path.join(golden, family, 'model'),
        async ({ folder, open }) => {
          const ids = [5, 9, 12, 30];
          const expected = [...ids];
          while (expected.length < 12) {
            const last = rowsOf(await open.run({ ids: [expected], keep: 1 }))[0];
            expected.push(last.indexOf(Math.max(...last)));
          }
          const { AutoModelForCausalLM, Tensor } = await import('@huggingface/transformers');
          const there = await AutoModelForCausalLM.from_pretrained(folder, { dtype, device: 'cpu', local_files_only: true });
          const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
          const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
          const settings = { input_ids, attention_mask, max_new_tokens: 8, min_new_tokens: 8, eos_token_id: -1, do_sample: false };
          const output = (await there.generate(settings as never)) as { tolist(): bigint[][] };
          assert.deepEqual(output.tolist()[0].map(Number), expected);
          await there.dispose();
        },
        dtype,
      );
    });
  }
}

test('where rows do not fall into blocks of 32, weights stay in float32, or in float16', async () => {
  const tokenizer = await loadTokenizer(base);
  const small = { model_type: 'llama', hidden_size: 48, intermediate_size: 80, num_hidden_layers: 1, num_attention_heads: 2 };
  const model = createModel({ ...small, vocab_size: 2048 }, { seed: 1, tokenizer });
  const folder = path.join(scratch, 'no-blocks');
  await exportModel(model, folder, { dtypes: ['q4', 'q4f16'] });
  for (const [dtype, tolerance] of [
    ['q4', 1e-5],
    ['q4f16', 1e-3],
  ] as const) {
    const open = await Exported.open(folder, graphFiles[dtype]);
    const ids = [5, 9, 12, 30];
    closeTo(rowsOf(await open.run({ ids: [ids] })).flat(), (await logitsOf(model, ids)).flat(), tolerance);
    await open.release();
  }
  model.dispose();
});

test('a weight beyond the range of float16 is refused where a model computes in it', async () => {
  const model = await loadModel(path.join(golden, 'llama/model'));
  const [name, variable] = [...model.parameters].at(-1) as [string, tf.Variable];
  const folder = path.join(scratch, 'beyond');
  variable.assign(tf.fill(variable.shape, -65505));
  for (const dtype of ['fp16', 'q4f16'] as const)
    await assert.rejects(exportModel(model, folder, { dtypes: [dtype] }), (error: Error) => {
      assert.match(error.message, new RegExp(`^The weight ${name} of .*model holds -65505, beyond the range of float16 \\(±65504\\)`));
      assert.match(error.message, new RegExp(`so it cannot be exported as ${dtype}; choose fp32, q8 or q4\\.$`));
      return true;
    });
  assert.deepEqual(readdirSync(folder), []);
  variable.assign(tf.fill(variable.shape, -65504));
  await exportModel(model, folder, { dtypes: ['fp16'] });
  model.dispose();
});

function kullbackLeibler(logits: number[], approximation: number[]): number {
  const logOf = (row: number[]): number[] => {
    const most = Math.max(...row);
    const sum = most + Math.log(row.reduce((total, x) => total + Math.exp(x - most), 0));
    return row.map((x) => x - sum);
  };
  const [p, q] = [logOf(logits), logOf(approximation)];
  return p.reduce((total, x, i) => total + Math.exp(x) * (x - q[i]), 0);
}

for (const dtype of ONNX_DTYPES) {
  test(`WebAssembly computes the same from ${dtype}`, async () => {
    await exported(
      base,
      async ({ folder, open }) => {
        const ids = [[...Buffer.from('a cake with an egg')]];
        const there = await Exported.open(folder, graphFiles[dtype], onnxRuntimeWeb());
        const [found, expected] = [await there.run({ ids }), await open.run({ ids })];
        closeTo(rowsOf(found).flat(), rowsOf(expected).flat(), ['fp32', 'q4'].includes(dtype) ? 1e-4 : 1e-2);
        await there.release();
      },
      dtype,
    );
  });
}
