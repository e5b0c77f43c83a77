/** DoRA: forward pass, gradients, files and merging are PEFT's, and nothing depends on when the norms of the rows are found. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { beforeEach, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { engineStatistics, releaseMemory, useDevice, usePrecision } from '../../lib/engine';
import { addAdapter, type CausalLM, loadModel, mergeAdapter, saveModel } from '../../lib/model';
import { type SFTConfig, SFTTrainer } from '../../lib/train';
import { decays } from '../../lib/train/optimizer';
import {
  assertPass,
  assertSameAgain,
  fixtures,
  golden,
  goldenIds,
  lossOn,
  peftAdapter,
  type ReferencePass,
  readJsonFile,
  rows,
  short,
  temporaryFolder,
  tinyModel,
} from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

interface Reference extends ReferencePass {
  family: string;
  share: number;
  loss_of_merged?: number;
}

const references = readJsonFile<Reference[]>(fixtures, 'dora.json');

/** PEFT's adapter on its golden model. */
const loadPeft = (t: TestContext, { family, share }: Pick<Reference, 'family' | 'share'>): Promise<CausalLM> =>
  loadModel(peftAdapter(t, `dora/${family}`, family, { lora_dropout: share }));

describe("loss and gradients of an adapter that PEFT saved are PEFT's", () => {
  for (const reference of references) {
    const { family, share } = reference;
    for (const gradientCheckpointing of [false, true]) {
      test(`${family}: dropout ${share}${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const model = await loadPeft(t, reference);
        t.after(() => model.dispose());
        await assertPass(model, [goldenIds(family)], reference, { gradientCheckpointing });
      });
    }
  }
});

for (const reference of references.filter(({ loss_of_merged: merged }) => merged !== undefined)) {
  const { family, loss_of_merged: expected = 0 } = reference;
  test(`${family}: merged, it computes what it did beside the weights`, async (t) => {
    const model = await loadPeft(t, reference);
    t.after(() => model.dispose());
    for (const merge of [false, true]) {
      if (merge) mergeAdapter(model);
      const loss = await lossOn(model, goldenIds(family));
      assert.ok(Math.abs(loss - expected) < 1e-5 * expected, `${loss}, expected ${expected}`);
    }
  });
}

test('a fresh adapter changes nothing, and is saved with the lengths of the weights', async (t) => {
  const model = await tinyModel(t);
  const ids = goldenIds('llama');
  const before = await lossOn(model, ids);
  const { parameters } = addAdapter(model, { r: 4, useDora: true, targetModules: ['q_proj', 'down_proj'] }, { seed: 1 });
  const after = await lossOn(model, ids);
  assert.ok(Math.abs(after - before) < 1e-6 * before, `${after}, before ${before}`);
  const prefix = 'base_model.model.model.layers.0.mlp.down_proj';
  const lengths = await parameters.get(`${prefix}.lora_magnitude_vector`)?.data();
  const weight = model.parameters.get('model.layers.0.mlp.down_proj.weight') as tf.Variable;
  const rowsOf = (await weight.array()) as number[][];
  assert.equal(lengths?.length, rowsOf.length);
  for (const [i, row] of rowsOf.entries()) assert.ok(Math.abs((lengths as Float32Array)[i] - Math.hypot(...row)) < 1e-5);
  const folder = path.join(temporaryFolder(t), 'saved');
  await saveModel(model, folder);
  assert.equal((JSON.parse(readFileSync(path.join(folder, 'adapter_config.json'), 'utf8')) as { use_dora: unknown }).use_dora, true);
  const again = await loadModel(folder);
  t.after(() => again.dispose());
  assert.deepEqual([...(again.adapter?.parameters.keys() ?? [])], [...parameters.keys()]);
  assert.equal(await lossOn(again, ids), after);
});

test('matrices that are assigned count from then on', async (t) => {
  const model = await tinyModel(t);
  const { parameters } = addAdapter(model, { r: 4, useDora: true }, { seed: 1 });
  const ids = goldenIds('llama');
  await lossOn(model, ids);
  for (const matrix of parameters.values()) tf.tidy(() => matrix.assign(tf.add(matrix, 0.05)));
  const now = await lossOn(model, ids);
  const folder = path.join(temporaryFolder(t), 'saved');
  await saveModel(model, folder);
  const again = await loadModel(folder);
  t.after(() => again.dispose());
  assert.equal(await lossOn(again, ids), now);
});

test('lengths that were found in float16, as in an evaluation at the end of a run in mixed precision, do not stay for float32', async (t) => {
  const [model, other] = [await loadPeft(t, references[0]), await loadPeft(t, references[0])];
  t.after(() => {
    usePrecision('float32');
    model.dispose();
    other.dispose();
  });
  const ids = goldenIds(references[0].family);
  usePrecision('float16');
  const rounded = await lossOn(model, ids);
  usePrecision('float32');
  const exact = await lossOn(other, ids);
  assert.notEqual(rounded, exact);
  assert.equal(await lossOn(model, ids), exact);
});

const settings: Partial<SFTConfig> = { ...short, maxSteps: 4, learningRate: 2e-3 };

test('a run is the same again, with gradient checkpointing, and resumed', (t) =>
  assertSameAgain(t, { r: 4, loraDropout: 0.2, useDora: true, targetModules: 'all-linear' }));

test('what was trained is what is saved: the norms follow each step', async (t) => {
  const model = await tinyModel(t);
  const config = { ...settings, saveStrategy: 'no' } as const;
  const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig: { r: 8, useDora: true }, config });
  await trainer.train();
  const folder = path.join(temporaryFolder(t), 'trained');
  await saveModel(model, folder);
  const again = await loadModel(folder);
  t.after(() => again.dispose());
  assert.equal(await lossOn(model, goldenIds('llama')), await lossOn(again, goldenIds('llama')));
});

test('training, merging and disposing leave no tensor behind', async () => {
  const once = async () => {
    const model = await loadModel(path.join(golden, 'llama', 'model'));
    const config = { ...settings, maxSteps: 2, saveStrategy: 'no' } as const;
    await new SFTTrainer({ model, trainDataset: rows, peftConfig: { useDora: true, loraDropout: 0.1 }, config }).train();
    mergeAdapter(model);
    model.dispose();
  };
  await once();
  const before = tf.memory().numTensors;
  await once();
  assert.equal(tf.memory().numTensors, before);
});

test('the norms of layers of one kind are found by one graph', async () => {
  const compilations = async (targetModules: string): Promise<number> => {
    const model = await loadModel(path.join(golden, 'llama', 'model'));
    releaseMemory();
    const before = engineStatistics()?.compilations ?? 0;
    addAdapter(model, { useDora: true, targetModules }, { seed: 1 }).prepare();
    model.dispose();
    return (engineStatistics()?.compilations ?? 0) - before;
  };
  assert.ok((await compilations('.*q_proj')) <= (await compilations('.*layers\\.0.*q_proj')));
});

test('weight decay applies to the lengths, as transformers applies it', () => {
  assert.ok(decays('base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector', [64]));
  assert.ok(!decays('model.norm.weight', [64]));
});
