/** Matrices in 4 bits: bitsandbytes' numbers, and products and gradients of what is left of the matrix. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import { readJson } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { assertClose, random, two } from './tensors';

const ROWS = 96;
const COLUMNS = 160;

const reference = readJson(path.join(projectRoot, 'test', 'engine', 'fixtures', 'nf4.json')) as Record<
  'matrix' | 'codes' | 'scales' | 'rounded',
  number[]
>;

for (const device of ['cpu', 'plain tfjs'] as const) {
  describe(`on ${device}`, () => {
    before(async () => {
      await engine.useDevice('cpu');
      if (device === 'plain tfjs') tf.setBackend('cpu');
    });
    beforeEach(() => engine.varyingSizes({}));
    after(() => engine.useDevice('cpu'));

    test('a matrix is rounded as by bitsandbytes', () => {
      const matrix = engine.normalFloatMatrix(Float32Array.from(reference.matrix), [4, 96]);
      const bytes = new Uint8Array(Int32Array.from(matrix.codes.dataSync()).buffer);
      assert.deepEqual(
        [...bytes].flatMap((byte) => [byte >> 4, byte & 15]),
        reference.codes,
      );
      assert.deepEqual([...matrix.scales.dataSync()], reference.scales);
      const whole = engine.fromNormalFloat(matrix);
      assert.deepEqual([...whole.dataSync()], reference.rounded);
      whole.dispose();
      engine.disposeNormalFloat(matrix);
    });

    for (const tokens of [1, 3, 64]) {
      test(`product and gradient for ${tokens} tokens are those with the rounded matrix`, () => {
        const before = tf.memory().numTensors;
        const matrix = engine.normalFloatMatrix(random([ROWS, COLUMNS], 0.05).dataSync<'float32'>(), [ROWS, COLUMNS]);
        tf.tidy(() => {
          const [x, dy] = [two(random([tokens, COLUMNS])), two(random([tokens, ROWS]))];
          const whole = engine.fromNormalFloat(matrix);
          const found = tf.valueAndGrad((x) => tf.sum(tf.mul(engine.normalFloatLinear(two(x), matrix), dy)))(x);
          const expected = tf.valueAndGrad((x) => tf.sum(tf.mul(engine.linear(two(x), whole), dy)))(x);
          assertClose(engine.normalFloatLinear(x, matrix), engine.linear(x, whole), 1e-5, 'product');
          assertClose(found.grad, expected.grad, 1e-5, 'gradient');
        });
        engine.disposeNormalFloat(matrix);
        // what random() made to be rounded
        assert.ok(tf.memory().numTensors <= before + 2);
      });
    }
  });
}

describe('after the device is changed', () => {
  after(() => engine.useDevice('cpu'));

  const toCpu = () => engine.useDevice('cpu');
  const toPlain = () => tf.setBackend('cpu');
  for (const [first, ...others] of [
    [toCpu, toPlain, toCpu],
    [toPlain, toCpu],
  ]) {
    test(`a matrix that was rounded ${first === toCpu ? 'on the CPU' : 'in plain tfjs'} is the same, and so are product and gradient`, async () => {
      await first();
      const matrix = engine.normalFloatMatrix(Float32Array.from(reference.matrix), [4, 96]);
      const expected = Float32Array.from(reference.rounded);
      for (const to of [first, ...others]) {
        await to();
        tf.tidy(() => {
          const whole = tf.tensor2d(expected, [4, 96]);
          assert.deepEqual(engine.fromNormalFloat(matrix).dataSync(), expected);
          const [x, dy] = [two(random([3, 96])), two(random([3, 4]))];
          const gradient = tf.grad((x) => tf.sum(tf.mul(engine.normalFloatLinear(two(x), matrix), dy)))(x);
          assertClose(engine.normalFloatLinear(x, matrix), engine.linear(x, whole), 1e-5, 'product');
          assertClose(gradient, tf.matMul(dy, whole), 1e-5, 'gradient');
        });
      }
      engine.disposeNormalFloat(matrix);
    });
  }
});

describe('where the number of tokens varies', () => {
  test('one graph serves all, also where a matrix has as many numbers', async () => {
    await engine.useDevice('cpu');
    const matrix = engine.normalFloatMatrix(
      Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i)),
      [64, 64],
    );
    const whole = engine.fromNormalFloat(matrix);
    // 64 · 64 / 8 whole numbers of 32 bits hold its codes
    for (const tokens of [512, 48, 256, 64]) {
      engine.varyingSizes({ tokens });
      tf.tidy(() => {
        const x = two(random([tokens, 64]));
        const gradient = tf.grad((x) => tf.sum(tf.square(engine.normalFloatLinear(two(x), matrix))))(x);
        engine.varyingSizes({});
        const expected = tf.grad((x) => tf.sum(tf.square(engine.linear(two(x), whole))))(x);
        assertClose(gradient, expected, 1e-5, `${tokens} tokens`);
      });
    }
  });
});
