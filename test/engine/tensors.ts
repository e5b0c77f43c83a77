/** Tensors for tests of operations. */
import assert from 'node:assert/strict';
import * as tf from '@tensorflow/tfjs-core';

let seed = 1;

/** Normal numbers, the same in every run. */
export const random = (shape: number[], scale = 1): tf.Tensor => tf.mul(tf.randomNormal(shape, 0, 1, 'float32', seed++), scale);

export const two = (x: tf.Tensor): tf.Tensor2D => x as tf.Tensor2D;

/** @param tolerance share of the largest magnitude, or of 1 if all are smaller */
export function assertClose(actual: tf.Tensor, expected: tf.Tensor, tolerance: number, what: string): void {
  assert.deepEqual(actual.shape, expected.shape, what);
  const a = actual.dataSync();
  const b = expected.dataSync();
  let scale = 1;
  for (const x of b) scale = Math.max(scale, Math.abs(x));
  for (let i = 0; i < b.length; i++)
    assert.ok(Math.abs(a[i] - b[i]) <= tolerance * scale, `${what}: element ${i} is ${a[i]}, expected ${b[i]}`);
}
