/** Products with a matrix in 8 bits: near the exact ones, and always with the matrix as it is. */
import assert from 'node:assert/strict';
import { before, beforeEach, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { type Matrix, quantize } from '../../lib/engine/ort/quantized-products';
import { createRandom } from '../../lib/random';

const random = createRandom(11);
const numbers = (size: number): Float32Array => Float32Array.from({ length: size }, () => random.normal());
const matrix = (rows: number, columns: number): tf.Tensor2D => tf.tensor2d(numbers(rows * columns), [rows, columns]);
const weight = (rows: number, columns: number): tf.Variable<tf.Rank.R2> =>
  engine.ownedVariable<tf.Rank.R2>(numbers(rows * columns), [rows, columns]);

before(async () => {
  await engine.useDevice('cpu');
});
beforeEach(() => engine.varyingSizes({}));

/** Whether the processor has such products. */
function hasProducts(t: TestContext): boolean {
  const [w] = [matrix(1, 32)];
  const has = engine.canQuantize(w);
  w.dispose();
  if (!has) {
    assert.notEqual(process.arch, 'x64', 'ONNX Runtime multiplies in 8 bits on x64');
    t.skip(`ONNX Runtime does not multiply in 8 bits on this ${process.arch} processor`);
  }
  return has;
}

/** ‖a − b‖ / ‖b‖ */
function distance(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  const norm = (of: (i: number) => number): number => Math.sqrt(b.reduce((sum, _, i) => sum + of(i) ** 2, 0));
  return norm((i) => a[i] - b[i]) / norm((i) => b[i]);
}

const exact = (x: tf.Tensor2D, w: tf.Tensor2D): Float32Array => tf.tidy(() => engine.linear(x, w).dataSync<'float32'>().slice());
const rounded = (x: tf.Tensor2D, w: tf.Tensor2D): Float32Array =>
  tf.tidy(() => engine.quantizedProduct(x, w).dataSync<'float32'>().slice());

for (const [columns, block] of [
  [128, 64],
  [96, 32],
]) {
  test(`each number of ${columns} in a row is rounded to the nearest multiple of its scale`, () => {
    const data = numbers(6 * columns);
    const inSecond = block + 8;
    data.fill(0, 0, block);
    data[inSecond] = -9;
    const { quants, scales } = quantize([{ shape: [6, columns], layout: 'rows', data }]);
    assert.equal(scales.length, data.length / block);
    assert.equal(scales[0], 0);
    assert.equal(quants[inSecond], 1, 'the largest magnitude is 127 steps');
    for (const [i, number] of data.entries()) {
      const scale = scales[Math.floor(i / block)];
      assert.ok(Math.abs(number - scale * (quants[i] - 128)) <= scale / 2 + 1e-6, `element ${i}`);
    }
  });

  test(`a matrix of ${columns} columns in the processor's own layout is rounded to the same, and several are put one under the other`, () => {
    const [rows, width] = [32, 16];
    const data = numbers(rows * columns);
    const blocked = new Float32Array(data.length);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        blocked[Math.floor(row / width) * width * columns + column * width + (row % width)] = data[row * columns + column];
    const inRows: Matrix = { shape: [rows, columns], layout: 'rows', data };
    const inBlocks: Matrix = { shape: [rows, columns], layout: 'blocks', data: blocked };
    const alone = quantize([inRows]);
    const both = quantize([inBlocks, inRows], width);
    for (const half of [0, 1]) {
      const ofHalf = <T extends Uint8Array | Float32Array>(all: T): T =>
        all.subarray((half * all.length) / 2, ((half + 1) * all.length) / 2) as T;
      assert.deepEqual(ofHalf(both.quants), alone.quants);
      assert.deepEqual(ofHalf(both.scales), alone.scales);
    }
  });
}

for (const rows of [1, 2, 7]) {
  test(`a product of ${rows} rows is near the exact one`, (t) => {
    if (!hasProducts(t)) return;
    for (const columns of [192, 160]) {
      const [x, w] = [matrix(rows, columns), weight(160, columns)];
      const off = distance(rounded(x, w as tf.Tensor2D), exact(x, w as tf.Tensor2D));
      assert.ok(off > 1e-4 && off < 0.015, `${off}`);
      tf.dispose([x, w]);
    }
  });
}

test('products of one row with several matrices are each what they are alone', (t) => {
  if (!hasProducts(t)) return;
  const x = matrix(1, 128);
  const weights = [weight(64, 128), weight(160, 128), weight(48, 128)] as tf.Tensor2D[];
  const alone = weights.map((w) => rounded(x, w));
  const together = tf.tidy(() => {
    const products = weights.map((w) => engine.quantizedProduct(x, w));
    return products.map((product) => product.dataSync<'float32'>().slice());
  });
  assert.deepEqual(together, alone);
  tf.dispose([x, ...weights]);
});

test('a matrix that is changed, in place or by an assignment, is rounded again', (t) => {
  if (!hasProducts(t)) return;
  const [x, w] = [matrix(1, 128), weight(64, 128)];
  const read = w as tf.Tensor2D;
  rounded(x, read);
  const moments = { m: engine.ownedZeros([64, 128]), v: engine.ownedZeros([64, 128]) };
  const gradient = tf.variable(matrix(64, 128));
  const settings = { learningRate: 0.5, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, step: 1, gradientScale: 1 };
  const other = matrix(64, 128);
  const changes = [
    () => engine.adamW([{ parameter: w, gradient, moments, settings }]),
    () => w.assign(other),
    () => engine.setToZero([moments.m, moments.v]),
    () => engine.onlyReads([w]),
  ];
  let versions = engine.versionsOf([read]);
  for (const [i, change] of changes.entries()) {
    change();
    assert.equal(engine.versionsOf([read]) !== versions, i < 2, `change ${i}`);
    versions = engine.versionsOf([read]);
    assert.ok(distance(rounded(x, read), exact(x, read)) < 0.015, `change ${i}`);
  }
  tf.dispose([x, w, gradient, other, moments.m, moments.v]);
});

test('a graph goes with the matrix that it was compiled for', (t) => {
  if (!hasProducts(t)) return;
  const sessions = (): number => engine.engineMemory()?.sessions as number;
  engine.releaseMemory();
  const [x, w] = [matrix(1, 64), weight(32, 64)];
  for (let i = 0; i < 3; i++) rounded(x, w as tf.Tensor2D);
  assert.equal(sessions(), 1);
  const tensors = tf.memory().numTensors;
  for (let i = 0; i < 3; i++) {
    const other = matrix(32, 64);
    w.assign(other);
    other.dispose();
    rounded(x, w as tf.Tensor2D);
    assert.equal(sessions(), 1);
  }
  assert.equal(tf.memory().numTensors, tensors);
  w.dispose();
  exact(x, x);
  exact(x, x);
  assert.equal(sessions(), 1, 'only that of the exact product');
  x.dispose();
});

test('rows that cannot be cut into whole blocks are said to be so', () => {
  const w = matrix(8, 40);
  assert.equal(engine.canQuantize(w), false);
  w.dispose();
});
