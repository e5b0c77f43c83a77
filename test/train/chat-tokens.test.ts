/** A chat template whose tokens the model lacks brings them along: vocabulary, rows and training are TRL's `clone_chat_template`. */
import assert from 'node:assert/strict';
import { cpSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { type CausalLM, exportModel, generate, loadModel, saveModel } from '../../lib/model';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import type { Tokenizer } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';
import { conversations, fixtures, golden, loaded, readJsonFile, short, temporaryFolder } from './support';

before(async () => {
  await useDevice('cpu');
});

const chat = path.join(fixtures, 'chat-tokens');
const goldenModel = (family: string): string => path.join(golden, family, 'model');

/** What TRL makes of a tokenizer. */
interface Cloned {
  rows: number;
  /** Ids; one that its loop meets again is there twice. */
  added: number[];
  added_tokens: string[];
  eos_token_id: number;
  /** Of each text. */
  ids: number[][];
  without_special: string[];
}

interface Case extends Cloned {
  name: string;
  log: Array<{ loss: number; grad_norm: number; num_tokens: number }>;
  /** After three steps, of embedding and head: a row that is not trained, the first two new ones, and the last. */
  row_norms: number[];
}

const { texts, cases } = readJsonFile<{ texts: string[]; cases: Case[] }>(fixtures, 'chat_tokens.json');

function assertCloned(tokenizer: Tokenizer, expected: Cloned): void {
  assert.equal(tokenizer.vocabSize, expected.rows);
  assert.deepEqual(tokenizer.addedIds, [...new Set(expected.added)]);
  assertSameTokens(tokenizer, expected);
}

function assertSameTokens(tokenizer: Tokenizer, expected: Cloned): void {
  assert.equal(tokenizer.eosId, expected.eos_token_id);
  for (const [i, text] of texts.entries()) {
    assert.deepEqual(tokenizer.encode(text), expected.ids[i], text);
    assert.equal(tokenizer.decode(expected.ids[i]), expected.without_special[i]);
  }
}

/** The golden Llama with 1200 rows for its 1024 tokens, as make_chat_tokens.py makes it. */
async function widened(t: TestContext): Promise<string> {
  const folder = path.join(temporaryFolder(t), 'widened');
  cpSync(goldenModel('llama'), folder, { recursive: true });
  const config = { ...readJsonFile<object>(folder, 'config.json'), vocab_size: 1200 };
  writeFileSync(path.join(folder, 'config.json'), JSON.stringify(config));
  const tensors = [...(await readSafetensors(path.join(goldenModel('llama'), 'model.safetensors')))].map(([name, { shape, data }]) => {
    if (name !== 'model.embed_tokens.weight') return { name, shape, data: () => data };
    const padding = Float32Array.from({ length: 176 * shape[1] }, (_, i) => 0.02 * Math.sin(i));
    return { name, shape: [1200, shape[1]], data: () => Float32Array.from([...data, ...padding]) };
  });
  await writeSafetensors(path.join(folder, 'model.safetensors'), tensors, { dtype: 'float32' });
  return folder;
}

const load = (t: TestContext, folder: string, chatTemplateFrom?: string): Promise<CausalLM> => loaded(t, folder, { chatTemplateFrom });

const threeSteps = {
  ...{ maxSteps: 3, perDeviceTrainBatchSize: 2, learningRate: 1e-3, lrSchedulerType: 'constant' as const },
  ...{ trainSamplingStrategy: 'sequential' as const, loggingSteps: 1, disableTqdm: true },
};

async function rowNorm(matrix: tf.Tensor2D, row: number): Promise<number> {
  const [, features] = matrix.shape;
  const values = (await matrix.data<'float32'>()).subarray(row * features, (row + 1) * features);
  return Math.hypot(...values);
}

for (const expected of cases) {
  describe(expected.name, () => {
    const folderOf = (t: TestContext) => (expected.name === 'widened' ? widened(t) : goldenModel(expected.name));

    test("has TRL's tokens, ids and rows, and takes its steps", async (t) => {
      const model = await load(t, await folderOf(t), chat);
      assertCloned(model.tokenizer, expected);
      assert.deepEqual([model.config.vocabSize, model.outputHead.shape[0]], [expected.rows, expected.rows]);
      const trainer = new SFTTrainer({ model, trainDataset: conversations, config: threeSteps });
      await trainer.train();
      for (const [i, { loss, grad_norm: norm, num_tokens: tokens }] of expected.log.entries()) {
        const found = trainer.log[i];
        assert.ok(Math.abs((found.loss as number) - loss) < 1e-4, `loss ${found.loss}, expected ${loss}`);
        assert.ok(Math.abs((found.grad_norm as number) - norm) < 1e-3 * norm, `grad_norm ${found.grad_norm}, expected ${norm}`);
        assert.equal(found.num_tokens, tokens);
      }
      const table = model.embeddings[0].weight.tensor;
      const places = [table, model.outputHead].flatMap((matrix) => [5, 1024, 1025, 1087].map((row) => ({ matrix, row })));
      for (const [i, { matrix, row }] of places.entries()) {
        const norm = await rowNorm(matrix, row);
        assert.ok(
          Math.abs(norm - expected.row_norms[i]) < 1e-3 * expected.row_norms[i] + 1e-5,
          `${row}: ${norm}, ${expected.row_norms[i]}`,
        );
      }
    });

    test('is saved with them, and is loaded again as it was', async (t) => {
      const model = await load(t, await folderOf(t), chat);
      const folder = path.join(temporaryFolder(t), 'saved');
      await saveModel(model, folder);
      const again = await load(t, folder);
      assertSameTokens(again.tokenizer, expected);
      assert.equal(again.tokenizer.vocabSize, expected.rows);
      const { vocab_size, eos_token_id } = readJsonFile<Record<string, number>>(folder, 'config.json');
      assert.deepEqual([vocab_size, eos_token_id], [expected.rows, expected.eos_token_id]);
      for (const [name, variable] of model.parameters)
        assert.deepEqual(await again.parameters.get(name)?.data(), await variable.data(), name);
      // nothing is added twice
      const twice = await load(t, folder, chat);
      assert.deepEqual([twice.tokenizer.addedIds, twice.config.vocabSize], [[], expected.rows]);
    });
  });
}

test('new tokens get the mean of the biases that the output head has for the others', async (t) => {
  const bias = await (await load(t, goldenModel('phi'), chat)).outputBias?.data<'float32'>();
  assert.equal(bias?.length, 1088);
  const mean = bias.subarray(0, 1024).reduce((sum, x) => sum + x, 0) / 1024;
  assert.ok(bias.subarray(1024).every((x) => Math.abs(x - mean) < 1e-7));
});

test('new rows are the mean of the others but for little noise, the same ones each time', async (t) => {
  const [model, again] = [await load(t, goldenModel('gpt_neox'), chat), await load(t, goldenModel('gpt_neox'), chat)];
  for (const name of ['gpt_neox.embed_in.weight', 'embed_out.weight']) {
    const table = await (model.parameters.get(name) as tf.Variable).data<'float32'>();
    assert.deepEqual(await again.parameters.get(name)?.data(), table);
    const features = 64;
    const column = (rowsOf: number[], i: number) => rowsOf.map((row) => table[row * features + i]);
    const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
    const mean = (values: number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
    const variance = (values: number[], m: number) => mean(values.map((x) => (x - m) ** 2));
    let [before, after] = [0, 0];
    for (let i = 0; i < features; i++) {
      const old = column(range(0, 1024), i);
      const fresh = column(range(1024, 1088), i);
      const m = mean(old);
      assert.ok(fresh.every((x) => Math.abs(x - m) < 1e-5));
      before += variance(old, m);
      after += variance(fresh, m);
    }
    // drawn anew in 64 rows of 64 features; float32 rounds them, too
    assert.ok(after / before > 0.5e-9 && after / before < 2e-9, `${after / before}`);
  }
});

const turns = [
  {
    messages: [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ],
  },
];

test('a run is resumed, generates, is exported, and its run.json says whose template it has', async (t) => {
  const folder = temporaryFolder(t);
  const outputDir = path.join(folder, 'run');
  const config = { ...short, maxSteps: 2, outputDir, saveStrategy: 'steps', saveSteps: 1, evalStrategy: 'steps', evalSteps: 1 } as const;
  const run = async (resumeFromCheckpoint?: string) => {
    const model = await load(t, goldenModel('llama'), chat);
    const trainer = new SFTTrainer({ model, trainDataset: turns, evalDataset: turns, config });
    await trainer.train({ resumeFromCheckpoint });
    return { model, log: trainer.log };
  };
  const { model, log } = await run();
  const { config: settings } = readJsonFile<{ config: { chat_template_path: string } }>(outputDir, 'run.json');
  assert.equal(settings.chat_template_path, chat);
  assert.deepEqual((await run(path.join(outputDir, 'checkpoint-1'))).log, log);
  const prompt = '<|turn|>user\nHi<|end_of_turn|>\n<|turn|>assistant\n';
  const text = await generate(model, prompt, { maxNewTokens: 8 });
  const checkpoint = await load(t, path.join(outputDir, 'checkpoint-2'));
  assert.equal(await generate(checkpoint, prompt, { maxNewTokens: 8 }), text);
  await exportModel(model, path.join(folder, 'exported'), { dtypes: ['fp32'] });
  assert.equal(readJsonFile<{ vocab_size: number }>(folder, 'exported', 'config.json').vocab_size, 1088);
});

test('nothing is left behind', async () => {
  const before = tf.memory().numTensors;
  (await loadModel(goldenModel('gpt_neox'), { chatTemplateFrom: chat })).dispose();
  assert.equal(tf.memory().numTensors, before);
});
