/** Adafactor and SGD: their updates are those of transformers and torch, and runs with them are TRL's; a run goes on where it was stopped. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { ownedVariable, ownedZeros, useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { readSafetensors } from '../../lib/model/safetensors';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';
import { clipFactor, decays, Optimizer } from '../../lib/train/optimizer';
import { ruleOf } from '../../lib/train/update-rules';
import { fixtures, hashOf, loaded, peftAdapter, readJsonFile, resumable, rows, temporaryFolder, tinyModel, weightsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

interface Reference {
  shapes: Record<string, number[]>;
  /** Rows of gradients that are all zero. */
  empty_rows: Record<string, [number, number]>;
  updates: Array<{
    optim: string;
    optim_args: string | null;
    decayed: string[];
    /** About 50 numbers of each parameter, and the sum of the magnitudes of all. */
    steps: Array<{ scale: number; rate: number; norm: number; after: Record<string, number[]>; sums: Record<string, number> }>;
  }>;
  /** Of a model, or of an adapter from among the fixtures. */
  runs: Array<{ family: string; adapter: string | null; config: Record<string, unknown>; log: LogRecord[] }>;
}

const { shapes, empty_rows: emptyRows, updates, runs } = readJsonFile<Reference>(fixtures, 'optimizers.json');

/** As `numbers` in make_optimizers.py. */
function numbers(shape: readonly number[], seed: number, scale: number): Float32Array {
  const size = shape.reduce((product, length) => product * length, 1);
  return Float32Array.from({ length: size }, (_, i) => (((i * 7919 + seed * 104_729) % 10_007) / 10_007 - 0.5) * scale);
}

function gradientOf(name: string, seed: number, scale: number): Float32Array {
  const gradient = numbers(shapes[name], seed, scale);
  const [from, to] = emptyRows[name] ?? [0, 0];
  return gradient.fill(0, from * (shapes[name][1] ?? 1), to * (shapes[name][1] ?? 1));
}

const named = ({ optim, optim_args: args }: { optim: string; optim_args?: string | null }): string =>
  `${optim}${args ? ` with ${args}` : ''}`;

for (const { optim, optim_args, decayed, steps } of updates) {
  test(`${named({ optim, optim_args })}: matrices, vectors and numbers are updated as by the reference`, async () => {
    const names = Object.keys(shapes);
    const parameters = new Map(names.map((name, seed) => [name, ownedVariable(numbers(shapes[name], seed, 2), shapes[name])]));
    const gradients = new Map(names.map((name) => [name, ownedZeros(shapes[name])]));
    assert.deepEqual(names.filter((name) => decays(name, shapes[name])).sort(), [...decayed].sort());
    const optimizer = new Optimizer(parameters, ruleOf(parseConfig({ optim, optim_args })), 0.1);
    for (const [step, { scale, rate, norm, after, sums }] of steps.entries()) {
      for (const [seed, name] of names.entries()) {
        const given = tf.tensor(gradientOf(name, 100 * step + seed, scale), shapes[name]);
        gradients.get(name)?.assign(given);
        given.dispose();
      }
      optimizer.update(gradients, rate, clipFactor(norm, 40));
      for (const [name, parameter] of parameters) {
        const values = await parameter.data<'float32'>();
        const every = Math.max(1, Math.floor(values.length / 50));
        for (const [i, expected] of after[name].entries())
          assert.ok(
            Math.abs(values[i * every] - expected) < 1e-6,
            `step ${step}, ${name}[${i * every}]: ${values[i * every]}, not ${expected}`,
          );
        const sum = values.reduce((total, x) => total + Math.abs(x), 0);
        assert.ok(Math.abs(sum - sums[name]) < 1e-6 * sums[name], `step ${step}, all of ${name}: ${sum}, not ${sums[name]}`);
        assert.ok((await gradients.get(name)?.data())?.every((x) => x === 0));
      }
    }
    optimizer.dispose();
    tf.dispose([...parameters.values(), ...gradients.values()]);
  });
}

const TOLERANCES = { loss: 1e-5, grad_norm: 1e-4, learning_rate: 1e-12, entropy: 1e-5 };

describe('a run logs what TRL logged', () => {
  for (const { family, adapter, config, log } of runs) {
    const { optim, optim_args } = config as { optim: string; optim_args?: string };
    test(`${adapter ?? family} with ${named({ optim, optim_args })}`, async (t) => {
      const model = await (adapter === null ? tinyModel(t, family) : loaded(t, peftAdapter(t, adapter, family)));
      const trainer = new SFTTrainer({ model, trainDataset: rows, config: { ...parseConfig(config), disableTqdm: true } });
      await trainer.train();
      assert.equal(trainer.log.length, log.length);
      const worst: Record<string, number> = {};
      for (const [i, expected] of log.entries()) {
        for (const [key, tolerance] of Object.entries(TOLERANCES) as Array<['loss', number]>) {
          const [found, wanted] = [trainer.log[i][key] ?? Number.NaN, expected[key] ?? Number.NaN];
          assert.ok(Math.abs(found - wanted) <= tolerance * wanted, `${key} of step ${i + 1}: ${found}, expected ${wanted}`);
          worst[key] = Math.max(worst[key] ?? 0, wanted === 0 ? 0 : Math.abs(found / wanted - 1));
        }
      }
      if (process.env.SHOW_AGREEMENT) console.log(worst);
    });
  }
});

async function makeTrainer(t: TestContext, outputDir: string, config: Partial<SFTConfig>, stopAt?: number): Promise<SFTTrainer> {
  return new SFTTrainer({
    ...{ model: await tinyModel(t), trainDataset: rows.slice(0, 18), evalDataset: rows.slice(18, 22) },
    config: { ...resumable, outputDir, ...config },
    callbacks: [{ onStepBegin: (state) => void (state.step === stopAt && state.stop()) }],
  });
}

const optimizerFile = (outputDir: string, step: number): string => path.join(outputDir, `checkpoint-${step}`, 'optimizer.safetensors');

const KINDS: Array<[Partial<SFTConfig>, string[]]> = [
  [{ optim: 'adafactor' }, ['exp_avg_sq', 'exp_avg_sq_col', 'exp_avg_sq_row']],
  [{ optim: 'sgd' }, []],
  [{ optim: 'sgd', optimArgs: 'momentum=0.9' }, ['momentum_buffer']],
];

for (const [settings, kept] of KINDS) {
  const name = `${settings.optim}${settings.optimArgs ? ` with ${settings.optimArgs}` : ''}`;
  test(`${name}: a run that was stopped and resumed ends with the bits and the log of one that was not`, async (t) => {
    const [whole, parted] = [temporaryFolder(t), temporaryFolder(t)];
    const reference = await makeTrainer(t, whole, settings);
    await reference.train();
    await (await makeTrainer(t, parted, settings, 5)).train();
    const resumed = await makeTrainer(t, parted, settings);
    await resumed.train({ resumeFromCheckpoint: true });
    assert.deepEqual(resumed.log, reference.log);
    assert.deepEqual(await weightsOf(resumed.model), await weightsOf(reference.model));
    const [one, other] = [whole, parted].map((folder) => hashOf(fs.readFileSync(optimizerFile(folder, 10))));
    assert.equal(one, other);
    const keys = [...(await readSafetensors(optimizerFile(whole, 10))).keys()].map((tensor) => tensor.split('.')[0]);
    assert.deepEqual([...new Set(keys)].sort(), kept);
  });
}

test('a checkpoint of another optimizer, or of the same with other arguments, is refused', async (t) => {
  const outputDir = temporaryFolder(t);
  const sgd: Partial<SFTConfig> = { optim: 'sgd', optimArgs: 'momentum=0.9' };
  await (await makeTrainer(t, outputDir, sgd, 3)).train();
  for (const [settings, sentence] of [
    [
      { optim: 'adafactor', optimArgs: null },
      /^optim is "adafactor", but .* was written with "sgd"; continue with the same settings, or start afresh/,
    ],
    [
      { optim: 'adamw_torch', optimArgs: null },
      /^optim is "adamw_torch_fused", but .* was written with "sgd"; continue with the same settings/,
    ],
    [
      { optim: 'sgd', optimArgs: 'momentum=0.8' },
      /^optimArgs is "momentum=0\.8", but .* was written with "momentum=0\.9"; continue with the same/,
    ],
  ] as Array<[Partial<SFTConfig>, RegExp]>) {
    const trainer = await makeTrainer(t, outputDir, settings);
    await assert.rejects(trainer.train({ resumeFromCheckpoint: true }), (error: Error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, sentence);
      return true;
    });
  }
  const trainer = await makeTrainer(t, outputDir, { ...sgd, optimArgs: 'dampening=0, momentum=.9' });
  assert.equal((await trainer.train({ resumeFromCheckpoint: true })).globalStep, 10);
});
