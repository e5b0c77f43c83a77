import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultSmoothing, pointsOf, smooth, thin } from '../../lib/plots/series';

test('a curve takes the records that carry its name, in order of steps', () => {
  const log = [
    { step: 4, loss: 1 },
    { step: 2, loss: 3 },
    { step: 3, eval_loss: 2 },
  ];
  assert.deepEqual(pointsOf(log, 'loss'), [
    { step: 2, value: 3 },
    { step: 4, value: 1 },
  ]);
  assert.deepEqual(pointsOf(log, 'eval_loss'), [{ step: 3, value: 2 }]);
  assert.deepEqual(pointsOf(log, 'grad_norm'), []);
});

test('values that are not finite become gaps, also as a file of JSON spells them', () => {
  const log = [
    { step: 1, loss: Number.NaN },
    { step: 2, loss: Number.POSITIVE_INFINITY },
    ...JSON.parse('[{"step":3,"loss":null},{"step":4,"loss":"NaN"}]'),
  ];
  assert.deepEqual(
    pointsOf(log, 'loss').map((point) => point.value),
    [null, null, null, null],
  );
});

test('smoothing weighs neighbours on both sides and leaves constants and gaps alone', () => {
  const constant = [1, 2, 3, 4].map((step) => ({ step, value: 5 }));
  assert.deepEqual(
    smooth(constant, 0.9).map((point) => Number(point.value?.toFixed(12))),
    [5, 5, 5, 5],
  );
  const peak = smooth(
    [
      { step: 1, value: 0 },
      { step: 2, value: 1 },
      { step: 3, value: 0 },
    ],
    0.5,
  );
  assert.deepEqual(
    peak.map((point) => Number(point.value?.toFixed(12))),
    [0, 1 / 2, Number((2 / 7).toFixed(12))],
  );
  const gap = smooth(
    [
      { step: 1, value: 1 },
      { step: 2, value: null },
      { step: 3, value: 1 },
    ],
    0.5,
  );
  assert.deepEqual(
    gap.map((point) => point.value),
    [1, null, 1],
  );
  assert.deepEqual(smooth(peak, 0), peak);
});

test('a smoothed curve begins where the curve does, and a straight line stays straight where both sides reach equally far', () => {
  const fall = Array.from({ length: 200 }, (_, step) => ({ step, value: 0.2 + 7.3 * Math.exp(-step / 15) }));
  const smoothed = smooth(fall, 0.9).map((point) => point.value ?? 0);
  assert.ok(Math.abs(smoothed[0] - 7.5) < 1e-9);
  assert.ok(Math.abs(smoothed[199] - fall[199].value) < 1e-3);
  const line = Array.from({ length: 100 }, (_, step) => ({ step, value: 3 - step }));
  for (const [i, { value }] of smooth(line, 0.8).slice(0, 50).entries()) assert.ok(Math.abs((value ?? 0) - line[i].value) < 1e-3);
});

test('the end of a smoothed curve is no single noisy point but the running average until there, with its bias corrected', () => {
  const noisy = Array.from({ length: 120 }, (_, step) => ({ step, value: step % 2 === 0 ? 0.9 : 1.1 }));
  noisy[119].value = 3;
  let [sum, mass] = [0, 0];
  for (const { value } of noisy) [sum, mass] = [0.9 * sum + 0.1 * value, 0.9 * mass + 0.1];
  const smoothed = smooth(noisy, 0.9).map((point) => point.value ?? 0);
  assert.ok(Math.abs(smoothed[119] - sum / mass) < 1e-9);
  for (const value of smoothed) assert.ok(value < 1.3, `${value}`);
});

test('short curves are not smoothed by default', () => {
  assert.equal(defaultSmoothing(79), 0);
  assert.ok(defaultSmoothing(300) > 0.7 && defaultSmoothing(300) < 0.9);
  assert.ok(defaultSmoothing(1e6) < 1);
});

test('thinning a long curve keeps its ends, its extremes and its gaps', () => {
  const points = Array.from({ length: 10_000 }, (_, step) => ({
    step,
    value: step === 5000 ? null : Math.sin(step) + (step === 7777 ? 100 : 0),
  }));
  const kept = thin(points, 100);
  assert.ok(kept.length <= 203);
  assert.equal(kept[0].step, 0);
  assert.equal(kept[kept.length - 1].step, 9999);
  assert.ok(kept.some((point) => point.step === 7777));
  assert.ok(kept.some((point) => point.value === null));
});
