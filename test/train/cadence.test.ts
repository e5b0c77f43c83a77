import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../lib/train';
import { savingSteps } from '../../lib/train/cadence';

test('the steps at which a run may write a checkpoint', () => {
  const plan = { maxSteps: 10, stepsPerEpoch: 4, microBatchesPerEpoch: 4 };
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
