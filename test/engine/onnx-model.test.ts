import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { type OnnxModel, OnnxProgram, rmsNorm, useDevice } from '../../lib/engine';
import { toBytes } from '../../lib/engine/ort/byte-products';
import { FOUR_BIT_BLOCK, toFourBits } from '../../lib/engine/ort/four-bit-products';
import { float16ToFloat32, float32ToFloat16 } from '../../lib/number-formats';
import { withBits } from '../model/exported';
import { closeTo } from '../model/support';

before(() => useDevice('cpu'));

interface Feed {
  type: 'int64' | 'float32' | 'float16';
  data: number[];
  dims: number[];
}

/** Numbers as the arrays that onnxruntime-node takes. */
const arrays = {
  int64: (numbers: number[]) => BigInt64Array.from(numbers, BigInt),
  float32: (numbers: number[]) => Float32Array.from(numbers),
  float16: (numbers: number[]) => float32ToFloat16(Float32Array.from(numbers)),
};

/** Runs a model through the public interface of onnxruntime-node. */
async function run({ graph, data }: OnnxModel, feeds: Record<string, Feed>) {
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  const weights = { path: 'weights', data: Buffer.concat([...data()]) };
  const session = await InferenceSession.create(graph, { externalData: weights.data.length > 0 ? [weights] : [] });
  const tensors = Object.entries(feeds).map(([name, { type, data: values, dims }]) => [
    name,
    withBits(new Tensor(type, arrays[type](values), dims)),
  ]);
  const outputs = await session.run(Object.fromEntries(tensors));
  await session.release();
  return outputs;
}

test('a program written once computes for sizes that it was not recorded with', async () => {
  const weight = tf.tensor2d(
    Array.from({ length: 12 * 8 }, (_, i) => Math.sin(i)),
    [12, 8],
  );
  const tensors = tf.memory().numTensors;
  const program = new OnnxProgram({ rows: 10007, more: 10009, both: 20016 });
  const outputs = tf.tidy(() => {
    const x = program.input<tf.Tensor2D>('x', 'float32', ['rows', 8]);
    const y = program.input<tf.Tensor2D>('y', 'float32', ['more', 8]);
    return { sums: tf.sum(tf.matMul(tf.concat([x, y]), weight, false, true), 1) };
  });
  const model = program.finish(outputs, new Map([[weight, 'the.weight']]), 'weights');
  tf.dispose(outputs);
  assert.equal(tf.memory().numTensors, tensors);
  assert.ok(Buffer.from(model.graph).includes('the.weight'));
  for (const [rows, more] of [
    [2, 3],
    [1, 1],
    [5, 0],
  ]) {
    const values = Array.from({ length: (rows + more) * 8 }, (_, i) => Math.cos(i));
    const { sums } = await run(model, {
      x: { type: 'float32', data: values.slice(0, rows * 8), dims: [rows, 8] },
      y: { type: 'float32', data: values.slice(rows * 8), dims: [more, 8] },
    });
    const expected = tf.tidy(() => tf.sum(tf.matMul(tf.tensor2d(values, [rows + more, 8]), weight, false, true), 1).dataSync());
    closeTo(sums.data as Float32Array, expected, 1e-5);
  }
  weight.dispose();
});

test('rows that are kept are counted from the end; whole numbers are int64 outside', async () => {
  const program = new OnnxProgram({ batch: 10007, rows: 10009, kept: 10037 });
  const outputs = tf.tidy(() => {
    const x = program.input<tf.Tensor3D>('x', 'float32', ['batch', 'rows', 1]);
    return { last: program.lastRows(x, program.input<tf.Scalar>('count', 'int64', []), 'kept') };
  });
  const model = program.finish(outputs, new Map(), 'weights');
  tf.dispose(outputs);
  const x = { type: 'float32' as const, data: [1, 2, 3, 4, 5, 6], dims: [2, 3, 1] };
  const kept = async (count: number) => {
    const { last } = await run(model, { x, count: { type: 'int64', data: [count], dims: [] } });
    return [...(last.data as Float32Array)];
  };
  assert.deepEqual(await kept(1), [3, 6]);
  assert.deepEqual(await kept(2), [2, 3, 5, 6]);
  assert.deepEqual(await kept(0), x.data);
});

test('products and rows in 8 bits are off by half a step of each row at most', async () => {
  const [out, features] = [6, 32];
  const values = Float32Array.from({ length: out * features }, (_, i) => Math.sin(i * i) * 10 ** ((i / features) | 0));
  values.fill(0, 0, features);
  const weight = tf.tensor2d(values, [out, features]);
  const { multiples, steps } = toBytes(values, [out, features]);
  const back = values.map((_, i) => (multiples[(i % features) * out + ((i / features) | 0)] - 128) * steps[(i / features) | 0]);
  for (const [i, value] of values.entries()) assert.ok(Math.abs(back[i] - value) <= 0.5001 * steps[(i / features) | 0], `${i}`);

  const program = new OnnxProgram({ rows: 10007 });
  const outputs = tf.tidy(() => {
    const product = program.byteProduct(program.input<tf.Tensor2D>('x', 'float32', ['rows', features]), weight);
    return { product, rows: program.byteEmbedding(program.input<tf.Tensor1D>('ids', 'int64', ['rows']), weight) };
  });
  const model = program.finish(outputs, new Map(), 'weights');
  tf.dispose([weight, outputs.product, outputs.rows]);
  const x = Array.from({ length: 2 * features }, (_, i) => Math.cos(i));
  const { product, rows } = await run(model, {
    x: { type: 'float32', data: x, dims: [2, features] },
    ids: { type: 'int64', data: [4, 0], dims: [2] },
  });
  closeTo(rows.data as Float32Array, [...back.subarray(4 * features, 5 * features), ...back.subarray(0, features)], 1e-2);
  for (let i = 0; i < 2 * out; i++) {
    const [row, column] = [(i / out) | 0, i % out];
    const terms = x.slice(row * features, (row + 1) * features).map((value, k) => value * back[column * features + k]);
    const size = terms.reduce((sum, term) => sum + Math.abs(term), 0);
    const exact = terms.reduce((sum, term) => sum + term, 0);
    assert.ok(Math.abs((product.data as Float32Array)[i] - exact) <= 0.02 * size, `${i}`);
  }
});

/** The numbers that a matrix in 4 bits stands for. */
function fromFourBits({ multiples, steps }: ReturnType<typeof toFourBits>): number[] {
  const nibble = (i: number): number => (i % 2 === 0 ? multiples[i >> 1] & 15 : multiples[i >> 1] >> 4);
  return Array.from({ length: 2 * multiples.length }, (_, i) => (nibble(i) - 8) * steps[(i / FOUR_BIT_BLOCK) | 0]);
}

test('a matrix in 4 bits has no larger error than with the largest number of each block at -8; blocks of zeros stay', () => {
  const values = Float32Array.from({ length: 8 * 64 }, (_, i) => Math.sin(i * i) * 10 ** ((i / 128) | 0));
  values.fill(0, 0, FOUR_BIT_BLOCK);
  const back = fromFourBits(toFourBits(values));
  assert.deepEqual(back.slice(0, FOUR_BIT_BLOCK), new Array(FOUR_BIT_BLOCK).fill(0));
  for (let first = FOUR_BIT_BLOCK; first < values.length; first += FOUR_BIT_BLOCK) {
    const block = [...values.subarray(first, first + FOUR_BIT_BLOCK)];
    const step = block.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most)) / -8;
    const plain = block.map((x) => step * Math.min(7, Math.round(x / step)));
    const error = (found: number[]): number => block.reduce((sum, x, i) => sum + (x - found[i]) ** 2, 0);
    assert.ok(error(back.slice(first, first + FOUR_BIT_BLOCK)) <= error(plain) * 1.0001, `${first}`);
  }
});

test('products and rows in 4 bits are those of the rounded matrix, which is in the file once', async () => {
  const [out, features] = [6, 64];
  const values = Float32Array.from({ length: out * features }, (_, i) => Math.sin(i * i));
  const weight = tf.tensor2d(values, [out, features]);
  const back = fromFourBits(toFourBits(values));
  const program = new OnnxProgram({ rows: 10007 });
  const outputs = tf.tidy(() => {
    const product = program.fourBitProduct(program.input<tf.Tensor2D>('x', 'float32', ['rows', features]), weight);
    return { product, rows: program.fourBitEmbedding(program.input<tf.Tensor1D>('ids', 'int64', ['rows']), weight) };
  });
  const model = program.finish(outputs, new Map(), 'weights');
  tf.dispose([weight, outputs.product, outputs.rows]);
  // multiples at the first page, steps at the second
  assert.equal(Buffer.concat([...model.data()]).length, 4096 + (4 * out * features) / FOUR_BIT_BLOCK);
  const x = Array.from({ length: 2 * features }, (_, i) => Math.cos(i));
  const { product, rows } = await run(model, {
    x: { type: 'float32', data: x, dims: [2, features] },
    ids: { type: 'int64', data: [4, 0], dims: [2] },
  });
  closeTo(rows.data as Float32Array, [...back.slice(4 * features, 5 * features), ...back.slice(0, features)], 1e-6);
  const expected = Array.from({ length: 2 * out }, (_, i) => {
    const [row, column] = [(i / out) | 0, i % out];
    return Array.from({ length: features }, (_, k) => x[row * features + k] * back[column * features + k]).reduce((a, b) => a + b);
  });
  closeTo(product.data as Float32Array, expected, 1e-5);
});

test('in float16 a row whose scores are all hidden gets a mean, and squares beyond the range are summed', async () => {
  const weight = tf.tensor2d(
    Array.from({ length: 80 }, (_, i) => Math.sin(i)),
    [4, 20],
  );
  const scale = tf.ones<tf.Rank.R1>([20]);
  const program = new OnnxProgram({ rows: 10007 });
  const outputs = tf.tidy(() => {
    const ids = program.input<tf.Tensor1D>('ids', 'int64', ['rows']);
    const scores = program.input<tf.Tensor2D>('scores', 'float32', ['rows', 4]);
    const hidden = tf.mul(tf.cast(tf.expandDims(tf.equal(ids, tf.scalar(0, 'int32')), 1), 'float32'), -1e30);
    const mixed = tf.matMul(tf.softmax(tf.add(scores, hidden)), weight);
    const large = tf.mul(mixed, 60000) as tf.Tensor2D;
    return { mixed, normed: rmsNorm(large, scale, 1e-5) };
  });
  const names = new Map<tf.Tensor, string>([[weight, 'the.weight']]);
  const model = program.finish(outputs, names, 'weights', { precision: 'float16', inFloat32: ['normed'] });
  tf.dispose(outputs);
  const scores = [1, 2, 3, 4, 4, 3, 2, 1];
  const found = await run(model, {
    ids: { type: 'int64', data: [0, 1], dims: [2] },
    scores: { type: 'float16', data: scores, dims: [2, 4] },
  });
  const [mixed, normed] = tf.tidy(() => {
    // float32 is as coarse as to hide the scores of the first row from one another
    const shares = tf.concat([tf.fill([1, 4], 0.25), tf.softmax(tf.tensor2d([scores.slice(4)]))]);
    const expected = tf.matMul(shares as tf.Tensor2D, weight);
    return [expected.dataSync(), rmsNorm(expected as tf.Tensor2D, scale, 0).dataSync()];
  });
  assert.equal(found.mixed.type, 'float16');
  const read = new Float32Array(40);
  float16ToFloat32(withBits(found.mixed).data as Uint16Array, read, 0);
  closeTo(read, mixed, 1e-3);
  assert.equal(found.normed.type, 'float32');
  closeTo(found.normed.data as Float32Array, normed, 5e-3);
  const bytes = Buffer.concat([...model.data()]).length;
  assert.equal(bytes, 2 * weight.size);
  tf.dispose([weight, scale]);
});
