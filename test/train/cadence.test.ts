import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../lib/train';
import { mostCheckpoints } from '../../lib/train/cadence';

test('how many checkpoints lie on the disk at a time', () => {
  const plan = { maxSteps: 10, stepsPerEpoch: 4, microBatchesPerEpoch: 4 };
  for (const [settings, expected] of [
    [{ save_strategy: 'no' }, 0],
    [{ save_steps: 500 }, 1],
    [{ save_steps: 3 }, 4],
    [{ save_steps: 0.5 }, 2],
    [{ save_strategy: 'epoch' }, 3],
    [{ save_steps: 1, save_total_limit: 2 }, 3],
    [{ save_steps: 500, save_total_limit: 2 }, 1],
    [{ save_strategy: 'best', eval_strategy: 'steps', eval_steps: 2 }, 5],
  ] as const) {
    assert.equal(mostCheckpoints(parseConfig(settings), plan), expected, JSON.stringify(settings));
  }
});
