import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseConfig } from '../../lib/train';
import { cutIntoRows, groupByLength, orderOfEpoch, planRun, stepsOfEpoch } from '../../lib/train/batches';
import { countTokens } from '../../lib/train/examples';
import { fillerOf } from '../../lib/train/loss';
import { sequence, tinyModel } from './support';

const items = Array.from({ length: 23 }, (_, i) => [sequence(3 + ((i * 7) % 19), 100 * i)]);
const config = parseConfig({ per_device_train_batch_size: 4, gradient_accumulation_steps: 2, num_train_epochs: 2, seed: 5 });

describe('a run is divided as by transformers', () => {
  test('the last incomplete micro-batch and the last incomplete step count', () => {
    assert.deepEqual(planRun(23, config), { microBatchesPerEpoch: 6, stepsPerEpoch: 3, maxSteps: 6 });
    assert.deepEqual(planRun(18, config), { microBatchesPerEpoch: 5, stepsPerEpoch: 3, maxSteps: 6 });
  });
  test('a fraction of an epoch is rounded up to whole steps', () => {
    assert.equal(planRun(23, { ...config, numTrainEpochs: 0.5 }).maxSteps, 2);
  });
  test('max_steps wins over epochs', () => {
    assert.equal(planRun(23, { ...config, maxSteps: 100 }).maxSteps, 100);
  });
  test('dataloader_drop_last leaves the incomplete micro-batch out', () => {
    const dropping = { ...config, dataloaderDropLast: true };
    assert.equal(planRun(23, dropping).microBatchesPerEpoch, 5);
    assert.ok(
      stepsOfEpoch(items, dropping, 0)
        .flat()
        .every((batch) => batch.length === 4),
    );
    assert.throws(() => planRun(3, dropping), /leaves nothing of 3 examples/);
  });
});

describe('the order of an epoch', () => {
  const sorted = [...items.keys()];
  for (const trainSamplingStrategy of ['random', 'sequential', 'group_by_length'] as const) {
    test(`${trainSamplingStrategy} reads every example once`, () => {
      const order = orderOfEpoch(items, { ...config, trainSamplingStrategy }, 0);
      assert.deepEqual(
        [...order].sort((a, b) => a - b),
        sorted,
      );
      assert.deepEqual(orderOfEpoch(items, { ...config, trainSamplingStrategy }, 0), order, 'same seed, same order');
    });
  }
  test('sequential keeps the order of the rows', () => {
    assert.deepEqual(orderOfEpoch(items, { ...config, trainSamplingStrategy: 'sequential' }, 3), sorted);
  });
  test('random differs from epoch to epoch and from seed to seed', () => {
    assert.notDeepEqual(orderOfEpoch(items, config, 0), orderOfEpoch(items, config, 1));
    assert.notDeepEqual(orderOfEpoch(items, config, 0), orderOfEpoch(items, { ...config, seed: 6 }, 0));
    assert.deepEqual(
      orderOfEpoch(items, config, 0),
      orderOfEpoch(items, { ...config, seed: 6, dataSeed: 5 }, 0),
      'data_seed alone decides',
    );
  });
  test('group_by_length sorts inside each group of batches and puts the longest example first', () => {
    const lengths = Array.from({ length: 400 }, (_, i) => 1 + ((i * 131) % 397));
    const order = groupByLength([...lengths.keys()], lengths, 8);
    assert.equal(lengths[order[0]], Math.max(...lengths));
    const group = Math.floor(400 / 32) * 8;
    for (let start = 0; start < 400; start += group) {
      // the first place of a group may have been swapped with the longest
      const part = order.slice(start + 1, start + group).map((index) => lengths[index]);
      assert.deepEqual(
        part,
        [...part].sort((a, b) => b - a),
      );
    }
  });
});

describe('rows for computing', () => {
  const microBatches = stepsOfEpoch(items, config, 0)[0];
  test('hold every sequence once, with the micro-batch that it belongs to', () => {
    const parts = cutIntoRows(microBatches, 30).flat();
    const expected = microBatches.flatMap((batch, index) => batch.flat().map(({ inputIds }) => `${index}:${inputIds[0]}`));
    assert.deepEqual(parts.map(({ sequence: { inputIds }, microBatch }) => `${microBatch}:${inputIds[0]}`).sort(), expected.sort());
  });
  test('stay within the budget, unless one sequence alone is longer', () => {
    for (const budget of [1, 5, 20, 33, 1000]) {
      for (const row of cutIntoRows(microBatches, budget)) {
        const tokens = countTokens(row.map((part) => part.sequence));
        assert.ok(tokens <= budget || row.length === 1, `${tokens} tokens with a budget of ${budget}`);
      }
    }
    assert.equal(cutIntoRows(microBatches, 1000).length, 1);
  });
});

test('a row is filled up to a multiple of 16 tokens that is no size of the model, with segments that the model can read', async (t) => {
  const model = await tinyModel(t);
  const sizes = new Set([...model.parameters.values()].flatMap(({ shape }) => shape));
  for (const lengths of [[5], [7, 3], [16], [60], [64], [100, 27], [128]]) {
    const filler = fillerOf(
      lengths.map((length) => new Int32Array(length)),
      model,
    ).map(({ length }) => length);
    const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0);
    const total = sum(lengths) + sum(filler);
    assert.equal(total % 16, 0);
    assert.ok(!sizes.has(total), `${total} is a size of the model`);
    assert.ok(filler.every((length) => length >= 1 && length <= Math.max(...lengths)));
    assert.ok(sum(filler) < 64, `${sum(filler)} tokens fill up ${sum(lengths)}`);
  }
});
