/** Tensors of no elements, and operations over nothing. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { linear, tokenLoss, useDevice } from '../../lib/engine';

before(async () => {
  await useDevice('cpu');
});

/** Leaves memory of the engine's that is full of sevens. */
function leaveSevens(size: number): void {
  for (let i = 0; i < 3; i++) tf.tidy(() => void tf.add(tf.fill([size], 7), 0).dataSync());
}

const zeros = (...shape: number[]): tf.Tensor => tf.zeros(shape);

for (const [name, compute] of Object.entries<() => tf.Tensor>({
  'a product': () => tf.matMul(zeros(256, 0), zeros(0, 256)),
  'a product of a turned matrix': () => tf.matMul(zeros(0, 256), zeros(0, 256), true),
  'products of several matrices': () => tf.matMul(zeros(2, 256, 0), zeros(2, 256, 0), false, true),
  'a product that is added to a matrix': () => tf.add(zeros(256, 256), tf.matMul(zeros(0, 256), zeros(0, 256), true)),
  'a product that a vector is added to': () => tf.add(tf.matMul(zeros(256, 0), zeros(0, 256)), zeros(256)),
  'the gradient of a weight that no token met': () =>
    tf.grad((weight) => tf.sum(linear(tf.zeros([0, 256]), weight as tf.Tensor2D)))(tf.ones([256, 256])),
  'the gradient of a head without targets': () =>
    tf.grad((weight) => tf.sum(tokenLoss(tf.zeros([0, 16]), weight as tf.Tensor2D, tf.tensor1d([], 'int32')).nll))(tf.ones([4099, 16])),
})) {
  test(`${name} over nothing is zero, whatever memory it lies in`, () => {
    tf.tidy(() => {
      const result = compute();
      leaveSevens(result.size);
      assert.ok(result.dataSync().every((value) => value === 0));
    });
  });
}

test('products that have no rows or columns have no elements', () => {
  for (const [a, b, transposeA] of [
    [zeros(0, 3), tf.ones([3, 4]), false],
    [zeros(0, 3, 2), tf.ones([3, 4]), true],
    [tf.ones([2, 3]), zeros(3, 0), false],
  ] as const) {
    const product = tf.matMul(a, b, transposeA);
    assert.equal(product.size, 0);
    assert.deepEqual([...product.dataSync()], []);
    tf.dispose([a, b, product]);
  }
});

test('a choice where an operand has no elements has none, and disturbs nothing beside it', () => {
  for (const dtype of ['float32', 'int32'] as const) {
    for (const [condition, a, b, shape] of [
      [[1], [1], [0], [0]],
      [[1], [0], [1], [0]],
      [[0], [1], [1], [0]],
      [[0, 3], [1, 3], [3], [0, 3]],
      [[3], [1, 3], [0, 3], [0, 3]],
      [
        [4, 1, 0],
        [4, 1, 0],
        [0, 4, 1, 0],
        [0, 4, 1, 0],
      ],
    ]) {
      tf.tidy(() => {
        const beside = tf.add(tf.tensor1d([1, 2]), 1);
        const chosen = tf.where(tf.ones(condition, 'bool'), tf.ones(a, dtype), tf.ones(b, dtype));
        assert.deepEqual([...beside.dataSync()], [2, 3]);
        assert.deepEqual([...chosen.dataSync()], []);
        assert.deepEqual(chosen.shape, shape);
        assert.equal(chosen.dtype, dtype);
      });
    }
  }
});

test('no targets have no losses', () => {
  tf.tidy(() => {
    const { nll, argmax, entropy } = tokenLoss(tf.zeros([0, 16]), tf.ones([2049, 16]), tf.tensor1d([], 'int32'));
    for (const found of [nll, argmax, entropy]) assert.deepEqual([...found.dataSync()], []);
  });
});

test('a constant of -0 is another one than 0', () => {
  const signs = tf.tidy(() => [0, -0, 0].map((value) => Math.sign(1 / tf.fill([1], value).dataSync()[0])));
  assert.deepEqual(signs, [1, -1, 1]);
});
