import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { loadModel } from '../../lib/model';
import { type SFTConfig, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { rows, short, temporaryFolder, tinyModel, weightsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

const config: Partial<SFTConfig> = {
  ...{ ...short, lrSchedulerType: 'constant', evalStrategy: 'steps', evalSteps: 1, saveStrategy: 'steps', saveSteps: 2, maxSteps: 6 },
  ...{ loadBestModelAtEnd: true },
};

/** What the evaluations find, by step: that of step 2 is the last to be the best when its checkpoint is written. */
const LOSSES = [0, 9, 5, 4, 4.5, 3, 7];

/** A trainer whose evaluations after each step find these losses. */
async function makeTrainer(
  t: TestContext,
  settings: Partial<SFTConfig>,
  { losses = LOSSES, callbacks = [] }: { losses?: readonly number[]; callbacks?: TrainerCallback[] } = {},
): Promise<SFTTrainer> {
  const model = await tinyModel(t);
  const data = { trainDataset: rows.slice(0, 18), evalDataset: rows.slice(18, 20) };
  const trainer = new SFTTrainer({ model, ...data, config: { ...config, ...settings }, callbacks });
  const evaluate = trainer.evaluate.bind(trainer);
  t.mock.method(trainer, 'evaluate', async () => ({ ...(await evaluate()), eval_loss: losses[trainer.log.at(-1)?.step ?? 0] }));
  return trainer;
}

const stopAt = (step: number): TrainerCallback => ({ onStepBegin: (state) => void (state.step === step && state.stop()) });
const noting = (notes: string[]): TrainerCallback => ({ onNote: (note) => void notes.push(note) });
const checkpointsIn = (folder: string): string[] =>
  fs
    .readdirSync(folder)
    .filter((name) => name.startsWith('checkpoint-'))
    .sort();

async function assertWeights({ model }: SFTTrainer, folder: string): Promise<void> {
  const saved = await loadModel(folder);
  assert.deepEqual(await weightsOf(model), await weightsOf(saved));
  saved.dispose();
}

describe('load_best_model_at_end', () => {
  test('where the best evaluation has no checkpoint takes the last that was the best and has one, which stays', async (t) => {
    const outputDir = temporaryFolder(t);
    const notes: string[] = [];
    const trainer = await makeTrainer(t, { outputDir, saveTotalLimit: 1 }, { callbacks: [noting(notes)] });
    await trainer.train();
    assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-2']);
    await assertWeights(trainer, path.join(outputDir, 'checkpoint-2'));
    assert.equal(notes.at(-1), 'The model has the weights of checkpoint-2, as loadBestModelAtEnd says.');
    const record = JSON.parse(fs.readFileSync(path.join(outputDir, 'run.json'), 'utf8'));
    assert.equal(record.best_model_checkpoint, path.resolve(outputDir, 'checkpoint-2'));
  });

  test('never takes an evaluation that found no number, or an infinite loss', async (t) => {
    for (const first of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const outputDir = temporaryFolder(t);
      const losses = [0, first, 5, 4, 6];
      const settings = { outputDir, saveSteps: 1, maxSteps: 4, saveTotalLimit: 1 };
      await (await makeTrainer(t, settings, { losses, callbacks: [stopAt(1)] })).train();
      const resumed = await makeTrainer(t, settings, { losses });
      await resumed.train({ resumeFromCheckpoint: true });
      assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-3']);
    }
  });

  test('takes the same after an interruption, whose own checkpoint is none of those that may be the best', async (t) => {
    const outputDir = temporaryFolder(t);
    await (await makeTrainer(t, { outputDir }, { callbacks: [stopAt(5)] })).train();
    assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-2', 'checkpoint-4', 'checkpoint-5']);
    const resumed = await makeTrainer(t, { outputDir, saveTotalLimit: 1 });
    await resumed.train({ resumeFromCheckpoint: true });
    assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-2']);
    await assertWeights(resumed, path.join(outputDir, 'checkpoint-2'));
  });

  test('of a run that goes on in another output_dir takes the best from the old one, by whatever path', async (t) => {
    const old = path.join(temporaryFolder(t), 'old');
    await (await makeTrainer(t, { outputDir: old }, { callbacks: [stopAt(4)] })).train();
    const moved = path.join(temporaryFolder(t), 'moved');
    fs.renameSync(old, moved);
    const [second, third] = [temporaryFolder(t), temporaryFolder(t)];
    const stopped = await makeTrainer(t, { outputDir: second }, { callbacks: [stopAt(5)] });
    await stopped.train({ resumeFromCheckpoint: path.join(moved, 'checkpoint-4') });
    const resumed = await makeTrainer(t, { outputDir: third });
    await resumed.train({ resumeFromCheckpoint: path.join(second, 'checkpoint-5') });
    await assertWeights(resumed, path.join(moved, 'checkpoint-2'));
    const again = await makeTrainer(t, { outputDir: moved, overwriteOutputDir: true });
    await assert.rejects(again.train({ resumeFromCheckpoint: path.join(second, 'checkpoint-5') }), /checkpoint-2, which .* would remove/);
    assert.deepEqual(checkpointsIn(moved), ['checkpoint-2', 'checkpoint-4']);
  });

  test('takes the same after an interruption in the last evaluation, whatever the saving strategy', async (t) => {
    const losses = [0, 9, 5, 6, 6, 6, 3];
    const stop: TrainerCallback = { onStepEnd: (state) => void (state.step === 6 && state.stop()) };
    for (const saveStrategy of ['steps', 'best'] as const) {
      const outputDir = temporaryFolder(t);
      const stopped = await makeTrainer(t, { outputDir, saveStrategy }, { losses, callbacks: [stop] });
      assert.ok((await stopped.train()).stopped);
      await assertWeights(stopped, path.join(outputDir, 'checkpoint-6'));
      const resumed = await makeTrainer(t, { outputDir, saveStrategy, saveTotalLimit: 1 }, { losses });
      assert.equal((await resumed.train({ resumeFromCheckpoint: true })).stopped, false);
      assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-6']);
      assert.ok(resumed.log.some((record) => record.step === 6 && record.eval_loss !== undefined));
    }
  });

  test('says so where the best checkpoint is gone, and where there never was one, and keeps the last weights', async (t) => {
    const outputDir = temporaryFolder(t);
    const best = path.join(outputDir, 'checkpoint-2');
    const notes: string[] = [];
    const removing: TrainerCallback = { onStepEnd: ({ step }) => void (step === 6 && fs.rmSync(best, { recursive: true })) };
    const trainer = await makeTrainer(t, { outputDir }, { callbacks: [noting(notes), removing] });
    await trainer.train();
    await assertWeights(trainer, path.join(outputDir, 'checkpoint-6'));
    assert.deepEqual(notes.slice(-1), [
      `The best checkpoint, ${best}, is no longer there, so loadBestModelAtEnd leaves the model with its last weights.`,
    ]);
    const resumed = await makeTrainer(t, { outputDir }, { callbacks: [noting(notes)] });
    await resumed.train({ resumeFromCheckpoint: path.join(outputDir, 'checkpoint-4') });
    assert.ok(notes.includes(`The best checkpoint so far, ${best}, is no longer there.`), notes.join('\n'));
    assert.match(notes.at(-1) ?? '', /^No checkpoint is that of a best evaluation, so loadBestModelAtEnd leaves .* its last weights\.$/);
    await assertWeights(resumed, path.join(outputDir, 'checkpoint-6'));
  });
});

describe('the best checkpoint beyond save_total_limit', () => {
  const onlyBest = { saveStrategy: 'best', evalSteps: 2, loadBestModelAtEnd: false } as const;

  test('stays alone at the end of a run with save_strategy best and a limit of 1, interrupted or not', async (t) => {
    for (const interrupted of [false, true]) {
      const outputDir = temporaryFolder(t);
      const settings = { ...onlyBest, outputDir, saveTotalLimit: 1 };
      const losses = [0, 9, 5, 9, 6, 9, 7];
      if (interrupted) {
        await (await makeTrainer(t, settings, { losses, callbacks: [stopAt(5)] })).train();
        assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-2', 'checkpoint-5']);
      }
      await (await makeTrainer(t, settings, { losses })).train({ resumeFromCheckpoint: interrupted });
      assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-2'], `interrupted: ${interrupted}`);
    }
  });

  test('stays where metric_for_best_model says what is best, as with TRL: beside the newest, with a limit of 1 alone', async (t) => {
    for (const [saveTotalLimit, expected] of [
      [1, ['checkpoint-2']],
      [2, ['checkpoint-2', 'checkpoint-6']],
    ] as const) {
      const outputDir = temporaryFolder(t);
      const settings = { outputDir, saveTotalLimit, metricForBestModel: 'eval_loss', loadBestModelAtEnd: false };
      const trainer = await makeTrainer(t, settings);
      await trainer.train();
      assert.deepEqual(checkpointsIn(outputDir), expected, `limit ${saveTotalLimit}`);
      if (saveTotalLimit === 2) await assertWeights(trainer, path.join(outputDir, 'checkpoint-6'));
    }
  });

  test('goes where nothing says what is best', async (t) => {
    const outputDir = temporaryFolder(t);
    await (await makeTrainer(t, { outputDir, saveTotalLimit: 1, loadBestModelAtEnd: false })).train();
    assert.deepEqual(checkpointsIn(outputDir), ['checkpoint-6']);
  });
});
