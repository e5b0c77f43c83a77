import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { type CurveOptions, plotTraining } from '../../lib/plots';
import { curvesOfRun } from '../../lib/plots/run';
import { parseConfig } from '../../lib/train';
import { makeSchedule } from '../../lib/train/schedule';

/** A run of 40 steps, of which every tenth is logged: 7 of warmup, so that no logged step has the highest rate. */
function run({ skipped = 0, until = 40 } = {}) {
  const config = parseConfig({ learningRate: 2e-4, lrSchedulerType: 'linear', warmupSteps: 7, maxGradNorm: 0.5 });
  const schedule = makeSchedule(config, 40);
  const steps = [10, 20, 30, 40].filter((step) => step <= until);
  const log = steps.map((step) => ({ step, loss: 1 / step, grad_norm: 1, learning_rate: 2e-4 * schedule(step - 1 - skipped) }));
  return { log, config, plan: { maxSteps: 40 } };
}

test("a trainer's learning rate is drawn at every step, so that the plot shows its real peak", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-plots-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const peak = () => /peak ([\de.-]+)/.exec(readFileSync(path.join(folder, 'learning_rate.svg'), 'utf8'))?.[1];
  await plotTraining(run().log, { saveTo: folder });
  assert.equal(peak(), '1.9e-4');
  await plotTraining(run(), { saveTo: folder });
  assert.equal(peak(), '2e-4');
});

test('rates are drawn as far as the run came, and other curves have no points more', () => {
  const { log } = curvesOfRun(run({ until: 30 }), {});
  const rates = log.flatMap(({ step, learning_rate: rate }) => (rate === undefined ? [] : [step])).sort((a, b) => a - b);
  assert.deepEqual(
    rates,
    Array.from({ length: 30 }, (_, i) => i + 1),
  );
  assert.equal(log.filter((record) => 'loss' in record).length, 3);
});

test('a log that does not follow the schedule, as after overflows of float16, is drawn as it is', () => {
  const slipped = run({ skipped: 1 });
  assert.deepEqual(curvesOfRun(slipped, {}).log, slipped.log);
});

test('clipping is known from a trainer and may be given otherwise', () => {
  assert.equal(curvesOfRun<CurveOptions>(run(), {}).options.maxGradNorm, 0.5);
  assert.equal(curvesOfRun(run(), { maxGradNorm: 2 }).options.maxGradNorm, 2);
});

test('of a run that is too short to be logged the remedy is not to train first', async () => {
  const short = { log: [], config: parseConfig({}), plan: { maxSteps: 3 } };
  await assert.rejects(plotTraining(short), {
    message: 'The log has nothing to plot, as loggingSteps is 10 and the run has 3 steps; set loggingSteps: 1 and train again.',
  });
  await assert.rejects(plotTraining({ ...short, plan: { maxSteps: 30 } }), { message: /train first/ });
});
