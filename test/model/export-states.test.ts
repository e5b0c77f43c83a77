/** Exported models whose layers keep a state of their text (Qwen3.5, Granite 4.0 H, Falcon-H1). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import type { InferenceSession } from 'onnxruntime-node';
import { useDevice } from '../../lib/engine';
import { readJson } from '../../lib/files';
import { exportModel, loadModel, ONNX_DTYPES, type OnnxDtype } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { Exported, exported, graphFiles, onnxRuntimeWeb, rowsOf } from './exported';
import { closeTo, fixtures, logitsOf } from './support';

const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-export-states-'));
/** With what transformers.js calls their states, and layers that keep one and that attend. */
const FAMILIES = [
  { family: 'qwen3_5', state: 'recurrent', keeps: 0, attends: 2 },
  { family: 'granite_h', state: 'ssm', keeps: 2, attends: 1 },
  { family: 'falcon_h1', state: 'ssm', keeps: 1, attends: 1 },
] as const;

const golden = (family: string): string => path.join(projectRoot, 'test/golden', family);
const sourceOf = (family: string): string => path.join(golden(family), 'model');
before(() => useDevice('cpu'));
after(() => rmSync(scratch, { recursive: true }));

/** A text of many tokens; the model computes such in several chunks. */
const textOf = (length: number, seed = 1): number[] => Array.from({ length }, (_, i) => 2 + ((i * i * 31 + 97 * i * seed + seed) % 1000));

interface Forward {
  input_ids: number[];
  logits_first: number[];
  logits_last: number[];
  greedy: { prompt_ids: number[]; output_ids: number[] };
}

const forwardOf = (family: string): Forward => readJson(path.join(golden(family), 'forward.json')) as Forward;

/** What transformers.js generates from prompts, the shorter ones padded on the left: the new tokens of each. */
async function continued(folder: string, prompts: number[][], tokens: number): Promise<number[][]> {
  const { AutoModelForCausalLM, Tensor } = await import('@huggingface/transformers');
  const there = await AutoModelForCausalLM.from_pretrained(folder, { device: 'cpu', local_files_only: true });
  const length = Math.max(...prompts.map((prompt) => prompt.length));
  const padded = (rows: number[][]) => {
    const filled = rows.flatMap((row) => [...new Array<number>(length - row.length).fill(0), ...row]);
    return new Tensor('int64', BigInt64Array.from(filled, BigInt), [rows.length, length]);
  };
  const inputs = { input_ids: padded(prompts), attention_mask: padded(prompts.map((prompt) => prompt.map(() => 1))) };
  const settings = { ...inputs, max_new_tokens: tokens, min_new_tokens: tokens, eos_token_id: -1, do_sample: false };
  const output = (await there.generate(settings as never)) as { tolist(): bigint[][] };
  await there.dispose();
  return output.tolist().map((row) => row.slice(length).map(Number));
}

for (const { family, state, keeps, attends } of FAMILIES) {
  const source = sourceOf(family);
  const forward = forwardOf(family);

  test(`${family}: logits of a text are transformers', however it is cut into steps`, async () => {
    await exported(source, async ({ open }) => {
      const { input_ids: ids, logits_first, logits_last } = forward;
      for (const cuts of [[], [1], [64], [3, 4, 5, 90]]) {
        let step = await open.run({ ids: [ids.slice(0, cuts[0])] });
        closeTo(rowsOf(step)[0], logits_first, 1e-4);
        for (const [i, cut] of cuts.entries()) step = await open.run({ ids: [ids.slice(cut, cuts[i + 1])], before: step });
        closeTo(rowsOf(step).at(-1) as number[], logits_last, 1e-4);
      }
    });
  });

  for (const [dtype, tolerance] of [
    ['fp32', 1e-4],
    ['fp16', 2e-2],
  ] as const) {
    test(`${family}, ${dtype}: long texts of several lengths, padded on the left, get the logits that each has alone, and so does what follows`, async () => {
      await exported(
        source,
        async ({ model, open }) => {
          const texts = [textOf(150), textOf(70, 2), textOf(1, 3)];
          const mask = texts.map(({ length }) => [...new Array<number>(150 - length).fill(0), ...new Array<number>(length).fill(1)]);
          const padded = texts.map((text) => [...new Array<number>(150 - text.length).fill(7), ...text]);
          const first = await open.run({ ids: padded, mask });
          const next = await open.run({ ids: [[21], [22], [23]], mask: mask.map((row) => [...row, 1]), before: first });
          for (const [i, text] of texts.entries()) {
            const expected = await logitsOf(model, [...text, 21 + i]);
            closeTo([...rowsOf(first, i).slice(150 - text.length), ...rowsOf(next, i)].flat(), expected.flat(), tolerance);
          }
        },
        dtype,
      );
    });
  }

  test(`${family}: padding, whatever tokens it has, leaves the state of zeros`, async () => {
    await exported(source, async ({ open }) => {
      const found = await open.run({ ids: [textOf(5)], mask: [[0, 0, 0, 0, 0]] });
      for (const [name, { data }] of Object.entries(found)) {
        if (/present_(recurrent|ssm|conv)/.test(name))
          assert.ok(
            (data as Float32Array).every((value) => value === 0),
            name,
          );
      }
    });
  });

  test(`${family}: states are float32 also where a model computes in float16, all else of the cache is not`, async () => {
    for (const dtype of ['fp16', 'q4f16'] as const) {
      await exported(
        source,
        async ({ folder }) => {
          const { InferenceSession } = await import('onnxruntime-node');
          const session = await InferenceSession.create(path.join(folder, 'onnx', graphFiles[dtype]));
          const typeOf = (metadata: readonly InferenceSession.ValueMetadata[]): Record<string, string> =>
            Object.fromEntries((metadata as InferenceSession.TensorValueMetadata[]).map(({ name, type }) => [name, type]));
          const [inputs, outputs] = [typeOf(session.inputMetadata), typeOf(session.outputMetadata)];
          const cache = (state: string, half: string) => ({ [state]: 'float32', [half]: 'float16' });
          const [past, present] = ['past', 'present'].map((name) => cache(`${name}_${state}.${keeps}`, `${name}_conv.${keeps}`));
          assert.deepEqual({ ...inputs, ...past, [`past_key_values.${attends}.key`]: 'float16' }, inputs);
          assert.deepEqual({ ...outputs, ...present, [`present.${attends}.key`]: 'float16' }, outputs);
          await session.release();
        },
        dtype,
      );
    }
  });

  test(`${family}: transformers.js continues prompts of several lengths together, as transformers and this model do each alone`, async () => {
    await exported(source, async ({ model, folder }) => {
      const { prompt_ids: prompt, output_ids } = forward.greedy;
      const prompts = [prompt, textOf(135), textOf(70, 2)];
      const found = await continued(folder, prompts, 24);
      assert.deepEqual([...prompt, ...found[0]], output_ids);
      for (const [i, text] of prompts.entries()) {
        const logits = await logitsOf(model, [...text, ...found[i].slice(0, -1)]);
        const likeliest = logits.slice(text.length - 1).map((row) => row.indexOf(Math.max(...row)));
        assert.deepEqual(found[i], likeliest);
      }
    });
  });
}

test('where a configuration leaves the kinds of layers out, the exported one says them', async () => {
  const folder = path.join(scratch, 'without-types');
  const without = path.join(fixtures, 'qwen3_5-defaults');
  assert.ok(!('layer_types' in (readJson(path.join(without, 'config.json')) as object)));
  const model = await loadModel(without);
  await exportModel(model, folder, { dtypes: ['fp32'] });
  const { layer_types } = readJson(path.join(folder, 'config.json')) as { layer_types: string[] };
  assert.deepEqual(layer_types, ['linear_attention', 'linear_attention', 'linear_attention', 'full_attention']);
  const prompt = [5, 9, 12, 30];
  const [found] = await continued(folder, [prompt], 8);
  const logits = await logitsOf(model, [...prompt, ...found.slice(0, -1)]);
  assert.deepEqual(
    found,
    logits.slice(3).map((row) => row.indexOf(Math.max(...row))),
  );
  model.dispose();
});

const inWebAssembly: Readonly<Record<OnnxDtype, number>> = { fp32: 1e-4, fp16: 2e-2, q8: 2e-2, q4: 1e-4, q4f16: 2e-2 };

for (const [family, dtype] of [...ONNX_DTYPES.map((dtype) => ['qwen3_5', dtype] as const), ['granite_h', 'q4f16'] as const]) {
  test(`${family}: WebAssembly computes the same from ${dtype}`, async () => {
    await exported(
      sourceOf(family),
      async ({ folder, open }) => {
        const ids = [textOf(70)];
        const there = await Exported.open(folder, graphFiles[dtype], onnxRuntimeWeb());
        const [found, expected] = [await there.run({ ids }), await open.run({ ids })];
        closeTo(rowsOf(found).flat(), rowsOf(expected).flat(), inWebAssembly[dtype]);
        const [next, expectedNext] = [await there.run({ ids: [[5]], before: found }), await open.run({ ids: [[5]], before: expected })];
        closeTo(rowsOf(next).flat(), rowsOf(expectedNext).flat(), inWebAssembly[dtype]);
        await there.release();
      },
      dtype,
    );
  });
}
