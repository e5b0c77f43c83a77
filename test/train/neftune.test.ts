/** NEFTune: how loud the noise is, where it goes, and that it is the same each time. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { beforeEach, describe, type TestContext, test } from 'node:test';
import { engineStatistics, releaseMemory, useDevice } from '../../lib/engine';
import { createTorchRandom } from '../../lib/torch-random';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';
import { stepsOfEpoch } from '../../lib/train/batches';
import { layoutOf } from '../../lib/train/chance';
import {
  assertOnlyInTraining,
  assertPass,
  fixtures,
  type ReferencePass,
  readJsonFile,
  rows,
  short,
  temporaryFolder,
  tinyModel,
  weightsOf,
} from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

interface Fixture {
  gradients: Array<ReferencePass & { family: string; alpha: number; sequences: number[][] }>;
  /** What SFTTrainer drew the noise of each micro-batch between. */
  runs: Array<{ config: Record<string, unknown>; settings: Record<string, unknown>; hidden_size: number; bounds: number[] }>;
}

const { gradients, runs } = readJsonFile<Fixture>(fixtures, 'neftune.json');

for (const { config, settings, hidden_size: features, bounds } of runs) {
  test(`the noise of each micro-batch is as loud as in TRL's run with ${JSON.stringify(settings)}`, async (t) => {
    const parsed = parseConfig(config);
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows, config: { ...parsed, disableTqdm: true } });
    const found: number[] = [];
    const alpha = parsed.neftuneNoiseAlpha ?? assert.fail('no noise');
    for (const batch of stepsOfEpoch(trainer.trainItems, parsed, 0, createTorchRandom(0)).slice(0, 3)) {
      found.push(...batch.map((microBatch) => alpha / Math.sqrt(layoutOf(microBatch, parsed).columns * features)));
    }
    assert.equal(found.length, bounds.length);
    for (const [i, bound] of bounds.entries()) assert.ok(Math.abs(found[i] / bound - 1) < 1e-6, `${i}: ${found[i]}, expected ${bound}`);
  });
}

describe('loss and gradients are those of transformers with the same noise', () => {
  for (const { family, alpha, sequences, ...reference } of gradients) {
    for (const gradientCheckpointing of [false, true]) {
      test(`${family}${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        await assertPass(await tinyModel(t, family), sequences, reference, { gradientCheckpointing, alpha });
      });
    }
  }
});

/** A run of a model that drops nothing, so that the noise is the only chance. */
async function run(t: TestContext, settings: Partial<SFTConfig> = {}, resume?: string) {
  const model = await tinyModel(t);
  const config = { ...short, tokensPerMicroBatch: 300, neftuneNoiseAlpha: 5, ...settings };
  const trainer = new SFTTrainer({ model, trainDataset: rows, config });
  await trainer.train({ resumeFromCheckpoint: resume });
  return { log: trainer.log as LogRecord[], weights: await weightsOf(model) };
}

test('the same seed draws the same, with gradient checkpointing too; another seed or alpha does not, and 0 is without', async (t) => {
  const first = await run(t);
  assert.deepEqual(await run(t), first);
  assert.deepEqual(await run(t, { gradientCheckpointing: true }), first);
  const without = await run(t, { neftuneNoiseAlpha: null });
  assert.deepEqual(await run(t, { neftuneNoiseAlpha: 0 }), without);
  const others = [await run(t, { seed: 8, dataSeed: 7 }), await run(t, { neftuneNoiseAlpha: 10 }), without];
  for (const { log } of others) assert.notEqual(log[0].loss, first.log[0].loss);
});

test('a resumed run draws what an uninterrupted one does', async (t) => {
  const outputDir = temporaryFolder(t);
  const whole = await run(t, { outputDir, saveStrategy: 'steps', saveSteps: 2 });
  assert.deepEqual(await run(t, { outputDir: temporaryFolder(t) }, path.join(outputDir, 'checkpoint-2')), whole);
});

test('there is none when the model is evaluated or read, and no tensor is left behind', (t) =>
  assertOnlyInTraining(t, { neftuneNoiseAlpha: 50 }));

test('rows of other lengths need no other graphs', async (t) => {
  const compilations = async (neftuneNoiseAlpha: number | null): Promise<number> => {
    releaseMemory();
    const before = engineStatistics()?.compilations ?? 0;
    await run(t, { neftuneNoiseAlpha });
    return (engineStatistics()?.compilations ?? 0) - before;
  };
  assert.equal(await compilations(5), await compilations(null));
});
