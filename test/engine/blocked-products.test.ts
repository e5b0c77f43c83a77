/** Products in the processor's own layout: against sums in float64, and inside layers against tfjs's CPU backend. */
import assert from 'node:assert/strict';
import { before, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { activation, engineStatistics, linear, swiglu, useDevice, varyingSizes } from '../../lib/engine';
import { blockedProduct, findBlock } from '../../lib/engine/ort/blocked-products';
import { type Dim, GraphBuilder, multipleName } from '../../lib/engine/ort/onnx';
import { createRandom } from '../../lib/random';

const settings = { threads: 1, executionProviders: ['cpu'] };
const random = createRandom(3);
const matrix = (...shape: [number, number]): tf.Tensor2D =>
  tf.tensor2d(
    Float32Array.from({ length: shape[0] * shape[1] }, () => 2 * random.next() - 1),
    shape,
  );
const vector = (size: number): tf.Tensor1D => tf.tensor1d(Float32Array.from({ length: size }, () => 2 * random.next() - 1));

before(async () => {
  await useDevice('cpu');
});

/** Skips a test where ONNX Runtime has no blocked layout; every x86 processor since AVX does. */
function needsBlock(t: TestContext): number | undefined {
  const block = findBlock(settings);
  if (block === undefined) {
    assert.notEqual(process.arch, 'x64', 'ONNX Runtime has a blocked layout on x64');
    t.skip(`ONNX Runtime has no blocked layout on ${process.arch}`);
  }
  return block;
}

const largest = (values: Float32Array): number => values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** The product of two matrices in float64. */
function exactly(a: tf.Tensor2D, b: tf.Tensor2D, transA: boolean, transB: boolean): Float64Array {
  const [x, y] = [a.dataSync(), b.dataSync()];
  const inner = a.shape[transA ? 0 : 1];
  const rows = a.shape[transA ? 1 : 0];
  const columns = b.shape[transB ? 0 : 1];
  const result = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < inner; k++) {
      const factor = x[transA ? k * rows + row : row * inner + k];
      for (let column = 0; column < columns; column++)
        result[row * columns + column] += factor * y[transB ? column * inner + k : k * columns + column];
    }
  return result;
}

function close(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++)
    assert.ok(Math.abs(found[i] - expected[i]) <= tolerance, `element ${i} is ${found[i]}, expected ${expected[i]}`);
}

test('which products are written in the blocked layout', (t) => {
  const block = needsBlock(t);
  if (block === undefined) return;
  const tokens = multipleName('tokens', 16);
  const isBlocked = (rows: Dim, inner: Dim, columns: Dim, transA = false, transB = false): boolean => {
    const graph = new GraphBuilder({ device: 'cpu', precision: 'float32', block });
    graph.input('a', 'float32', [tokens, 8]);
    return blockedProduct(graph, ['a', 'b'], { rows, inner, columns }, { transA, transB }) !== undefined;
  };
  assert.ok(isBlocked(256, tokens, 130, true), 'the gradient of a weight');
  assert.ok(!isBlocked(256, 'tokens', 130, true), 'over tokens that may be any number');
  assert.ok(!isBlocked(250, tokens, 256, true), 'of features that make no whole blocks');
  assert.ok(!isBlocked(64, tokens, 64, true), 'too small to be worth it');
  assert.ok(isBlocked(tokens, 1024, 512), 'a large weight');
  assert.ok(isBlocked(tokens, 1024, 512, false, true), 'a large turned weight');
  assert.ok(!isBlocked(tokens, 256, 512, false, true), 'a small weight');
  assert.ok(!isBlocked('batch', 1024, 1024, false, true), 'a few rows');
  assert.ok(!isBlocked(1, 1024, 1024, false, true), 'one row');
});

test('a small product of what only the layout has, or onto it, stays there', (t) => {
  const block = needsBlock(t);
  if (block === undefined) return;
  const rows = multipleName('tokens', 16);
  const graph = new GraphBuilder({ device: 'cpu', precision: 'float32', block });
  graph.input('x', 'float32', [rows, 1024]);
  const product = (a: string, inner: number, columns: number, base?: string): string | undefined =>
    blockedProduct(graph, [a, 'weight'], { rows, inner, columns }, { transA: false, transB: true, base });
  const wide = product('x', 1024, 512) as string;
  assert.equal(product('x', 1024, 16), undefined);
  assert.ok(product(wide, 512, 16), 'of it');
  const sum = product('narrow', 16, 512, wide) as string;
  assert.ok(sum, 'onto it');
  assert.ok(graph.isUnwritten(wide) && graph.isUnwritten(sum), 'neither is brought out of the layout');
});

for (const [what, rows, inner, columns, transA, transB] of [
  ['aᵀ·b', 160, 48, 130, true, false],
  ['aᵀ·b of odd width', 256, 32, 77, true, false],
  ['a·b', 48, 1024, 512, false, false],
  ['a·bᵀ', 48, 512, 1024, false, true],
  ['a·b in chunks', 272, 1024, 512, false, false],
  ['a·bᵀ in chunks', 272, 512, 1024, false, true],
] as [string, number, number, number, boolean, boolean][]) {
  test(`${what} in the blocked layout is the product, alone and added to another matrix`, (t) => {
    if (needsBlock(t) === undefined) return;
    const a = transA ? matrix(inner, rows) : matrix(rows, inner);
    const b = transB ? matrix(columns, inner) : matrix(inner, columns);
    const base = matrix(rows, columns);
    varyingSizes({ tokens: { size: transA ? inner : rows, multipleOf: 16 } });
    const product = tf.matMul(a, b, transA, transB);
    const sum = tf.add(base, tf.matMul(a, b, transA, transB));
    const expected = exactly(a, b, transA, transB);
    close(product.dataSync(), expected, 1e-4);
    const addend = base.dataSync();
    close(
      sum.dataSync(),
      expected.map((x, i) => x + addend[i]),
      1e-4,
    );
    varyingSizes({});
    tf.dispose([a, b, base, product, sum]);
  });
}

/** Value and gradients of a layer whose weights are large enough for the blocked layout. */
function gatedLayer(x: tf.Tensor2D, gate: tf.Tensor2D, up: tf.Tensor2D, down: tf.Tensor2D): tf.Tensor2D {
  return tf.add(x, linear(swiglu(linear(x, gate), linear(x, up)), down));
}

function layerWithBiases(x: tf.Tensor2D, up: tf.Tensor2D, upBias: tf.Tensor1D, down: tf.Tensor2D, downBias: tf.Tensor1D): tf.Tensor2D {
  return tf.add(x, linear(activation('gelu', linear(x, up, upBias)), down, downBias));
}

/** A gated layer whose first and last product have thin ones beside them. */
function adaptedLayer(x: tf.Tensor2D, gate: tf.Tensor2D, up: tf.Tensor2D, down: tf.Tensor2D, ...thin: tf.Tensor2D[]): tf.Tensor2D {
  const adapted = (x: tf.Tensor2D, weight: tf.Tensor2D, a: tf.Tensor2D, b: tf.Tensor2D): tf.Tensor2D =>
    tf.add(linear(x, weight), linear(linear(x, a), b));
  const [gateA, gateB, downA, downB] = thin;
  return adapted(swiglu(adapted(x, gate, gateA, gateB), linear(x, up)), down, downA, downB);
}

const layers: [string, (...operands: tf.Tensor[]) => tf.Tensor, () => tf.Tensor[]][] = [
  ['a gated layer', gatedLayer as never, () => [matrix(48, 512), matrix(1024, 512), matrix(1024, 512), matrix(512, 1024)]],
  [
    'a layer with adapters',
    adaptedLayer as never,
    () => [
      ...[matrix(48, 512), matrix(1024, 512), matrix(1024, 512), matrix(512, 1024)],
      ...[matrix(16, 512), matrix(1024, 16), matrix(16, 1024), matrix(512, 16)],
    ],
  ],
  [
    'a layer with biases',
    layerWithBiases as never,
    () => [matrix(48, 512), matrix(1024, 512), vector(1024), matrix(512, 1024), vector(512)],
  ],
];

for (const [what, layer, operands] of layers) {
  test(`${what} and its gradients are those of tfjs's CPU backend`, async (t) => {
    if (needsBlock(t) === undefined) return;
    const data = operands().map((x) => tf.mul(x, 0.05));
    const arrays = await Promise.all(data.map((x) => x.data()));
    const onBackend = async (name: string): Promise<Float32Array[]> => {
      await tf.setBackend(name);
      varyingSizes({ tokens: { size: 48, multipleOf: 16 } });
      const inputs = arrays.map((array, i) => tf.tensor(array, data[i].shape));
      const before = tf.memory().numTensors;
      const { value, grads } = tf.valueAndGrads((...xs) => tf.sum(tf.square(layer(...xs))) as tf.Scalar)(inputs);
      const results = await Promise.all([value, ...grads].map((x) => x.data<'float32'>()));
      tf.dispose([value, grads]);
      assert.equal(tf.memory().numTensors, before);
      tf.dispose(inputs);
      varyingSizes({});
      return results;
    };
    const expected = await onBackend('cpu');
    const found = await onBackend('onnxruntime');
    for (const [i, array] of found.entries()) {
      close(array, expected[i], 1e-5 * largest(expected[i]));
    }
    tf.dispose(data);
  });
}

test('one graph computes a layer of few rows and of many, which lie in other numbers of chunks', async (t) => {
  if (needsBlock(t) === undefined) return;
  const data = [matrix(16, 512), matrix(1024, 512), matrix(1024, 512), matrix(512, 1024)].map((x) => tf.mul(x, 0.05));
  const [x, gate, up, down] = data as tf.Tensor2D[];
  const loss = (...operands: tf.Tensor2D[]): tf.Scalar => {
    const [rows, ...weights] = operands as [tf.Tensor2D, tf.Tensor2D, tf.Tensor2D, tf.Tensor2D];
    return tf.sum(tf.square(gatedLayer(rows, ...weights)));
  };
  /** The loss and its gradients where the rows are there so many times. */
  const run = async (times: number): Promise<Float32Array[]> => {
    const repeated = tf.tensor2d(await tf.tile(x, [times, 1]).data<'float32'>(), [16 * times, 512]);
    varyingSizes({ tokens: { size: 16 * times, multipleOf: 16 } });
    const { value, grads } = tf.valueAndGrads(loss as never)([repeated, gate, up, down]);
    const results = await Promise.all([value, ...grads].map((y) => y.data<'float32'>()));
    varyingSizes({});
    tf.dispose([repeated, value, grads]);
    return results;
  };
  const [value, ofRows, ...ofWeights] = await run(1);
  for (const times of [8, 17, 33, 65]) {
    const compilations = engineStatistics()?.compilations as number;
    const [sum, gradient, ...others] = await run(times);
    for (const [found, once] of [[sum, value], ...others.map((other, i) => [other, ofWeights[i]])] as [Float32Array, Float32Array][])
      close(
        found,
        once.map((y) => y * times),
        1e-5 * times * largest(once),
      );
    const repeated = Float32Array.from({ length: gradient.length }, (_, i) => ofRows[i % ofRows.length]);
    close(gradient, repeated, 1e-5 * largest(ofRows));
    assert.ok((engineStatistics()?.compilations as number) <= compilations + 1, 'but for what repeats the rows');
  }
  tf.dispose(data);
});

test('in which order products are added does not depend on the row that a graph was compiled for', async () => {
  const numbers = Float32Array.from({ length: 1024 * 40 }, () => 2 * random.next() - 1);
  const part = (rows: number, columns: number): tf.Tensor2D => tf.tensor2d(numbers.slice(0, rows * columns), [rows, columns]);
  const sums = async (rows: ReadonlyArray<[tokens: number, targets: number]>): Promise<Float32Array[]> => {
    await useDevice('cpu', { threads: 1 });
    await useDevice('cpu');
    return rows.map(([tokens, targets]) => {
      varyingSizes({ tokens: { size: tokens, multipleOf: 16 }, targets: { size: targets, multipleOf: 16 } });
      const sum = tf.tidy(() => {
        const [ofTokens, ofTargets] = [tokens, targets].map((rows) => tf.matMul(part(rows, 24), part(rows, 40), true, false));
        return tf.add(ofTokens, ofTargets);
      });
      const found = sum.dataSync() as Float32Array;
      sum.dispose();
      varyingSizes({});
      return found;
    });
  };
  const [first, second] = await sums([
    [1008, 496],
    [496, 1008],
  ]);
  assert.deepEqual(await sums([[496, 1008]]), [second]);
  assert.deepEqual(await sums([[1008, 496]]), [first]);
});

test('a product that is read with a bias and without it is both', (t) => {
  if (needsBlock(t) === undefined) return;
  const [x, weight, bias] = [matrix(48, 512), matrix(1024, 512), vector(1024)];
  varyingSizes({ tokens: { size: 48, multipleOf: 16 } });
  const product = tf.matMul(x, weight, false, true);
  const sum = tf.add(product, bias);
  const expected = exactly(x, weight, false, true);
  const addend = bias.dataSync();
  close(
    sum.dataSync(),
    expected.map((value, i) => value + addend[i % 1024]),
    1e-4,
  );
  close(product.dataSync(), expected, 1e-4);
  varyingSizes({});
  tf.dispose([x, weight, bias, product, sum]);
});

test('a size that is not what it was said to be a multiple of is refused', () => {
  assert.throws(() => varyingSizes({ tokens: { size: 50, multipleOf: 16 } }), /size tokens is 50, which is not a multiple of 16/);
});
