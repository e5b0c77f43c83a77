/** Mixed precision: products of matrices in float16, with a scale on the loss. On the CPU the engine rounds as a GPU would. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice, usePrecision } from '../../lib/engine';
import { parseConfig, type SFTConfig, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { firstLossScale, nextLossScale } from '../../lib/train/loss-scaling';
import type { RunState } from '../../lib/train/run-state';
import { families } from '../golden-families';
import { golden, readJsonFile, resumable, rows, short, stopsAfter, temporaryFolder, tinyModel, weightsOf } from './support';

const OVERFLOW = Number.POSITIVE_INFINITY;

before(async () => {
  await useDevice('cpu');
});

/** A trainer of the tiny model, with the notes that its run told. */
async function trainerOf(t: TestContext, config: Partial<SFTConfig>, { family = 'llama', callbacks = [] as TrainerCallback[] } = {}) {
  const model = await tinyModel(t, family);
  const told: string[] = [];
  const telling: TrainerCallback = { onNote: (note) => void told.push(note) };
  const trainer = new SFTTrainer({ model, trainDataset: rows, config, callbacks: [telling, ...callbacks] });
  return { model, trainer, told };
}

describe('the scale of the loss', () => {
  test('starts at 65536 and halves when a gradient overflows', () => {
    const once = nextLossScale(firstLossScale(), OVERFLOW);
    assert.deepEqual(once, { scale: 32768, updates: 0, skipped: 1 });
    assert.deepEqual(nextLossScale(once, Number.NaN), { scale: 16384, updates: 0, skipped: 2 });
  });

  test('doubles after 2000 updates without an overflow', () => {
    let state = nextLossScale(firstLossScale(), OVERFLOW);
    for (let i = 0; i < 1999; i++) state = nextLossScale(state, 1);
    assert.deepEqual(state, { scale: 32768, updates: 1999, skipped: 1 });
    assert.deepEqual(nextLossScale(state, 1), { scale: 65536, updates: 0, skipped: 1 });
  });
});

test('where the device has no float16, fp16 says so and changes no bit', async (t) => {
  const asked = await trainerOf(t, { ...short, fp16: true });
  await asked.trainer.train();
  const usual = await trainerOf(t, short);
  await usual.trainer.train();
  assert.deepEqual(asked.told, [...usual.told, 'fp16 has no effect here: computes in float32.']);
  assert.deepEqual(await weightsOf(asked.model), await weightsOf(usual.model));
});

describe('in mixed precision', () => {
  before(() => usePrecision('float16'));
  after(() => usePrecision('float32'));

  for (const family of families) {
    test(`${family}: the first steps lose what the reference in float32 loses, within 1%`, async (t) => {
      const reference = readJsonFile<{ config: Record<string, unknown>; log: Record<string, number>[] }>(golden, family, 'sft.json');
      const config = { ...parseConfig(reference.config), fp16: true, disableTqdm: true };
      const { trainer } = await trainerOf(t, config, { family, callbacks: [stopsAfter(3)] });
      await trainer.train();
      for (const [i, expected] of reference.log.slice(0, 3).entries()) {
        for (const key of ['loss', 'grad_norm'] as const) {
          const found = trainer.log[i][key] as number;
          assert.ok(Math.abs(found / expected[key] - 1) < 1e-2, `${key} of step ${i + 1}: ${found}, expected ${expected[key]}`);
          assert.notEqual(found, expected[key], 'float16 leaves its mark');
        }
      }
    });
  }

  test('an overflow skips the update, halves the scale and holds the learning rate', async (t) => {
    const outputDir = temporaryFolder(t);
    const config: Partial<SFTConfig> = { ...short, fp16: true, outputDir, maxSteps: 4, saveSteps: 2, saveTotalLimit: null };
    const first = await trainerOf(t, config);
    await first.trainer.train();
    const stateOf = (step: number) => readJsonFile<{ state: RunState }>(outputDir, `checkpoint-${step}`, 'trainer_state.json');
    const file = stateOf(2);
    const skippedBefore = file.state.lossScale?.skipped ?? Number.NaN;
    file.state.lossScale = { scale: 2 ** 60, updates: 1, skipped: skippedBefore };
    writeFileSync(path.join(outputDir, 'checkpoint-2', 'trainer_state.json'), JSON.stringify(file));

    const { trainer, told } = await trainerOf(t, config);
    await trainer.train({ resumeFromCheckpoint: path.join(outputDir, 'checkpoint-2') });
    assert.deepEqual(stateOf(4).state.lossScale, { scale: 2 ** 58, updates: 0, skipped: skippedBefore + 2 });
    const weights = (step: number) => {
      const folder = path.join(outputDir, `checkpoint-${step}`);
      return readdirSync(folder)
        .filter((name) => name.endsWith('.safetensors'))
        .map((name) => readFileSync(path.join(folder, name)));
    };
    assert.deepEqual(weights(4), weights(2), 'weights and moments stay as they were');
    const [third, fourth] = trainer.log.slice(-2);
    assert.equal(third.grad_norm, undefined);
    assert.equal(third.learning_rate, fourth.learning_rate);
    assert.deepEqual(told.slice(-2), [
      `Step 3: a gradient overflowed float16, so this step made no update; loss scale ${2 ** 59}.`,
      `Step 4: a gradient overflowed float16, so this step made no update; loss scale ${2 ** 58}.`,
    ]);
  });

  test('a loss that is not finite ends the run, because no scale can mend it', async (t) => {
    const { model, trainer } = await trainerOf(t, { ...short, fp16: true });
    const [, weight] = [...model.parameters].find(([name]) => name.endsWith('q_proj.weight')) ?? [];
    assert.ok(weight);
    tf.tidy(() => weight.assign(tf.mul(weight, 1e7)));
    await assert.rejects(trainer.train(), /^UserError: Step 1: the loss is NaN, .*numbers that float16 cannot hold \(set fp16: false\)/);
  });

  test('a resumed run goes on with the same bits', async (t) => {
    const [straightFolder, resumedFolder] = [temporaryFolder(t), temporaryFolder(t)];
    const settings: Partial<SFTConfig> = { ...resumable, evalStrategy: 'no', fp16: true };
    const straight = await trainerOf(t, { ...settings, outputDir: straightFolder });
    await straight.trainer.train();
    const config = { ...settings, outputDir: resumedFolder };
    const stopped = await trainerOf(t, config);
    const trainer: SFTTrainer = new SFTTrainer({
      model: stopped.model,
      trainDataset: rows,
      config,
      callbacks: [{ onStepEnd: ({ step, stop }) => (step === 5 ? stop() : undefined) }],
    });
    await trainer.train();
    const resumed = await trainerOf(t, config);
    await resumed.trainer.train({ resumeFromCheckpoint: true });
    assert.deepEqual(resumed.trainer.log, straight.trainer.log);
    assert.deepEqual(await weightsOf(resumed.model), await weightsOf(straight.model));
  });
});
