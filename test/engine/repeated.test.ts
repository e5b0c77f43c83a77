/** Computations that repeat: later calls run what the first has recorded, and give what a new recording would give. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import * as engine from '../../lib/engine';
import { ortBackend } from '../../lib/engine/device';

let weight: tf.Variable<tf.Rank.R2>;
let recordings: number;
let before: number;

beforeEach(async () => {
  await engine.useDevice('cpu');
  engine.varyingSizes({});
  before = tf.memory().numTensors;
  weight = engine.ownedVariable<tf.Rank.R2>(
    Float32Array.from({ length: 6 }, (_, i) => i),
    [2, 3],
  );
  recordings = 0;
});
afterEach(() => {
  weight.dispose();
  assert.equal(tf.memory().numTensors, before);
});

/** x·Wᵀ and the state with x's sum added. */
function step(): engine.Repeated {
  return new engine.Repeated(([x, state]) => {
    recordings++;
    return [tf.matMul(x, weight as tf.Tensor, false, true), tf.add(state, tf.sum(x))];
  });
}

/** Calls it with x = [first, first + 1, first + 2] in each of the rows and a state of so many sevens; the state is spent. */
function call(repeated: engine.Repeated, first: number, { rows = 1, size = 2 } = {}): { y: number[]; sums: number[] } {
  const x = tf.tensor2d(Array(rows).fill([first, first + 1, first + 2]));
  const state = tf.fill([size], 7);
  const [y, sums] = repeated.run([x], [state]);
  assert.ok(state.isDisposed || state === sums, 'disposed of or handed back');
  const results = { y: [...y.dataSync()], sums: [...sums.dataSync()] };
  tf.dispose([x, y, sums]);
  return results;
}

const expected = (first: number): { y: number[]; sums: number[] } => ({
  y: [3 * first + 5 - 0, 12 * first + 14],
  sums: Array(2).fill(7 + 3 * first + 3),
});

test('it is recorded once for each set of shapes', () => {
  const repeated = step();
  for (const first of [1, 2, 3]) assert.deepEqual(call(repeated, first), expected(first));
  assert.equal(recordings, 1);
  const { y } = call(repeated, 4, { rows: 3 });
  assert.deepEqual(
    y,
    [1, 2, 3].flatMap(() => expected(4).y),
  );
  assert.equal(recordings, 2);
  assert.deepEqual(call(repeated, 5), expected(5));
  assert.equal(recordings, 2);
});

test('what it reads beside its inputs is read as it is at each call', () => {
  const repeated = step();
  assert.deepEqual(call(repeated, 1).y, [8, 26]);
  engine.setToZero([weight]);
  assert.deepEqual(call(repeated, 1).y, [0, 0]);
  assert.equal(recordings, 1);
  const ones = tf.ones<tf.Rank.R2>([2, 3]);
  weight.assign(ones);
  ones.dispose();
  assert.deepEqual(call(repeated, 1).y, [6, 6]);
  assert.equal(recordings, 2);
});

test('a variable is read where its data is now, also while a copy holds the old', () => {
  const repeated = step();
  assert.deepEqual(call(repeated, 1).y, [8, 26]);
  const copy = weight.clone();
  engine.setToZero([weight]);
  assert.deepEqual(call(repeated, 1).y, [0, 0]);
  assert.deepEqual([...copy.dataSync()], [0, 1, 2, 3, 4, 5]);
  copy.dispose();
});

test('it is recorded again when its graph is no longer there, or the precision is another', () => {
  const repeated = step();
  call(repeated, 1);
  engine.releaseMemory();
  assert.deepEqual(call(repeated, 2), expected(2));
  assert.equal(recordings, 2);
  engine.usePrecision('float16');
  assert.deepEqual(call(repeated, 1), expected(1));
  assert.equal(recordings, 3);
  engine.usePrecision('float32');
});

test('a state goes from call to call, and whoever else holds it or has yet to read it keeps what it was', () => {
  const size = 1 << 16;
  const repeated = new engine.Repeated(([amount, state]) => {
    recordings++;
    return [tf.add(state, amount)];
  });
  const amount = tf.scalar(1);
  let [state] = repeated.run([amount], [tf.zeros([size])]);
  const held: tf.Tensor[] = [];
  for (let i = 2; i <= 5; i++) {
    if (i === 3) held.push(state.clone());
    if (i === 4) held.push(tf.mul(state, 10));
    [state] = repeated.run([amount], [state]);
  }
  assert.equal(recordings, 1);
  for (const [tensor, value] of [
    [state, 5],
    [held[0], 2],
    [held[1], 30],
  ] as const)
    assert.ok(
      tensor.dataSync().every((x) => x === value),
      `expected ${value}, found ${tensor.dataSync()[0]}`,
    );
  tf.dispose([state, amount, ...held]);
});

test('a result takes over the memory of what is spent', () => {
  const memoryOf = (x: tf.Tensor): ArrayBufferLike | undefined => ortBackend()?.hostData(x.dataId).buffer;
  const repeated = new engine.Repeated(([amount, state]) => [tf.add(state, amount)]);
  const amount = tf.scalar(1);
  let [state] = repeated.run([amount], [tf.zeros([1 << 16])]);
  for (let i = 0; i < 3; i++) {
    const memory = memoryOf(state);
    [state] = repeated.run([amount], [state]);
    assert.equal(memoryOf(state), memory);
  }
  tf.dispose([state, amount]);
});

test('a state that becomes a result in its place is handed back, with another version', () => {
  const repeated = new engine.Repeated(([amount, state]) => [tf.add(state, amount)]);
  const amount = tf.scalar(1);
  let [state] = repeated.run([amount], [tf.zeros([4])]);
  for (let i = 2; i <= 4; i++) {
    const version = engine.versionsOf([state]);
    const [next] = repeated.run([amount], [state]);
    assert.equal(next, state);
    assert.notEqual(engine.versionsOf([next]), version);
    assert.deepEqual([...next.dataSync()], [i, i, i, i]);
    state = next;
  }
  tf.dispose([state, amount]);
});

test('two results that are one tensor do not become one that is disposed of with the other', () => {
  const repeated = new engine.Repeated(([state]) => {
    const more = tf.add(state, 1);
    return [more, more.clone()];
  });
  let [state, twin] = repeated.run([], [tf.zeros([4])]);
  for (let i = 2; i <= 4; i++) {
    twin.dispose();
    [state, twin] = repeated.run([], [state]);
    assert.notEqual(state, twin);
    assert.deepEqual([...state.dataSync(), ...twin.dataSync()], Array(8).fill(i));
  }
  tf.dispose([state, twin]);
});

test('what is spent is not overwritten while something else reads it', () => {
  const table = tf.range(0, 1 << 16);
  const constant = tf.tidy(() => tf.add(table, 0));
  constant.dataSync();
  const repeated = new engine.Repeated(([state]) => [tf.add(state, 1), tf.mul(constant, 2)]);
  tf.dispose(repeated.run([], [tf.zeros([1 << 16])]));
  const [more, doubles] = repeated.run([], [constant]);
  assert.ok(constant.isDisposed);
  assert.deepEqual([more.dataSync()[9], doubles.dataSync()[9], doubles.dataSync()[65535]], [10, 18, 131070]);
  tf.dispose([table, more, doubles]);
});

test('what was not said to be spent is not', () => {
  const repeated = new engine.Repeated(([a, b]) => [tf.add(a, b)]);
  const fresh = (): tf.Tensor => tf.tidy(() => tf.add(tf.zeros([4]), 1));
  const [a, b] = [fresh(), fresh()];
  const first = repeated.run([a], [fresh()]);
  const second = repeated.run([a, b], []);
  assert.deepEqual([...b.dataSync()], [1, 1, 1, 1]);
  tf.dispose([a, b, ...first, ...second]);
});

test('where a run fails, nothing is left behind', () => {
  const table = tf.tensor2d([[1], [2], [3]]);
  const repeated = new engine.Repeated(([ids, state]) => [tf.gather(table, tf.add(ids, tf.scalar(0, 'int32'))), tf.add(state, 1)]);
  for (const id of [99, 1, 99, 2]) {
    const ids = tf.tensor1d([id], 'int32');
    const run = (): number[] =>
      tf.tidy(() => {
        const [row] = repeated.run([ids], [tf.zeros([1 << 16])]);
        return [...row.dataSync()];
      });
    if (id === 99) assert.throws(run, /indices|out of/i);
    else assert.deepEqual(run(), [id + 1]);
    ids.dispose();
  }
  table.dispose();
});

test('the place of an input is what counts, not which tensor it is', () => {
  const repeated = new engine.Repeated(([a, b]) => {
    recordings++;
    return [tf.sub(a, b)];
  });
  const [a, b] = [tf.tensor1d([5, 6]), tf.tensor1d([1, 1])];
  const of = (...inputs: tf.Tensor[]): number[] =>
    tf.tidy(() => {
      const [difference] = repeated.run(inputs, []);
      return [...difference.dataSync()];
    });
  assert.deepEqual(of(a, a), [0, 0]);
  assert.deepEqual(of(a, b), [4, 5]);
  assert.deepEqual(of(b, a), [-4, -5]);
  assert.deepEqual(of(a, a), [0, 0]);
  tf.tidy(() => {
    assert.deepEqual(of(tf.reshape(tf.tensor2d([[3, 4]]), [2]), b), [2, 3]);
    assert.deepEqual(of(tf.reshape(tf.tensor2d([[7], [8]]), [2]), b), [6, 7]);
    assert.deepEqual(of(tf.add(a, 1), b), [5, 6], 'an input that is still to be computed');
  });
  tf.dispose([a, b]);
});

/** x, computed by a recording of its own. */
const doubled = new engine.Repeated(([x]) => [tf.div(tf.mul(x, 2), 2)]);

for (const [what, compute] of [
  ['reads a value while it is recorded', (x: tf.Tensor) => [tf.mul(x, tf.sum(x).dataSync()[0])]],
  ['reads an input while it is recorded', (x: tf.Tensor) => [tf.mul(x, x.dataSync()[0] + x.dataSync()[1])]],
  ['has a kernel that tfjs computes', (x: tf.Tensor) => [tf.mul(x, tf.mod(tf.sum(x), 1000))]],
  ['repeats a part of itself', (x: tf.Tensor) => [tf.mul(x, doubled.run([tf.sum(x)], [])[0])]],
  ['makes a constant', (x: tf.Tensor) => [tf.mul(tf.mul(x, tf.tensor1d([2, 2])), tf.div(tf.sum(x), 2))]],
  ['returns an input', (x: tf.Tensor) => [tf.mul(x, tf.sum(x)), x.clone()]],
  ['returns another shape of a result', (x: tf.Tensor) => [tf.reshape(tf.mul(x, tf.sum(x)), [2])]],
] as const) {
  test(`a computation that ${what} is right`, () => {
    const repeated = new engine.Repeated(([x]) => compute(x));
    for (const values of [
      [2, 4],
      [1, 5],
      [7, 9],
    ]) {
      const x = tf.tensor1d(values);
      const outputs = repeated.run([x], []);
      assert.deepEqual(outputs[0].shape, [2]);
      const sum = values[0] + values[1];
      assert.deepEqual([...outputs[0].dataSync()], [sum * values[0], sum * values[1]]);
      tf.dispose([x, ...outputs]);
    }
  });
}

test('on another backend it computes anew each time', async () => {
  await tf.setBackend('cpu');
  const x = tf.tensor1d([1, 2]);
  const repeated = new engine.Repeated(([input]) => {
    recordings++;
    return [tf.mul(input, 2)];
  });
  for (let i = 1; i <= 2; i++) {
    const [y] = repeated.run([x], []);
    assert.deepEqual([...y.dataSync()], [2, 4]);
    y.dispose();
    assert.equal(recordings, i);
  }
  x.dispose();
  await engine.useDevice('cpu');
});
