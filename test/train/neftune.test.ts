/** NEFTune: how loud the noise is, where it goes, and that it is the same each time. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { beforeEach, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { engineStatistics, releaseMemory, useDevice } from '../../lib/engine';
import { tokenNll } from '../../lib/model';
import { createRandom, type Random } from '../../lib/random';
import { type LogRecord, parseConfig, type SFTConfig, SFTTrainer } from '../../lib/train';
import { stepsOfEpoch } from '../../lib/train/batches';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';
import { noiseOf } from '../../lib/train/neftune';
import { fixtures, readJsonFile, rows, sequence, short, temporaryFolder, tinyModel, weightsOf } from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

interface Fixture {
  gradients: Array<{ family: string; alpha: number; sequences: number[][]; loss: number; grad_norm_per_parameter: Record<string, number> }>;
  /** What SFTTrainer drew the noise of each micro-batch between. */
  runs: Array<{ config: Record<string, unknown>; settings: Record<string, unknown>; hidden_size: number; bounds: number[] }>;
}

const { gradients, runs } = readJsonFile<Fixture>(fixtures, 'neftune.json');

for (const { config, settings, hidden_size: features, bounds } of runs) {
  test(`the noise of each micro-batch is as loud as in TRL's run with ${JSON.stringify(settings)}`, async (t) => {
    const parsed = parseConfig(config);
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows, config: { ...parsed, disableTqdm: true } });
    const found: number[] = [];
    for (const batch of stepsOfEpoch(trainer.trainItems, parsed, 0).slice(0, 3)) {
      const { alpha, lengths } = noiseOf(batch, parsed) ?? assert.fail('no noise');
      found.push(...lengths.map((length) => alpha / Math.sqrt(length * features)));
    }
    assert.equal(found.length, bounds.length);
    for (const [i, bound] of bounds.entries()) assert.ok(Math.abs(found[i] / bound - 1) < 1e-6, `${i}: ${found[i]}, expected ${bound}`);
  });
}

/** Draws the lower bound at every fourth feature, at the others 0.8 times the upper one. */
function byFeature(): Random {
  let drawn = 0;
  return { ...createRandom(0), next: () => (drawn++ % 4 === 1 ? 0 : 0.9) };
}

describe('loss and gradients are those of transformers with the same noise', () => {
  for (const { family, alpha, sequences, loss, grad_norm_per_parameter: norms } of gradients) {
    for (const gradientCheckpointing of [false, true]) {
      test(`${family}${gradientCheckpointing ? ', with gradient checkpointing' : ''}`, async (t) => {
        const model = await tinyModel(t, family);
        const parts = sequences.map((ids) => ({
          sequence: { inputIds: Int32Array.from(ids), lossMask: new Uint8Array(ids.length).fill(1) },
          microBatch: 0,
        }));
        const share = tf.scalar(1 / sequences.reduce((sum, { length }) => sum + length - 1, 0));
        const sums = new GradientSums();
        const noise = { alpha, lengths: [Math.max(...sequences.map(({ length }) => length))] };
        const found = await backwardRow(model, parts, sums, { share, gradientCheckpointing, random: byFeature(), noise });
        const mean = found.loss.reduce((sum, x) => sum + x, 0) / found.loss.length;
        assert.ok(Math.abs(mean / loss - 1) < 1e-5, `loss ${mean}, expected ${loss}`);
        const own = new Map(sums.entries());
        assert.equal(own.size, Object.keys(norms).length);
        for (const [name, norm] of Object.entries(norms)) {
          const values = await (own.get(name.replace('lm_head', 'embed_out')) as tf.Variable).data<'float32'>();
          const length = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
          assert.ok(Math.abs(length - norm) < 1e-4 * norm + 1e-7, `${name}: ${length}, expected ${norm}`);
        }
        sums.dispose();
        share.dispose();
      });
    }
  }
});

/** A run whose adapter and hidden states drop nothing, so that the noise is the only chance. */
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

test('there is none when the model is evaluated or read, and no tensor is left behind', async (t) => {
  const model = await tinyModel(t);
  const ids = [...sequence(40).inputIds];
  const trainer = new SFTTrainer({
    ...{ model, trainDataset: rows, evalDataset: rows.slice(0, 8) },
    config: { ...short, learningRate: 0, neftuneNoiseAlpha: 50 },
  });
  const before = { ...(await trainer.evaluate()), nll: (await tokenNll(model, ids)).nll };
  await trainer.train();
  const tensors = tf.memory().numTensors;
  await trainer.train();
  assert.equal(tf.memory().numTensors, tensors);
  assert.deepEqual((await tokenNll(model, ids)).nll, before.nll);
  assert.equal((await trainer.evaluate()).eval_loss, before.eval_loss);
});

test('rows of other lengths need no other graphs', async (t) => {
  const compilations = async (neftuneNoiseAlpha: number | null): Promise<number> => {
    releaseMemory();
    const before = engineStatistics()?.compilations ?? 0;
    await run(t, { neftuneNoiseAlpha });
    return (engineStatistics()?.compilations ?? 0) - before;
  };
  assert.equal(await compilations(5), await compilations(null));
});
