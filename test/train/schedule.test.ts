import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { parseConfig } from '../../lib/train';
import { makeSchedule, warmupSteps } from '../../lib/train/schedule';

interface Case {
  kind: string;
  warmup: number;
  total: number;
  kwargs: Record<string, number | string>;
  learning_rate: number;
  rates: number[];
}

const cases = JSON.parse(readFileSync(path.join(projectRoot, 'test/train/fixtures/schedules.json'), 'utf8')) as Case[];

for (const { kind, warmup, total, kwargs, learning_rate: learningRate, rates } of cases) {
  test(`${kind} with ${warmup} warmup steps of ${total} gives transformers' rates`, () => {
    const config = parseConfig({ lr_scheduler_type: kind, warmup_steps: warmup, lr_scheduler_kwargs: kwargs, learning_rate: learningRate });
    const schedule = makeSchedule(config, total);
    for (const [step, rate] of rates.entries()) {
      assert.ok(Math.abs(learningRate * schedule(step) - rate) < 1e-15, `step ${step}: ${learningRate * schedule(step)}, expected ${rate}`);
    }
  });
}

test('warmup is a number of steps, a share of them, or the ratio, rounded up', () => {
  assert.equal(warmupSteps(parseConfig({ warmup_steps: 7 }), 100), 7);
  assert.equal(warmupSteps(parseConfig({ warmup_steps: 0.25 }), 10), 3);
  assert.equal(warmupSteps(parseConfig({ warmup_ratio: 0.1 }), 25), 3);
  assert.equal(warmupSteps(parseConfig({ warmup_steps: 2, warmup_ratio: 0.5 }), 25), 2);
  assert.equal(warmupSteps(parseConfig({}), 25), 0);
});
