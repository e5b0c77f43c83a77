/** A seed decides what it decides for TRL: the order of the examples, the parts of a dataset, and what an adapter begins with. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import { Dataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { addAdapter, type LoraConfig } from '../../lib/model';
import { permutation } from '../../lib/numpy-random';
import { createTorchRandom, randperm, uniform } from '../../lib/torch-random';
import { type LogRecord, parseConfig, SFTTrainer } from '../../lib/train';
import { stepsOfEpoch } from '../../lib/train/batches';
import type { Item } from '../../lib/train/examples';
import { fixtures as modelFixtures } from '../model/support';
import { fixtures, loaded, readJsonFile, rows, tinyModel } from './support';

before(() => useDevice('cpu'));

interface Reference {
  permutations: Array<{ seed: number; n: number; torch: number[]; uniform: number[]; numpy: number[] }>;
  parts: Array<{ rows: number; size: number; seed: number; train: string[]; test: string[]; shuffled: string[] }>;
  /** Micro-batches of rows, each by the numbers of the examples that it holds. */
  epochs: Array<{ rows: number; config: Record<string, unknown>; batches: number[][][] }>;
  /** Of each matrix A the sum of what its values are long, its first value and its last. */
  adapters: Array<{ family?: string; variant?: string; settings: PeftSettings; values: Record<string, [number, number, number]> }>;
  runs: Array<{ family: string; config: Record<string, unknown>; peft: PeftSettings | null; log: LogRecord[] }>;
}

interface PeftSettings {
  r: number;
  target_modules?: string | string[];
  target_parameters?: string[];
  use_dora?: boolean;
}

const reference = readJsonFile<Reference>(fixtures, 'shuffled.json');

test("random permutations and numbers are PyTorch's and NumPy's", () => {
  for (const { seed, n, ...expected } of reference.permutations) {
    const random = createTorchRandom(seed);
    assert.deepEqual(randperm(n, random), expected.torch, `torch, seed ${seed}`);
    assert.deepEqual([...uniform(5, 0.3, random)], expected.uniform, `torch, seed ${seed}`);
    assert.deepEqual(permutation(n, seed), expected.numpy, `numpy, seed ${seed}`);
  }
});

test("a dataset is split and shuffled as by Hugging Face's datasets", () => {
  for (const { rows: length, size, seed, ...expected } of reference.parts) {
    const all = new Dataset(Array.from({ length }, (_, i) => ({ text: String(i) })));
    const texts = (dataset: Dataset<{ text: string }>): string[] => [...dataset].map(({ text }) => text);
    const { train, test: held } = all.split({ test: size, seed });
    assert.deepEqual({ train: texts(train), test: texts(held), shuffled: texts(all.shuffle(seed)) }, expected);
  }
});

describe('examples are read in the order in which TRL reads them:', () => {
  for (const { rows: length, config: raw, batches } of reference.epochs) {
    test(`${length} examples, ${JSON.stringify(raw)}`, async (t) => {
      const model = await tinyModel(t);
      const config = { ...parseConfig(raw), disableTqdm: true };
      const trainDataset = Array.from({ length }, (_, i) => ({ text: `${1000 + i}${' word'.repeat((i * 5) % 11)}` }));
      const { trainItems } = new SFTTrainer({ model, trainDataset, config });
      const numbersIn = (item: Item): number[] =>
        item.flatMap(({ inputIds }) => (model.tokenizer.decode([...inputIds]).match(/\d{4}/g) ?? []).map(Number));
      const random = createTorchRandom(config.seed);
      const found = Array.from({ length: config.numTrainEpochs }, (_, epoch) => stepsOfEpoch(trainItems, config, epoch, random)).flat(2);
      assert.deepEqual(
        found.map((batch) => batch.map(numbersIn)),
        batches,
      );
    });
  }
});

describe("an adapter begins with PEFT's values:", () => {
  for (const { family, variant, settings, values } of reference.adapters) {
    test(`${family ?? variant}, ${JSON.stringify(settings)}`, async (t) => {
      const model = variant === undefined ? await tinyModel(t, family) : await loaded(t, path.join(modelFixtures, variant));
      const { parameters } = addAdapter(model, configOf(settings), { seed: 42 });
      assert.deepEqual([...parameters.keys()].filter((name) => name.includes('lora_A')).sort(), Object.keys(values).sort());
      for (const [name, [sum, first, last]] of Object.entries(values)) {
        const found = (await parameters.get(name)?.data<'float32'>()) ?? assert.fail(name);
        assert.deepEqual([found[0], found[found.length - 1]], [first, last], name);
        const length = found.reduce((total, value) => total + Math.abs(value), 0);
        assert.ok(Math.abs(length - sum) < 1e-9 * sum, `${name}: ${length}, expected ${sum}`);
      }
    });
  }
});

function configOf({ r, target_modules, target_parameters, use_dora }: PeftSettings): LoraConfig {
  return { r, targetModules: target_modules, targetParameters: target_parameters, useDora: use_dora };
}

/** How far from TRL's a value of the log may be, relatively. */
const TOLERANCES: Record<string, number> = {
  step: 0,
  num_tokens: 0,
  grad_norm: 1e-4,
  mean_token_accuracy: 1e-6,
  learning_rate: 1e-9,
  epoch: 1e-9,
};

describe("shuffled runs are TRL's from step to step:", () => {
  for (const { family, config, peft, log } of reference.runs) {
    test(`${family}, ${JSON.stringify({ ...config, ...peft })}`, async (t) => {
      const trainer = new SFTTrainer({
        ...{ model: await tinyModel(t, family), peftConfig: peft ? configOf(peft) : undefined },
        ...{ trainDataset: rows.slice(0, 22), evalDataset: 'eval_strategy' in config ? rows.slice(9, 22) : undefined },
        config: { ...parseConfig(config), disableTqdm: true },
      });
      await trainer.train();
      const kinds = (records: readonly LogRecord[]): string[] =>
        records.map(({ step, loss }) => `${loss === undefined ? 'evaluation' : 'log'} ${step}`);
      assert.deepEqual(kinds(trainer.log), kinds(log));
      for (const [i, expected] of log.entries()) {
        const found: LogRecord = trainer.log[i];
        for (const [key, wanted] of Object.entries(expected) as Array<['loss', number]>) {
          const tolerance = (TOLERANCES[key.replace('eval_', '')] ?? 1e-5) * Math.max(wanted, 1e-3);
          assert.ok(Math.abs((found[key] ?? Number.NaN) - wanted) <= tolerance, `${key} of record ${i}: ${found[key]}, expected ${wanted}`);
        }
      }
    });
  }
});
