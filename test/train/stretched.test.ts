/** Dynamic RoPE: positions stretch with the longest text of a micro-batch, whatever else is computed beside it. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { type CausalLM, loadModel, unstretchedLength } from '../../lib/model';
import { SFTTrainer } from '../../lib/train';
import { cutIntoRows } from '../../lib/train/batches';
import { scoreItems } from '../../lib/train/evaluation';
import type { Item } from '../../lib/train/examples';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';
import { closeTo, fixtures } from '../model/support';
import { readJsonFile, sequence } from './support';

/** What transformers computes for each micro-batch, made by test/model/fixtures/make.py. */
const expected = readJsonFile<{ micro_batches: number[][][]; nll: number[][]; gradient_norms: Record<string, number> }>(
  fixtures,
  'stretched.json',
);
const microBatches: Item[][] = expected.micro_batches.map((texts) =>
  texts.map((ids) => [{ ...sequence(ids.length), inputIds: Int32Array.from(ids) }]),
);

before(() => useDevice('cpu'));

async function stretchingModel(t: TestContext): Promise<CausalLM> {
  const model = await loadModel(path.join(fixtures, 'llama-dynamic'));
  t.after(() => model.dispose());
  return model;
}

const sum = (list: ArrayLike<number>): number => Array.from(list).reduce((total, value) => total + value, 0);

for (const budget of [8, 64, 1280]) {
  for (const gradientCheckpointing of [false, true]) {
    test(`rows of ${budget} tokens give each micro-batch the losses and gradients of transformers${gradientCheckpointing ? ', checkpointed' : ''}`, async (t) => {
      const model = await stretchingModel(t);
      const sums = new GradientSums();
      const share = tf.scalar(1);
      const nll = microBatches.map(() => 0);
      for (const row of cutIntoRows(microBatches, budget, { unstretched: unstretchedLength(model.config) })) {
        const scores = await backwardRow(model, row, sums, { share, gradientCheckpointing });
        for (const [i, owner] of scores.owners.entries()) nll[owner] += scores.loss[i];
      }
      closeTo(nll, expected.nll.map(sum), 1e-3);
      for (const [name, gradient] of sums.entries()) {
        const norm = Math.sqrt(sum((await gradient.data()).map((x) => x * x)));
        closeTo([norm], [expected.gradient_norms[name]], 1e-4 * norm);
      }
      tf.dispose(share);
      sums.dispose();
    });
  }
  test(`evaluation in rows of ${budget} tokens gives each batch the loss of transformers`, async (t) => {
    const scored = await scoreItems(await stretchingModel(t), microBatches.flat(), { batchSize: 2, tokensPerMicroBatch: budget });
    closeTo(
      scored.map(({ loss }) => loss),
      expected.nll.map(sum),
      1e-3,
    );
  });
}

test('tokens_per_micro_batch changes neither loss nor norm of a training step', async (t) => {
  const letters = (count: number): string => Array.from({ length: count }, (_, i) => String.fromCharCode(65 + ((i * count) % 26))).join('');
  const trainDataset = [24, 60, 9, 12].map((count) => ({ prompt: 'AB', completion: letters(count) }));
  const steps: Array<[number, number]> = [];
  for (const tokensPerMicroBatch of [8, 1280]) {
    const model = await stretchingModel(t);
    const config = { maxSteps: 1, perDeviceTrainBatchSize: 1, gradientAccumulationSteps: 4, loggingSteps: 1, disableTqdm: true };
    const trainer = new SFTTrainer({ model, trainDataset, config: { ...config, tokensPerMicroBatch } });
    await trainer.train();
    steps.push([trainer.log[0].loss as number, trainer.log[0].grad_norm as number]);
  }
  closeTo(steps[0], steps[1], 1e-5);
});

test('texts of one micro-batch keep its longest length in rows apart, and texts that stretch alike are computed together', () => {
  const rows = cutIntoRows(microBatches, 1280, { unstretched: 16 });
  assert.deepEqual(
    rows.map((row) => row.map(({ microBatch }) => microBatch)),
    [
      [0, 0],
      [1, 1],
      [2, 2],
    ],
  );
  assert.deepEqual(
    rows.map((row) => row.map(({ stretchedTo }) => stretchedTo)),
    [
      [24, 24],
      [40, 40],
      [undefined, undefined],
    ],
  );
  for (const row of cutIntoRows(microBatches, 8, { unstretched: 16 })) {
    for (const { microBatch, stretchedTo } of row) assert.equal(stretchedTo, [24, 40, undefined][microBatch]);
  }
  const alike = [[[sequence(24)], [sequence(9)]], [[sequence(24, 30)]], [[sequence(5)]], [[sequence(16)]]];
  assert.deepEqual(
    cutIntoRows(alike, 1280, { unstretched: 16 }).map((row) => row.map(({ microBatch }) => microBatch).sort()),
    [
      [0, 0, 1],
      [2, 3],
    ],
  );
  assert.equal(cutIntoRows(alike, 1280).length, 1, 'other models know no such borders');
});
