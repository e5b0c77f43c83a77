import assert from 'node:assert/strict';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { createModel, sharedPrefixes } from '../../lib/model';
import { createTorchRandom } from '../../lib/torch-random';
import { parseConfig } from '../../lib/train';
import { cutIntoRows, groupByLength, orderOfEpoch, planRun, type RowPart, stepsOfEpoch } from '../../lib/train/batches';
import { countTokens, type Item } from '../../lib/train/examples';
import { fillerOf, sizeOfRow } from '../../lib/train/loss';
import { golden, loaded, sequence, tinyModel } from './support';

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
      stepsOfEpoch(items, dropping, 0, createTorchRandom(0))
        .flat()
        .every((batch) => batch.length === 4),
    );
    assert.throws(() => planRun(3, dropping), /leaves nothing of 3 examples/);
  });
});

describe('the order of an epoch', () => {
  const orderOf = (settings: typeof config, epoch: number): number[] => orderOfEpoch(items, settings, epoch, createTorchRandom(0));
  const sorted = [...items.keys()];
  for (const trainSamplingStrategy of ['random', 'sequential', 'group_by_length'] as const) {
    test(`${trainSamplingStrategy} reads every example once`, () => {
      const order = orderOf({ ...config, trainSamplingStrategy }, 0);
      assert.deepEqual(
        [...order].sort((a, b) => a - b),
        sorted,
      );
      assert.deepEqual(orderOf({ ...config, trainSamplingStrategy }, 0), order, 'same seed, same order');
    });
  }
  test('sequential keeps the order of the rows', () => {
    assert.deepEqual(orderOf({ ...config, trainSamplingStrategy: 'sequential' }, 3), sorted);
  });
  test('random differs from epoch to epoch and from seed to seed', () => {
    assert.notDeepEqual(orderOf(config, 0), orderOf(config, 1));
    assert.notDeepEqual(orderOf(config, 0), orderOf({ ...config, seed: 6 }, 0));
    assert.deepEqual(orderOf(config, 0), orderOf({ ...config, seed: 6, dataSeed: 5 }, 0), 'data_seed alone decides');
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
  const microBatches = stepsOfEpoch(items, config, 0, createTorchRandom(0))[0];
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

describe('rows of sequences that begin alike', () => {
  /** Items that begin with `shared` tokens of their family and have `own` tokens more. */
  const family = (count: number, shared: number, own: number, first = 0): Item[] =>
    Array.from({ length: count }, (_, i) => {
      const inputIds = Int32Array.from({ length: shared + own }, (_, j) => (j < shared ? first + j : 1000 * (first + i + 1) + j));
      return [{ inputIds, lossMask: new Uint8Array(shared + own).fill(1) }];
    });
  const computed = (row: RowPart[]): number => {
    const sequences = row.map(({ sequence }) => sequence.inputIds);
    const prefixes = sharedPrefixes(sequences);
    return sequences.reduce((sum, { length }, i) => sum + length - (prefixes[i]?.tokens ?? 0), 0);
  };

  test('count what is shared once', () => {
    const rows = cutIntoRows([family(10, 100, 10)], 200);
    assert.deepEqual(rows.map(computed), [200]);
  });
  test('bring families together, within the budget', () => {
    const rows = cutIntoRows([[...family(8, 40, 20), ...family(8, 40, 22, 500)]], 250);
    assert.equal(rows.length, 2);
    assert.deepEqual(rows.map(computed), [40 + 8 * 22, 40 + 8 * 20]);
  });
  test('may exceed the budget by what is shared beyond its half', () => {
    const rows = cutIntoRows([family(16, 900, 50)], 1000);
    assert.ok(rows.every((row) => computed(row) <= 900 + 500));
    assert.equal(rows.length, 2);
    // without others that share it, a long sequence is no reason to
    const alone = cutIntoRows([[...family(1, 900, 50), ...family(5, 0, 90, 100)]], 1000);
    assert.ok(alone.every((row) => computed(row) <= 1000));
  });
  test('hold each sequence once, whatever there is', () => {
    const items = [...family(30, 26, 60), ...family(20, 300, 5, 40), ...family(9, 0, 120, 80)];
    for (const budget of [1, 50, 333, 1280, 100_000]) {
      const rows = cutIntoRows([items], budget);
      assert.deepEqual(new Set(rows.flat().map(({ sequence }) => sequence)), new Set(items.flat()));
      assert.equal(rows.flat().length, items.length);
      for (const row of rows) assert.ok(row.length === 1 || computed(row) <= Math.max(budget, 300 + budget / 2));
    }
  });
});

test('a row is filled up to a multiple of 16 tokens that is no size of the model, with segments that the model can read', async (t) => {
  const exact = await tinyModel(t);
  const inFourBits = await loaded(t, path.join(golden, 'llama', 'model'), { loadIn4bit: true });
  const sizes = new Set([...exact.parameters.values()].flatMap(({ shape }) => shape));
  for (const model of [exact, inFourBits])
    for (const lengths of [[5], [7, 3], [16], [60], [64], [100, 27], [128], [150]]) {
      const filler = fillerOf(lengths, model).map(({ length }) => length);
      const sum = (list: number[]): number => list.reduce((a, b) => a + b, 0);
      const total = sum(lengths) + sum(filler);
      assert.equal(total % 16, 0);
      assert.ok(!sizes.has(total), `${total} is a size of the model`);
      assert.ok(filler.every((length) => length >= 1 && length <= Math.max(...lengths)));
      assert.ok(sum(filler) < 64, `${sum(filler)} tokens fill up ${sum(lengths)}`);
    }
});

test('nor a size of the pieces that its vocabulary is gone through in', async (t) => {
  const { config, tokenizer } = await tinyModel(t);
  const model = createModel({ ...config.raw, vocab_size: 6144, max_position_embeddings: 4096 }, { seed: 0, tokenizer });
  const filler = fillerOf([2040], model);
  assert.equal(2040 + filler[0].length, 2064);
  const { tokens, targets } = sizeOfRow([{ sequence: sequence(2040), microBatch: 0, index: 0 }], model);
  assert.deepEqual([tokens, targets], [2064, 2080]);
  model.dispose();
});
