/** Graphs written for another device or precision compute what those for the CPU in float32 do. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { currentPrecision, makeSegments, type SharedPrefix, useDevice, usePrecision } from '../../lib/engine';
import { HostMemory } from '../../lib/engine/ort/host-memory';
import type { Attrs, NumericType, Output } from '../../lib/engine/ort/kernel';
import type { Target } from '../../lib/engine/ort/onnx';
import { cutOut, emitGraph } from '../../lib/engine/ort/program';
import { mappedKernels } from '../../lib/engine/ort/register';
import { Session } from '../../lib/engine/ort/session';
import { type HostArray, Node, Value } from '../../lib/engine/ort/value';
import { createRandom } from '../../lib/random';

interface Operand {
  shape: number[];
  dtype: NumericType;
  data: HostArray;
}

const random = createRandom(5);
const floats = (...shape: number[]): Operand => {
  const data = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => 2 * random.next() - 1);
  return { shape, dtype: 'float32', data };
};
const scaled = ({ data, ...operand }: Operand, factor: number): Operand => ({
  ...operand,
  data: Float32Array.from(data, (x) => x * factor),
});
const integers = (...data: number[]): Operand => ({ shape: [data.length], dtype: 'int32', data: Int32Array.from(data) });

/** Bits of weights that are kept, of segments that have so many bytes for each query and head. */
const bitsOf = (tokens: number, heads: number, bytes = 1): Operand =>
  integers(...Array.from({ length: tokens * heads * bytes }, () => random.int(256)));

/** The tables of a row whose segments have these lengths, and share these prefixes (segments.ts). */
function tablesOf(lengths: number[], prefixes?: Array<SharedPrefix | undefined>): Operand[] {
  const segments = makeSegments(lengths, prefixes);
  const { blocks, groups, slots } = segments.tables;
  const operands = [blocks, groups, slots].map(
    (table): Operand => ({ shape: table.shape, dtype: 'int32', data: table.dataSync<'int32'>() }),
  );
  segments.dispose();
  return operands;
}

/** Runs one kernel, written for a target, on the CPU. @param operands undefined: an optional one that is missing */
function compute(name: string, operands: Array<Operand | undefined>, attrs: Attrs, target: Target): HostArray[] {
  const kernel = mappedKernels.find((candidate) => candidate.name === name);
  assert.ok(kernel);
  const values = operands.map((operand) => operand && Object.assign(new Value(operand.shape, operand.dtype), { data: operand.data }));
  const outputs = kernel.infer(operands as unknown as tf.TensorInfo[], attrs);
  const node = new Node(kernel, values, attrs, '', ([] as Output[]).concat(outputs));
  const cut = cutOut(node.outputs);
  const session = new Session(emitGraph(cut, new Map(), target), { threads: 1, executionProviders: ['cpu'] });
  new HostMemory().run(session, cut);
  session.dispose();
  return node.outputs.map(({ data }) => data as HostArray);
}

function close(found: HostArray[], expected: HostArray[], tolerance: number): void {
  assert.equal(found.length, expected.length);
  for (const [i, array] of expected.entries()) {
    assert.equal(found[i].length, array.length);
    for (const [j, value] of array.entries()) {
      assert.ok(Math.abs(found[i][j] - value) <= tolerance * (1 + Math.abs(value)), `output ${i}: ${found[i][j]}, expected ${value}`);
    }
  }
}

const tables = tablesOf([3, 1, 5]);
/** The second segment begins with the first token of the first, the third with the first two. */
const sharing = tablesOf([3, 1, 5], [undefined, { segment: 0, tokens: 1 }, { segment: 0, tokens: 2 }]);
const [q, k, v] = [floats(9, 32), floats(9, 16), floats(9, 16)];
const heads = { heads: 4, kvHeads: 2, scale: 0.5 };
const ofThree = [floats(9, 48), floats(9, 24), floats(9, 24)];
const threeHeads = { heads: 6, kvHeads: 3, scale: 0.4 };
const large = [floats(5, 8), floats(2500, 8), integers(1, 0, 2499, 1263, 1264)];
const plain: Target = { device: 'cpu', precision: 'float32' };

for (const [what, name, operands, attrs] of [
  ['attention', 'SegmentAttention', [q, k, v, ...tables], heads],
  ['attention with a shared prefix', 'SegmentAttention', [q, k, v, ...sharing], heads],
  ['attention with a shared prefix in a window', 'SegmentAttention', [q, k, v, ...sharing], { ...heads, window: 3 }],
  ['attention in a window', 'SegmentAttention', [q, k, v, ...tables], { ...heads, window: 2 }],
  ['attention of a single segment', 'SegmentAttention', [q, k, v, ...tablesOf([9])], heads],
  ['attention with as many key heads', 'SegmentAttention', [q, floats(9, 32), floats(9, 32), ...tables], { ...heads, kvHeads: 4 }],
  ['attention with an odd number of key heads', 'SegmentAttention', [...ofThree, ...sharing], threeHeads],
  ['attention of blocks', 'SegmentAttention', [floats(290, 32), floats(290, 16), floats(290, 16), ...tablesOf([20, 270])], heads],
  ['attention over scores far apart', 'SegmentAttention', [scaled(q, 100), k, v, ...tables], heads],
  [
    'gradients of attention with a shared prefix',
    'SegmentAttentionGrad',
    [floats(9, 32), q, k, v, floats(9, 32), ...sharing],
    { ...heads, window: 3 },
  ],
  [
    'gradients of attention of blocks',
    'SegmentAttentionGrad',
    [floats(290, 32), floats(290, 32), floats(290, 16), floats(290, 16), floats(290, 32), ...tablesOf([20, 270])],
    heads,
  ],
  [
    'gradients of attention with an odd number of key heads',
    'SegmentAttentionGrad',
    [floats(9, 48), ...ofThree, floats(9, 48), ...sharing],
    threeHeads,
  ],
  [
    'gradients of attention of blocks with an odd number of key heads',
    'SegmentAttentionGrad',
    [floats(290, 48), floats(290, 48), floats(290, 24), floats(290, 24), floats(290, 48), ...tablesOf([5, 270, 15])],
    threeHeads,
  ],
  ['gradients of attention', 'SegmentAttentionGrad', [floats(9, 32), q, k, v, floats(9, 32), ...tables], { ...heads, window: 3 }],
  ['attention of what is left of weights', 'SegmentAttentionDropout', [q, k, v, ...tables, bitsOf(9, 4)], { ...heads, factor: 1.25 }],
  [
    'attention of what is left of weights in a window',
    'SegmentAttentionDropout',
    [q, k, v, ...tables, bitsOf(9, 4)],
    { ...heads, factor: 1.25, window: 2 },
  ],
  [
    'gradients of attention of what is left of weights',
    'SegmentAttentionGrad',
    [floats(9, 32), q, k, v, floats(9, 32), ...tables, bitsOf(9, 4)],
    { ...heads, factor: 1.25 },
  ],
  [
    'gradients of attention of blocks of what is left of weights',
    'SegmentAttentionGrad',
    [floats(290, 32), floats(290, 32), floats(290, 16), floats(290, 16), floats(290, 32), ...tablesOf([20, 270]), bitsOf(290, 4, 34)],
    { ...heads, factor: 1.25 },
  ],
  ['attention with soft-capped scores', 'SegmentAttention', [scaled(q, 10), k, v, ...sharing], { ...heads, window: 3, softcap: 0.7 }],
  [
    'gradients of attention with soft-capped scores',
    'SegmentAttentionGrad',
    [floats(9, 32), scaled(q, 10), k, v, floats(9, 32), ...sharing],
    { ...heads, softcap: 0.7 },
  ],
  ['losses of soft-capped logits', 'TokenLoss', [...large, undefined], { softcap: 0.5 }],
  ['losses', 'TokenLoss', [floats(5, 8), floats(20, 8), integers(1, 0, 19, 7, 7), undefined], {}],
  ['losses over a large vocabulary', 'TokenLoss', [...large, undefined], {}],
  ['losses with a bias of the output head', 'TokenLossWithBias', [...large, floats(2500)], {}],
  ['gradients of what the output head reads', 'TokenLossHiddenGrad', [floats(2500, 8), floats(5), floats(5, 1264), floats(5, 1236)], {}],
  ['gradients of the output head', 'TokenLossWeightGrad', [floats(5, 8), floats(5), floats(5, 1264), floats(5, 1236)], {}],
  ["gradients of the output head's bias", 'TokenLossBiasGrad', [floats(5), floats(5, 1264), floats(5, 1236)], {}],
  ['sums of rows by id', 'ScatterRows', [floats(7, 8), integers(1, 0, 4, 1, 1, 3, 0)], { count: 6 }],
  ['sums of rows with ids of their own', 'ScatterRows', [floats(3, 8), integers(4, 0, 2)], { count: 6 }],
  ['numbers that are kept', 'Dropout', [floats(16, 3), integers(0x80, 0xfe, 0x5a, 0, 1, 0xff)], { factor: 1.25, way: 'forward' }],
  ['fewer numbers than bits', 'Dropout', [floats(5, 3), integers(0x53, 0x7a)], { factor: 1.25, way: 'forward' }],
  ['products', 'BatchMatMul', [floats(5, 8), floats(8, 3)], {}],
  ['products with a turned operand', 'BatchMatMul', [floats(8, 5), floats(8, 3)], { transposeA: true }],
  ['batched products', 'BatchMatMul', [floats(2, 3, 5, 8), floats(3, 4, 8)], { transposeB: true }],
] as [string, string, Array<Operand | undefined>, Attrs][]) {
  test(`${what}: written for WebGPU or in float16, the graph computes the same`, () => {
    const expected = compute(name, operands, attrs, plain);
    close(compute(name, operands, attrs, { device: 'webgpu', precision: 'float32' }), expected, 1e-5);
    close(compute(name, operands, attrs, { device: 'cpu', precision: 'float16' }), expected, 1e-2);
    close(compute(name, operands, attrs, { device: 'webgpu', precision: 'float16' }), expected, 1e-2);
  });
  if (name.startsWith('SegmentAttention'))
    test(`${what}: as one operator, it computes what its steps do`, () => {
      close(compute(name, operands, attrs, { ...plain, fusesAttention: true }), compute(name, operands, attrs, plain), 1e-5);
    });
}

for (const [softcap, bias] of [[undefined], [0.5], [undefined, floats(2500)]] as const)
  test(`the gradient of ${softcap ? 'soft-capped ' : ''}logits${bias ? ' with a bias' : ''} is the product of its parts, also in float16`, () => {
    const [hidden, weight, targets] = large;
    const [dNll] = [floats(5)];
    const scores = compute('BatchMatMul', [hidden, weight], { transposeB: true }, plain)[0] as Float32Array;
    const logits = tf.add(tf.tensor2d(scores, [5, 2500]), bias ? tf.tensor1d(bias.data as Float32Array) : 0);
    const unit = tf.oneHot(tf.tensor1d(targets.data as Int32Array, 'int32'), 2500);
    // p − e, and the slope of what caps them
    const capped = softcap ? tf.mul(tf.tanh(tf.div(logits, softcap)), softcap) : logits;
    const slope = softcap ? tf.sub(1, tf.square(tf.div(capped, softcap))) : tf.onesLike(logits);
    const gradient = tf.mul(tf.sub(tf.softmax(capped), unit), slope);
    const expected = tf.mul(gradient, tf.tensor2d(dNll.data as Float32Array, [5, 1])).dataSync<'float32'>();
    for (const [target, tolerance] of [
      [plain, 1e-6],
      [{ device: 'webgpu', precision: 'float32' }, 1e-6],
      [{ device: 'cpu', precision: 'float16' }, 1e-3],
    ] as [Target, number][]) {
      const [factor, ...pieces] = compute('TokenLossGrad', [...large, bias, dNll], { softcap }, target);
      const entries = pieces.map(({ length }) => length / 5);
      const found = [0, 1, 2, 3, 4].flatMap((row) =>
        pieces.flatMap((piece, i) => Array.from(piece.subarray(row * entries[i], (row + 1) * entries[i]), (x) => x * factor[row])),
      );
      close([Float32Array.from(found)], [expected], tolerance);
      if (target.precision === 'float16') for (const piece of pieces) assert.ok(piece.every((x) => Math.abs(x) <= 1.001));
    }
  });

test('in float16, operands and products are rounded to float16, and what it cannot hold is infinite', async () => {
  await useDevice('cpu');
  const product = (a: number, b: number): number => tf.tidy(() => tf.matMul(tf.tensor2d([[a]]), tf.tensor2d([[b]])).dataSync()[0]);
  const before = product(1.1, 1);
  assert.equal(before, Math.fround(1.1));
  usePrecision('float16');
  try {
    assert.equal(currentPrecision(), 'float16');
    assert.equal(product(1.1, 1), 1.099609375);
    assert.equal(product(300, 300), Number.POSITIVE_INFINITY);
    // only products: a sum keeps its 24 bits
    assert.equal(
      tf.tidy(() => tf.add(1.1, 0).dataSync()[0]),
      Math.fround(1.1),
    );
  } finally {
    usePrecision('float32');
  }
  assert.equal(product(1.1, 1), before);
});

test('what was recorded before the precision changes is computed in the precision of that time', async () => {
  await useDevice('cpu');
  const product = tf.matMul(tf.tensor2d([[1.1]]), tf.tensor2d([[1]]));
  usePrecision('float16');
  try {
    assert.equal(product.dataSync()[0], Math.fround(1.1));
  } finally {
    usePrecision('float32');
    product.dispose();
  }
});
