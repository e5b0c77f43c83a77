import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../lib/train';
import { dueAfterStep, savingSteps } from '../../lib/train/cadence';

const plan = { maxSteps: 10, stepsPerEpoch: 4, microBatchesPerEpoch: 4 };

test('the steps at which a run may write a checkpoint', () => {
  for (const [settings, from, expected] of [
    [{ save_strategy: 'no' }, 0, []],
    [{ save_steps: 500 }, 0, [10]],
    [{ save_steps: 3 }, 0, [3, 6, 9, 10]],
    [{ save_steps: 3 }, 6, [9, 10]],
    [{ save_steps: 3 }, 10, []],
    [{ save_steps: 0.5 }, 0, [5, 10]],
    [{ save_strategy: 'epoch' }, 0, [4, 8, 10]],
    [{ save_strategy: 'best', eval_strategy: 'steps', eval_steps: 2 }, 0, [2, 4, 6, 8, 10]],
  ] as const) {
    assert.deepEqual(savingSteps(parseConfig(settings), plan, from), expected, JSON.stringify(settings));
  }
});

test('evaluations begin after eval_delay, which counts steps or epochs', () => {
  for (const [settings, expected] of [
    [{ eval_strategy: 'steps', eval_steps: 3 }, [3, 6, 9, 10]],
    [{ eval_strategy: 'steps', eval_steps: 3, eval_delay: 6 }, [6, 9, 10]],
    [{ eval_strategy: 'steps', eval_steps: 3, eval_delay: 11 }, []],
    [{ eval_strategy: 'epoch', eval_delay: 1.5 }, [8, 10]],
  ] as const) {
    const config = parseConfig(settings);
    const steps = Array.from({ length: plan.maxSteps }, (_, i) => i + 1);
    const found = steps.filter((step) => dueAfterStep(config, step, plan).evaluate);
    assert.deepEqual(found, expected, JSON.stringify(settings));
  }
});
