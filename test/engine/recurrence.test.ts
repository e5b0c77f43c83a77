/** The gated delta rule, and Mamba 2's recurrence, chunk by chunk, against the same token by token in float64. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { createRandom } from '../../lib/random';

/** Numbers of what tokens bring, by name, and the widths of their rows. */
type Numbers = Record<keyof engine.RecurrenceOperands, Float64Array>;

interface Sizes extends engine.RecurrenceHeads {
  keyDim: number;
  valueDim: number;
  /** Whether values are added as they are, as in Mamba 2. */
  plain?: boolean;
}

const namesOf = ({ plain }: Sizes) => (plain ? (['q', 'k', 'v', 'g'] as const) : (['q', 'k', 'v', 'g', 'beta'] as const));

const widthsOf = ({ keyHeads, valueHeads, keyDim, valueDim }: Sizes) => ({
  q: keyHeads * keyDim,
  k: keyHeads * keyDim,
  v: valueHeads * valueDim,
  g: valueHeads,
  beta: valueHeads,
});

const LENGTHS = [130, 5, 64, 70, 1, 128];
const tokensOf = (lengths: readonly number[]): number => lengths.reduce((sum, length) => sum + length, 0);

function numbersBy(seed: number, tokens: number, sizes: Sizes): Numbers {
  const random = createRandom(seed);
  const widths = widthsOf(sizes);
  const make = (name: keyof Numbers, next: () => number): Float64Array => Float64Array.from({ length: tokens * widths[name] }, next);
  const k = make('k', () => 0.5 + 0.3 * random.normal());
  for (let at = 0; at < k.length; at += sizes.keyDim) {
    const head = k.subarray(at, at + sizes.keyDim);
    const length = Math.hypot(...head);
    for (let i = 0; i < head.length; i++) head[i] /= length;
  }
  return {
    ...{ q: make('q', () => random.normal()), k, v: make('v', () => random.normal()) },
    ...{ g: make('g', () => -0.3 * random.next()), beta: make('beta', () => random.next()) },
  };
}

/** The rules as they are written: S ← eᵍ·S, S ← S + k·(β·(v − Sᵀk))ᵀ, o = Sᵀq, or in the second step S ← S + k·vᵀ. */
function tokenByToken({ q, k, v, g, beta }: Numbers, lengths: readonly number[], sizes: Sizes): Float64Array {
  const { keyHeads, valueHeads, keyDim, valueDim, plain } = sizes;
  const read = new Float64Array(v.length);
  let start = 0;
  for (const length of lengths) {
    for (let head = 0; head < valueHeads; head++) {
      const keyHead = Math.floor(head / (valueHeads / keyHeads));
      const state = Array.from({ length: keyDim }, () => new Float64Array(valueDim));
      for (let token = start; token < start + length; token++) {
        const place = (token * keyHeads + keyHead) * keyDim;
        const [key, query] = [k, q].map((x) => x.subarray(place, place + keyDim));
        const at = token * valueHeads + head;
        const along = (vector: Float64Array, column: number): number => state.reduce((sum, row, i) => sum + row[column] * vector[i], 0);
        for (const row of state) for (let column = 0; column < valueDim; column++) row[column] *= Math.exp(g[at]);
        for (let column = 0; column < valueDim; column++) {
          const value = v[at * valueDim + column];
          const added = plain ? value : beta[at] * (value - along(key, column));
          for (const [i, row] of state.entries()) row[column] += key[i] * added;
          read[at * valueDim + column] = along(query, column);
        }
      }
    }
    start += length;
  }
  return read;
}

function tensorsOf(numbers: Numbers, sizes: Sizes): tf.Tensor2D[] {
  const widths = widthsOf(sizes);
  return namesOf(sizes).map((name) => tf.tensor2d(Float32Array.from(numbers[name]), [numbers[name].length / widths[name], widths[name]]));
}

const operandsOf = (tensors: readonly tf.Tensor[], sizes: Sizes): engine.RecurrenceOperands =>
  Object.fromEntries(namesOf(sizes).map((name, i) => [name, tensors[i]])) as unknown as engine.RecurrenceOperands;

function closeTo(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(found.length, expected.length);
  const largest = Math.max(...Array.from(expected, Math.abs));
  for (let i = 0; i < found.length; i++)
    assert.ok(Math.abs(found[i] - expected[i]) <= tolerance * largest, `at ${i}: ${found[i]} instead of ${expected[i]}`);
}

const SHARED: Sizes = { keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 12 };
const OWN: Sizes = { keyHeads: 3, valueHeads: 3, keyDim: 16, valueDim: 16 };
const PLAIN: Sizes = { keyHeads: 2, valueHeads: 6, keyDim: 8, valueDim: 5, plain: true };
const PLAIN_OF_ONE: Sizes = { keyHeads: 1, valueHeads: 4, keyDim: 12, valueDim: 6, plain: true };

/** As one kernel, and as plain operations, of which it is composed elsewhere. */
const BACKENDS = ['onnxruntime', "tfjs's own"];

async function use(backend: string): Promise<void> {
  await engine.useDevice('cpu');
  if (backend !== 'onnxruntime') await tf.setBackend('cpu');
}

const CASES = BACKENDS.flatMap((backend) => [
  { backend, name: `heads of values that share keys, on ${backend}`, sizes: SHARED },
  { backend, name: `keys of their own, on ${backend}`, sizes: OWN },
  { backend, name: `Mamba 2, on ${backend}`, sizes: PLAIN },
  { backend, name: `Mamba 2 with one key for all, on ${backend}`, sizes: PLAIN_OF_ONE },
]);

for (const { backend, name, sizes } of CASES) {
  test(`${name}: segments of a row come out as token by token`, async () => {
    await use(backend);
    const numbers = numbersBy(1, tokensOf(LENGTHS), sizes);
    const segments = engine.makeSegments(LENGTHS);
    const read = tf.tidy(() => engine.recurrence(operandsOf(tensorsOf(numbers, sizes), sizes), segments, sizes).dataSync());
    closeTo(read, tokenByToken(numbers, LENGTHS, sizes), 1e-6);
    segments.dispose();
  });

  test(`${name}: gradients are those of finite differences`, async () => {
    await use(backend);
    const lengths = [70, 3, 65];
    const numbers = numbersBy(2, tokensOf(lengths), sizes);
    const random = createRandom(3);
    const factors = Float32Array.from({ length: numbers.v.length }, () => random.normal());
    const segments = engine.makeSegments(lengths);
    const gradients = tf.tidy(() => {
      const rule = (...tensors: tf.Tensor[]): tf.Tensor => engine.recurrence(operandsOf(tensors, sizes), segments, sizes);
      const dy = tf.tensor2d(factors, [tokensOf(lengths), sizes.valueHeads * sizes.valueDim]);
      return tf
        .grads(rule)(tensorsOf(numbers, sizes), dy)
        .map((gradient) => gradient.dataSync());
    });
    const total = (changed: Numbers): number => tokenByToken(changed, lengths, sizes).reduce((sum, x, i) => sum + x * factors[i], 0);
    for (const [which, operand] of namesOf(sizes).entries()) {
      const direction = numbers[operand].map(() => random.normal());
      const moved = (by: number): Numbers => ({ ...numbers, [operand]: numbers[operand].map((x, i) => x + by * direction[i]) });
      const slope = (total(moved(1e-5)) - total(moved(-1e-5))) / 2e-5;
      const found = (gradients[which] as Float32Array).reduce((sum, x, i) => sum + x * direction[i], 0);
      const size = Math.hypot(...gradients[which]) * Math.hypot(...direction);
      assert.ok(Math.abs(found - slope) <= 1e-6 * size, `${operand}: ${found} instead of ${slope}`);
    }
    segments.dispose();
  });
}

for (const backend of BACKENDS) {
  test(`keys that are all alike, of which nothing decays, lose no digits on ${backend}`, async () => {
    await use(backend);
    const sizes = { keyHeads: 1, valueHeads: 1, keyDim: 4, valueDim: 4 };
    const lengths = [128];
    const numbers = { ...numbersBy(4, 128, sizes), k: new Float64Array(4 * 128).fill(0.5), g: new Float64Array(128) };
    for (const learned of [1, 0.97]) {
      numbers.beta.fill(learned);
      const segments = engine.makeSegments(lengths);
      const read = tf.tidy(() => engine.recurrence(operandsOf(tensorsOf(numbers, sizes), sizes), segments, sizes).dataSync());
      closeTo(read, tokenByToken(numbers, lengths, sizes), 1e-6);
      segments.dispose();
    }
  });

  for (const [name, sizes] of Object.entries({ 'the gated delta rule': SHARED, 'Mamba 2': PLAIN }))
    test(`${name}: from the states behind segments it goes on token by token on ${backend}`, async () => {
      await use(backend);
      const lengths = [64, 3, 66];
      const more = 2;
      const whole = lengths.map((length) => length + more);
      const numbers = numbersBy(5, tokensOf(whole), sizes);
      const expected = tokenByToken(numbers, whole, sizes);
      const widths = widthsOf(sizes);
      const starts = whole.map((_, i) => tokensOf(whole.slice(0, i)));
      const rowsOf = (places: number[]): Numbers => {
        const pick = (name: keyof Numbers) =>
          Float64Array.from(places.flatMap((place) => [...numbers[name].subarray(place * widths[name], (place + 1) * widths[name])]));
        return Object.fromEntries(namesOf(sizes).map((name) => [name, pick(name)])) as Numbers;
      };
      const segments = engine.makeSegments(lengths);
      tf.tidy(() => {
        const first = rowsOf(lengths.flatMap((length, i) => Array.from({ length }, (_, token) => starts[i] + token)));
        let { states } = engine.recurrenceStates(operandsOf(tensorsOf(first, sizes), sizes), segments, sizes);
        for (let token = 0; token < more; token++) {
          const places = lengths.map((length, i) => starts[i] + length + token);
          const { output, state } = engine.recurrenceStep(operandsOf(tensorsOf(rowsOf(places), sizes), sizes), states, sizes);
          states = state;
          closeTo(
            output.dataSync(),
            places.flatMap((place) => [...expected.subarray(place * widths.v, (place + 1) * widths.v)]),
            5e-6,
          );
        }
      });
      segments.dispose();
    });
}

for (const backend of BACKENDS) {
  test(`states of which a token may leave nothing are read as token by token, and have gradients, on ${backend}`, async () => {
    await use(backend);
    const lengths = [100];
    const numbers = numbersBy(7, 100, PLAIN);
    const random = createRandom(8);
    numbers.g = numbers.g.map(() => -80 * random.next() ** 6);
    const segments = engine.makeSegments(lengths);
    tf.tidy(() => {
      const rule = (...tensors: tf.Tensor[]): tf.Tensor => engine.recurrence(operandsOf(tensors, PLAIN), segments, PLAIN);
      const tensors = tensorsOf(numbers, PLAIN);
      // what is between two tokens is not the difference of larger sums, which would lose digits
      closeTo(rule(...tensors).dataSync(), tokenByToken(numbers, lengths, PLAIN), 1e-6);
      const gradients = tf
        .grads(rule)(tensors)
        .map((gradient) => [...gradient.dataSync()]);
      assert.ok(gradients.flat().every(Number.isFinite));
    });
    segments.dispose();
  });
}

test('chunks are let go of with the row, and segments that begin in others are refused', async () => {
  await use('onnxruntime');
  const held = tf.memory().numTensors;
  const segments = engine.makeSegments([70, 4]);
  assert.equal(segments.chunks(), segments.chunks());
  tf.tidy(() => engine.recurrence(operandsOf(tensorsOf(numbersBy(6, 74, OWN), OWN), OWN), segments, OWN).dataSync());
  segments.dispose();
  assert.equal(tf.memory().numTensors, held);
  const borrowing = engine.makeSegments([3, 4], [undefined, { segment: 0, tokens: 2 }]);
  assert.throws(() => borrowing.chunks(), /begins with its segment/);
  borrowing.dispose();
});
