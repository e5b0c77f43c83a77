/** Matrices in 16 bits: the numbers that Python's bfloat16 and float16 are, and products and gradients of what is left of the matrix. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import type { Emission } from '../../lib/engine/ort/kernel';
import { GraphBuilder } from '../../lib/engine/ort/onnx';
import { mappedKernels } from '../../lib/engine/ort/register';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../../lib/number-formats';
import { random, two } from './tensors';

const ROWS = 96;
const COLUMNS = 160;

const rounded = {
  bfloat16: (values: Float32Array): Float32Array => {
    const found = new Float32Array(values.length);
    bfloat16ToFloat32(float32ToBfloat16(values), found, 0);
    return found;
  },
  float16: (values: Float32Array): Float32Array => {
    const found = new Float32Array(values.length);
    float16ToFloat32(float32ToFloat16(values), found, 0);
    return found;
  },
};

/** Numbers of all magnitudes from the largest down to its 2⁻³²th, of both signs, zeros among them. */
function ofAllSizes(largest: number): Float32Array {
  return Float32Array.from({ length: 4 * 66 }, (_, i) =>
    i % 7 === 6 ? 0 : (i % 2 ? -1 : 1) * largest * 2 ** -(i % 32) * (1 - (i % 5) / 16),
  );
}

function halvesOf(values: Float32Array, shape: [number, number], dtype: engine.HalfDtype): Float32Array {
  const matrix = engine.halfMatrix(values, shape, dtype);
  const whole = engine.fromHalf(matrix);
  const found = Float32Array.from(whole.dataSync());
  whole.dispose();
  engine.disposeHalf(matrix);
  return found;
}

for (const device of ['cpu', 'plain tfjs'] as const) {
  describe(`on ${device}`, () => {
    before(async () => {
      await engine.useDevice('cpu');
      if (device === 'plain tfjs') tf.setBackend('cpu');
    });
    beforeEach(() => engine.varyingSizes({}));
    after(() => engine.useDevice('cpu'));

    for (const largest of [3e-5, 0.7, 1, 255, 3e20]) {
      test(`bfloat16 numbers of up to ${largest} are exact`, () => {
        const values = ofAllSizes(largest);
        assert.deepEqual(halvesOf(values, [4, 66], 'bfloat16'), rounded.bfloat16(values));
      });
    }

    test('smaller ones are exact to a small part of the largest', () => {
      const values = new Float32Array(66).fill(1.01 * 2 ** -36);
      values[0] = 1;
      const found = halvesOf(values, [1, 66], 'bfloat16');
      for (const [i, value] of rounded.bfloat16(values).entries()) assert.ok(Math.abs(found[i] - value) <= 2 ** -40);
      assert.notEqual(found[1], 0);
    });

    test('float16 numbers are exact, and what is no number stays so', () => {
      const values = ofAllSizes(8);
      assert.deepEqual(halvesOf(values, [4, 66], 'float16'), rounded.float16(values));
      for (const dtype of ['bfloat16', 'float16'] as const) {
        assert.deepEqual([...halvesOf(new Float32Array(4), [2, 2], dtype)], [0, 0, 0, 0]);
        assert.deepEqual([...halvesOf(Float32Array.of(NaN, Infinity, -Infinity, 1), [2, 2], dtype)], [NaN, Infinity, -Infinity, 1]);
      }
    });

    test('rows are those of the rounded matrix', () => {
      const values = ofAllSizes(0.7);
      const matrix = engine.halfMatrix(values, [4, 66], 'bfloat16');
      const expected = rounded.bfloat16(values);
      tf.tidy(() => {
        const found = engine.halfRows(tf.tensor1d([2, 0, 2], 'int32'), matrix);
        assert.deepEqual(found.shape, [3, 66]);
        assert.deepEqual(
          [...found.dataSync()],
          [2, 0, 2].flatMap((row) => [...expected.subarray(66 * row, 66 * (row + 1))]),
        );
      });
      engine.disposeHalf(matrix);
    });

    for (const tokens of [1, 3, 64]) {
      test(`product and gradient for ${tokens} tokens are, to the last bit, those with the rounded matrix`, () => {
        const before = tf.memory().numTensors;
        const matrix = engine.halfMatrix(random([ROWS, COLUMNS], 0.05).dataSync<'float32'>(), [ROWS, COLUMNS], 'bfloat16');
        tf.tidy(() => {
          const [x, dy, bias] = [two(random([tokens, COLUMNS])), two(random([tokens, ROWS])), tf.linspace(-1, 1, ROWS)];
          const whole = tf.tensor2d(engine.fromHalf(matrix).dataSync(), [ROWS, COLUMNS]);
          const withEach = (product: (x: tf.Tensor2D) => tf.Tensor2D) => {
            const { value, grad } = tf.valueAndGrad((x) => tf.sum(tf.mul(tf.add(product(two(x)), bias), dy)))(x);
            return [product(x), tf.add(product(x), bias), value, grad].map((y) => y.dataSync());
          };
          assert.deepEqual(
            withEach((x) => engine.halfLinear(x, matrix)),
            withEach((x) => engine.linear(x, whole)),
          );
        });
        engine.disposeHalf(matrix);
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
    test(`a matrix that was rounded ${first === toCpu ? 'on the CPU' : 'in plain tfjs'} is the same`, async () => {
      await first();
      const values = ofAllSizes(0.3);
      const matrix = engine.halfMatrix(values, [4, 66], 'bfloat16');
      for (const to of [first, ...others]) {
        await to();
        tf.tidy(() => assert.deepEqual(engine.fromHalf(matrix).dataSync(), rounded.bfloat16(values)));
      }
      engine.disposeHalf(matrix);
    });
  }
});

test('matrices of few bits are brought into float32 anew for each who asks, so that they do not stay in memory', () => {
  for (const name of ['FromHalf', 'FromHalfWords', 'FromNormalFloatWords']) {
    const kernel = mappedKernels.find((kernel) => kernel.name === name);
    const graph = new GraphBuilder();
    const inputs = ['words', 'scales'].map((name) => ({ name, shape: [64] }));
    const emission = { graph, inputs, attrs: { shape: [8, 64], scale: 0.5 } } as unknown as Emission;
    const [first, second] = [kernel?.emit(emission), kernel?.emit(emission)];
    assert.ok(typeof first === 'string' && first !== second, name);
  }
});

test('a token goes through large matrices in 16 bits one by one: float32 is never kept of more than a few', async () => {
  await engine.useDevice('cpu');
  const [size, count] = [1536, 24];
  const values = random([size, size], 0.02).dataSync<'float32'>();
  const matrices = Array.from({ length: count }, () => engine.halfMatrix(values, [size, size], 'bfloat16'));
  const before = process.resourceUsage().maxRSS;
  tf.tidy(() => {
    const last = matrices.reduce((x, matrix) => engine.halfLinear(x, matrix), tf.ones([1, size]) as tf.Tensor2D);
    assert.ok(last.dataSync<'float32'>().every(Number.isFinite));
  });
  const matrixKilobytes = (4 * size * size) / 1024;
  const kilobytes = process.resourceUsage().maxRSS - before;
  assert.ok(kilobytes < 8 * matrixKilobytes, `${kilobytes} kB for ${count} matrices of ${matrixKilobytes} kB`);
  for (const matrix of matrices) engine.disposeHalf(matrix);
});

describe('as words of 32 bits, as GPUs read them', () => {
  test('a matrix is the same', async () => {
    await engine.useDevice('cpu');
    const values = ofAllSizes(0.3);
    const { words, shape, scale, ...rest } = engine.halfMatrix(values, [4, 66], 'bfloat16');
    tf.tidy(() => {
      const plain = tf.tensor1d(words.dataSync().slice(), 'int32');
      const whole = tf.engine().runKernel('FromHalfWords', { words: plain }, { shape: [...shape], scale }) as tf.Tensor;
      assert.deepEqual(whole.dataSync(), rounded.bfloat16(values));
    });
    engine.disposeHalf({ words, shape, scale, ...rest });
  });
});
