import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { loadModel } from '../../lib/model';
import { earlyStopping, parseConfig, type SFTConfig, SFTTrainer, type TrainerCallback, type TrainerState } from '../../lib/train';
import type { EvalMetrics } from '../../lib/train/evaluation';
import { readJsonFile, rows, short, temporaryFolder, tinyModel, weightsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

/** After which of these evaluations the run ends. */
async function endOf(values: readonly number[], options: Parameters<typeof earlyStopping>[0], config: Partial<SFTConfig> = {}) {
  const callback = earlyStopping(options);
  let end: number | undefined;
  const state = (step: number): TrainerState => ({
    ...{
      step,
      maxSteps: 99,
      stepShare: 0,
      evaluationShare: 0,
      epoch: 0,
      numTokens: 0,
      log: [],
      tokensPerSecond: 0,
      secondsLeft: undefined,
    },
    config: parseConfig({ evalStrategy: 'steps', metricForBestModel: 'loss', ...config }),
    stop: () => assert.fail('that would be an interruption'),
    finish: () => {
      end ??= step;
    },
  });
  await callback.onTrainBegin?.(state(0));
  for (const [index, value] of values.entries()) await callback.onEvaluate?.(state(index + 1), { eval_loss: value } as EvalMetrics);
  return end;
}

describe("ends after the evaluation after which transformers' EarlyStoppingCallback ends", () => {
  const nan = Number.NaN;
  for (const [values, greater, patience, threshold, expected] of [
    [[3, 2, 1, 1, 1], false, 1, 0, 4],
    [[3, 2, 2.5, 1, 2, 3], false, 2, 0, 6],
    [[3, 2.95, 2.9, 2.85, 2.8], false, 2, 0.1, 3],
    [[3, 2.9, 2.5, 2.45, 2.3, 2.29, 2.28], false, 2, 0.1, 7],
    [[1, 2, 3, 2, 1], true, 1, 0, 4],
    [[1, 2, 3, 2, 2.5], true, 2, 0, 5],
    [[0.5, 0.6, 0.6], true, 1, 0, 3],
    [[nan, nan, 3, 2, 2], false, 2, 0, undefined],
    [[nan, nan, nan, 3], false, 2, 0, 3],
    [[3, nan, 2, nan, nan], false, 2, 0, 5],
    [[3, 2], false, 0, 0, 1],
    [[5, 4, 3], false, 3, 10, undefined],
    [[5, 4, 3, 2], false, 3, 10, 4],
    [[4, 3.5, 3], false, 1, 0.5, 2],
  ] as const) {
    test(`${values.join(', ')}: ${greater ? 'greater' : 'less'} is better, patience ${patience}, threshold ${threshold}`, async () => {
      assert.equal(await endOf(values, { patience, threshold }, { greaterIsBetter: greater }), expected);
    });
  }
  test('its defaults are 1 and 0', async () => assert.equal(await endOf([3, 2, 2], {}), 3));
});

/** The loss of these runs falls with every step; whoever says that a greater one is better has its best at once. */
async function makeTrainer(t: TestContext, outputDir: string, config: Partial<SFTConfig> = {}, callbacks: TrainerCallback[] = []) {
  const model = await tinyModel(t);
  const often = { evalStrategy: 'steps', evalSteps: 1, saveStrategy: 'steps', saveSteps: 1 } as const;
  const best = { loadBestModelAtEnd: true, greaterIsBetter: true };
  return new SFTTrainer({
    model,
    trainDataset: rows.slice(0, 18),
    evalDataset: rows.slice(18, 22),
    config: { ...short, ...often, ...best, outputDir, ...config },
    callbacks,
  });
}

async function weightsIn(t: TestContext, folder: string): Promise<Record<string, string>> {
  const model = await loadModel(folder);
  t.after(() => model.dispose());
  return weightsOf(model);
}

const isFinished = (folder: string): boolean => readJsonFile<{ finished: boolean }>(folder, 'run.json').finished;

test('the run ends as finished, with the weights of its best evaluation; log and plan are those of the whole run up to there', async (t) => {
  const [whole, folder] = [temporaryFolder(t), temporaryFolder(t)];
  const reference = await makeTrainer(t, whole);
  await reference.train();
  const losses = reference.log.flatMap(({ eval_loss: loss }) => (loss === undefined ? [] : [loss]));
  assert.ok(losses[0] > losses[1] && losses[1] > losses[2], `the losses fall: ${losses}`);
  // the first is the best; the second and the third are no better
  const trainer = await makeTrainer(t, folder, {}, [earlyStopping({ patience: 2 })]);
  const { globalStep, stopped } = await trainer.train();
  assert.deepEqual([globalStep, stopped, trainer.plan.maxSteps], [3, false, 6]);
  assert.deepEqual(
    trainer.log,
    reference.log.filter(({ step }) => step <= 3),
  );
  assert.ok(isFinished(folder));
  assert.deepEqual(await weightsOf(trainer.model), await weightsIn(t, path.join(whole, 'checkpoint-1')));
});

test('without load_best_model_at_end the last weights stay', async (t) => {
  const folder = temporaryFolder(t);
  const config = { loadBestModelAtEnd: false, metricForBestModel: 'loss' };
  const trainer = await makeTrainer(t, folder, config, [earlyStopping()]);
  assert.equal((await trainer.train()).globalStep, 2);
  assert.deepEqual(await weightsOf(trainer.model), await weightsIn(t, path.join(folder, 'checkpoint-2')));
});

test('a continued run counts the evaluations before its checkpoint, and ends at once where it had ended', async (t) => {
  const folder = temporaryFolder(t);
  const stopAt2: TrainerCallback = { onStepBegin: (state) => void (state.step === 2 && state.stop()) };
  await (await makeTrainer(t, folder, {}, [earlyStopping({ patience: 2 }), stopAt2])).train();
  assert.ok(!isFinished(folder));
  for (let time = 0; time < 2; time++) {
    const trainer = await makeTrainer(t, folder, {}, [earlyStopping({ patience: 2 })]);
    const { globalStep, stopped } = await trainer.train({ resumeFromCheckpoint: true });
    assert.deepEqual([globalStep, stopped], [3, false]);
    assert.ok(isFinished(folder));
    assert.deepEqual(await weightsOf(trainer.model), await weightsIn(t, path.join(folder, 'checkpoint-1')));
  }
});

test('what is logged because the epoch ends with the run is in its last checkpoint, too', async (t) => {
  const folder = temporaryFolder(t);
  const config: Partial<SFTConfig> = { loggingStrategy: 'epoch' };
  const first = await makeTrainer(t, folder, config, [earlyStopping()]);
  await first.train();
  assert.deepEqual(
    first.log.map(({ step, loss }) => [step, loss !== undefined]),
    [
      [1, false],
      [2, false],
      [2, true],
    ],
  );
  const again = await makeTrainer(t, folder, config, [earlyStopping()]);
  await again.train({ resumeFromCheckpoint: true });
  assert.deepEqual(again.log, first.log);
});

test('a trainer whose run has ended early trains again as the first time', async (t) => {
  const trainer = await makeTrainer(t, temporaryFolder(t), {}, [earlyStopping()]);
  assert.equal((await trainer.train()).globalStep, 2);
  assert.equal((await trainer.train()).globalStep, 2);
});

test('state.finish() ends the run after the step at work, and its epoch with it', async (t) => {
  const folder = temporaryFolder(t);
  const config = { evalStrategy: 'epoch', saveStrategy: 'epoch', loggingStrategy: 'epoch' } as const;
  const finishAt: TrainerCallback = { onStepBegin: ({ step, finish }) => void (step === 1 && finish()) };
  const trainer = await makeTrainer(t, folder, config, [finishAt]);
  const { globalStep, stopped } = await trainer.train();
  assert.deepEqual([globalStep, stopped], [2, false]);
  assert.deepEqual(
    trainer.log.map((record) => [record.step, 'loss' in record]),
    [
      [2, true],
      [2, false],
    ],
  );
  assert.ok(fs.existsSync(path.join(folder, 'checkpoint-2')));
});

test('from an evaluation in the middle of an epoch, what is due once an epoch is still done, and nothing twice', async (t) => {
  const folder = temporaryFolder(t);
  const saves: string[] = [];
  const config = { saveStrategy: 'epoch', loggingStrategy: 'epoch', loadBestModelAtEnd: false, metricForBestModel: 'loss' } as const;
  const listener: TrainerCallback = { onSave: (_, saved) => void saves.push(path.basename(saved)) };
  const trainer = await makeTrainer(t, folder, config, [earlyStopping(), listener]);
  assert.equal((await trainer.train()).globalStep, 2);
  assert.deepEqual(
    trainer.log.map((record) => [record.step, 'loss' in record]),
    [
      [1, false],
      [2, false],
      [2, true],
    ],
  );
  assert.deepEqual(saves, ['checkpoint-2']);
});

test('a run that is stopped in the step after which it was to end is stopped', async (t) => {
  const folder = temporaryFolder(t);
  const both: TrainerCallback = {
    onStepBegin: (state) => {
      if (state.step !== 1) return;
      state.finish();
      state.stop();
    },
  };
  const trainer = await makeTrainer(t, folder, {}, [both]);
  const { globalStep, stopped } = await trainer.train();
  assert.deepEqual([globalStep, stopped], [1, true]);
  assert.ok(!isFinished(folder));
});

describe('what transformers asserts is refused in one sentence', () => {
  for (const [name, config, message] of [
    ['no evaluations', { evalStrategy: 'no' }, /^earlyStopping needs evaluations, but evalStrategy is no; set it to steps or epoch\.$/],
    [
      'no metric',
      { metricForBestModel: null },
      /^earlyStopping needs a metric to watch; set metricForBestModel, such as loss, or loadBestModelAtEnd: true/,
    ],
  ] as const) {
    test(name, () => assert.rejects(endOf([1], {}, config), { name: 'UserError', message }));
  }
  test('options out of range', () => {
    assert.throws(() => earlyStopping({ patience: 1.5 }), { name: 'UserError', message: /patience is 1\.5, but must be a whole number/ });
    assert.throws(() => earlyStopping({ threshold: Number.NaN }), { name: 'UserError', message: /threshold is .*, but must be a number/ });
  });
});
