/** Matrices in the processor's own layout between runs: nothing outside sees where they lie, but products of few rows are as right. */
import assert from 'node:assert/strict';
import { before, beforeEach, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { ortBackend } from '../../lib/engine/device';
import type { Value } from '../../lib/engine/ort/value';
import { createRandom } from '../../lib/random';

const random = createRandom(5);
const numbers = (size: number): Float32Array => Float32Array.from({ length: size }, () => 2 * random.next() - 1);
const matrix = (rows: number, columns: number): tf.Tensor2D => tf.tensor2d(numbers(rows * columns), [rows, columns]);
const weight = (rows: number, columns: number): tf.Variable<tf.Rank.R2> =>
  engine.ownedVariable<tf.Rank.R2>(numbers(rows * columns), [rows, columns]);

before(async () => {
  await engine.useDevice('cpu');
});
beforeEach(() => engine.varyingSizes({}));

/** How a matrix lies at the moment. */
function layoutOf(x: tf.Tensor): string {
  const backend = ortBackend() as unknown as { data: { get(id: object): { value: Value } } };
  return backend.data.get(x.dataId).value.layout;
}

/** What a matrix lies in after it was read so; on processors without blocks it stays in rows. */
function expectedLayout(t: TestContext): string {
  const backend = ortBackend() as unknown as { target: { block?: number } };
  if (backend.target.block !== undefined) return 'blocks';
  assert.notEqual(process.arch, 'x64', 'ONNX Runtime has a blocked layout on x64');
  t.diagnostic(`ONNX Runtime has no blocked layout on ${process.arch}; matrices stay as they are`);
  return 'rows';
}

/** x·Wᵀ in float64. */
function exactly(x: tf.Tensor2D, values: Float32Array, [columns, inner]: number[]): number[] {
  const rows = x.arraySync();
  return rows.flatMap((row) =>
    Array.from({ length: columns }, (_, column) => row.reduce((sum, factor, k) => sum + factor * values[column * inner + k], 0)),
  );
}

function close(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-4): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++)
    assert.ok(Math.abs(found[i] - expected[i]) <= tolerance, `element ${i} is ${found[i]}, expected ${expected[i]}`);
}

for (const rows of [1, 2, 6, 21]) {
  for (const varying of [false, true]) {
    test(`products of ${rows} ${varying ? 'varying ' : ''}rows with a matrix that is only read`, (t) => {
      const w = weight(160, 128);
      const values = w.dataSync<'float32'>().slice();
      const x = matrix(rows, 128);
      engine.varyingSizes(varying ? { rows } : {});
      for (let run = 0; run < 2; run++) {
        engine.onlyReads([w]);
        const product = engine.linear(x, w as tf.Tensor2D);
        close(product.dataSync(), exactly(x, values, w.shape));
        product.dispose();
        assert.equal(layoutOf(w), expectedLayout(t));
      }
      assert.deepEqual(w.dataSync(), values, 'its numbers are the same');
      assert.equal(layoutOf(w), 'rows');
      tf.dispose([x, w]);
    });
  }
}

test('a layer on matrices that are only read, with biases and a gated unit', (t) => {
  const [gate, up, down] = [weight(256, 128), weight(256, 128), weight(128, 256)];
  const bias = tf.tensor1d(numbers(256));
  const layer = (x: tf.Tensor2D): tf.Tensor2D =>
    tf.tidy(() =>
      tf.add(
        x,
        engine.linear(engine.swiglu(engine.linear(x, gate as tf.Tensor2D, bias), engine.linear(x, up as tf.Tensor2D)), down as tf.Tensor2D),
      ),
    );
  for (const rows of [1, 5]) {
    const x = matrix(rows, 128);
    const expected = layer(x).dataSync();
    engine.onlyReads([gate, up, down]);
    close(layer(x).dataSync(), expected, 1e-3);
    for (const w of [gate, up, down]) assert.equal(layoutOf(w), expectedLayout(t));
    for (const w of [gate, up, down]) w.dataSync();
    x.dispose();
  }
  tf.dispose([gate, up, down, bias]);
});

test('rows of a table that is only read are its rows to the last bit, beside products with it', (t) => {
  const table = weight(320, 64);
  const values = table.arraySync();
  const ids = [0, 17, 319, 17, 160];
  engine.onlyReads([table]);
  tf.tidy(() => {
    const rows = engine.embedding(table as tf.Tensor2D, tf.tensor1d(ids, 'int32'));
    const logits = tf.matMul(rows, table as tf.Tensor2D, false, true);
    tf.keep(rows);
    logits.dataSync();
    assert.equal(layoutOf(table), expectedLayout(t));
    assert.deepEqual(
      rows.arraySync(),
      ids.map((id) => values[id]),
    );
    rows.dispose();
  });
  table.dispose();
});

test('a matrix that has a varying size by chance', () => {
  const w = weight(128, 192);
  const values = w.dataSync<'float32'>().slice();
  const x = matrix(1, 192);
  for (const [capacity, batch] of [
    [192, 2],
    [128, 2],
    [192, 128],
  ]) {
    engine.varyingSizes({ capacity, batch });
    engine.onlyReads([w]);
    const product = tf.tidy(() => tf.reshape(engine.linear(x, w as tf.Tensor2D), [8, 16]));
    close(product.dataSync(), exactly(x, values, w.shape));
    product.dispose();
  }
  tf.dispose([x, w]);
});

test('what changes a matrix changes the matrix that it is, not how it lies', () => {
  const [w, m, v] = [weight(128, 128), engine.ownedZeros([128, 128]), engine.ownedZeros([128, 128])];
  const plain = tf.variable(w.clone());
  const [plainM, plainV] = [tf.variable(m.clone()), tf.variable(v.clone())];
  const x = matrix(1, 128);
  const gradient = matrix(128, 128);
  const settings = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, step: 1, gradientScale: 1 };
  const copy = w.clone();
  const before = w.dataSync().slice();
  copy.dispose();
  engine.onlyReads([w]);
  engine.linear(x, w as tf.Tensor2D).dataSync();
  const update = (parameter: tf.Variable, moments: { m: tf.Variable; v: tf.Variable }) => {
    const used = tf.variable(gradient);
    engine.adamW([{ parameter, moments, gradient: used, settings }]);
    used.dispose();
  };
  update(w, { m, v });
  update(plain, { m: plainM, v: plainV });
  assert.notDeepEqual(w.dataSync(), before);
  assert.deepEqual(w.dataSync(), plain.dataSync());
  tf.dispose([w, m, v, plain, plainM, plainV, x, gradient]);
});

test('a gradient reads the matrix as it is, in whatever way it lay before', () => {
  const w = weight(128, 160);
  const x = weight(3, 160);
  const gradientOf = (): Float32Array[] => {
    const output = (): tf.Scalar => tf.sum(tf.square(engine.linear(x as tf.Tensor2D, w as tf.Tensor2D)));
    const { value, grads } = tf.variableGrads(output, [w, x]);
    const data = Object.values(grads).map((gradient) => gradient.dataSync<'float32'>());
    tf.dispose([value, grads]);
    return data;
  };
  const expected = gradientOf();
  engine.onlyReads([w]);
  engine.linear(x as tf.Tensor2D, w as tf.Tensor2D).dataSync();
  assert.deepEqual(gradientOf(), expected);
  assert.equal(layoutOf(w), 'rows');
  tf.dispose([w, x]);
});

test('matrices that others share, that the program may still change, or that make no whole blocks stay as they are', () => {
  const mine = numbers(128 * 128);
  const given = tf.tensor2d(mine, [128, 128]);
  const shared = weight(128, 128);
  const clone = shared.clone();
  const odd = weight(130, 128);
  const before = mine.slice();
  engine.onlyReads([given, shared, odd]);
  const x = matrix(1, 128);
  for (const w of [given, shared, odd]) {
    engine.linear(x, w as tf.Tensor2D).dataSync();
    assert.equal(layoutOf(w), 'rows');
  }
  assert.deepEqual(mine, before);
  tf.dispose([given, shared, clone, odd, x]);
});

test('what reads a matrix in another shape or way reads it as it is', () => {
  const w = weight(128, 128);
  const values = w.dataSync<'float32'>().slice();
  const x = matrix(1, 128);
  const stack = tf.tensor3d(numbers(2 * 3 * 128), [2, 3, 128]);
  const readings: [string, () => tf.Tensor][] = [
    ['as a vector', () => tf.reshape(w, [128 * 128])],
    ['as the left operand', () => tf.matMul(w as tf.Tensor2D, x, false, true)],
    ['without turning it', () => tf.matMul(x, w as tf.Tensor2D)],
    ['with itself', () => tf.matMul(w as tf.Tensor2D, w as tf.Tensor2D, false, true)],
    ['under a stack of matrices', () => tf.matMul(stack, w as tf.Tensor, false, true)],
    ['row by row', () => tf.gather(w as tf.Tensor2D, tf.tensor1d([3, 100], 'int32'))],
  ];
  for (const [what, read] of readings) {
    const result = (): tf.TypedArray => tf.tidy(() => read().dataSync().slice());
    const expected = result();
    engine.onlyReads([w]);
    engine.linear(x, w as tf.Tensor2D).dataSync();
    assert.deepEqual(result(), expected, what);
  }
  assert.deepEqual(w.dataSync(), values);
  tf.dispose([w, x, stack]);
});

test('a run gives the same bits whatever ran before', () => {
  const w = weight(256, 512);
  const x = matrix(7, 512);
  const product = (inBlocks: boolean): Float32Array => {
    if (inBlocks) engine.onlyReads([w]);
    return tf.tidy(() => engine.linear(x, w as tf.Tensor2D).dataSync<'float32'>());
  };
  const [rows, blocks] = [false, true].map((inBlocks) => product(inBlocks));
  for (const inBlocks of [true, false, false, true, true]) assert.deepEqual(product(inBlocks), inBlocks ? blocks : rows);
  tf.dispose([w, x]);
});

test('a matrix that is still to be computed is left to the run that computes it', () => {
  const [w, later] = [weight(128, 128), weight(128, 128)];
  const doubled = tf.mul(later as tf.Tensor2D, 2) as tf.Tensor2D;
  later.assign(doubled);
  doubled.dispose();
  const x = matrix(1, 128);
  const expected = tf.tidy(() => exactly(x, Float32Array.from(later.arraySync().flat()), [128, 128]));
  later.assign(tf.tidy(() => tf.mul(later as tf.Tensor2D, 1) as tf.Tensor2D));
  const before = engine.engineStatistics()?.runs ?? 0;
  const product = engine.linear(x, later as tf.Tensor2D);
  engine.onlyReads([w, later]);
  assert.equal(engine.engineStatistics()?.runs, before, 'the hint computes nothing');
  close(product.dataSync(), expected);
  tf.dispose([w, later, x, product]);
});

test('a hint about what is never computed is forgotten', () => {
  const w = weight(128, 128);
  const x = matrix(1, 128);
  const product = (): Float32Array => tf.tidy(() => engine.linear(x, w as tf.Tensor2D).dataSync<'float32'>());
  const expected = product();
  engine.linear(x, w as tf.Tensor2D).dispose();
  engine.onlyReads([w]);
  engine.computeRecorded();
  assert.deepEqual(product(), expected);
  assert.equal(layoutOf(w), 'rows');
  tf.dispose([w, x]);
});

test('products of few rows beside products over as many rows', () => {
  const w = weight(256, 128);
  const [x, z] = [matrix(64, 128), matrix(64, 256)];
  const together = (): Float32Array =>
    tf.tidy(() => {
      const gradient = tf.matMul(z, x, true);
      const gated = engine.swiglu(engine.linear(x, w as tf.Tensor2D), z);
      return tf.concat([tf.reshape(gradient, [-1]), tf.reshape(gated, [-1])]).dataSync<'float32'>();
    });
  const expected = together();
  engine.onlyReads([w]);
  close(together(), expected, 1e-3);
  tf.dispose([w, x, z]);
});

test('no rows times a matrix that is only read are no rows', () => {
  const w = weight(128, 128);
  const x = tf.zeros<tf.Rank.R2>([0, 128]);
  engine.onlyReads([w]);
  const product = engine.linear(x, w as tf.Tensor2D);
  assert.deepEqual([product.shape, product.dataSync().length], [[0, 128], 0]);
  tf.dispose([w, x, product]);
});

test('in float16 matrices are read row by row', () => {
  const w = weight(128, 128);
  const x = matrix(1, 128);
  const product = (): Float32Array => engine.linear(x, w as tf.Tensor2D).dataSync<'float32'>();
  engine.usePrecision('float16');
  const expected = product();
  engine.usePrecision('float32');
  engine.onlyReads([w]);
  product();
  engine.usePrecision('float16');
  assert.deepEqual(product(), expected);
  engine.usePrecision('float32');
  tf.dispose([w, x]);
});
