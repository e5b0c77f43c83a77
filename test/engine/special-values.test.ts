/** NaN, infinities, empty tensors and all types: every kernel gives what tfjs's CPU backend gives, mapped or not. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs-core';
import { registerOrtBackend } from '../../lib/engine/ort/register';

before(() => {
  // One thread: thousands of tiny graphs.
  registerOrtBackend('onnxruntime', { threads: 1, executionProviders: ['cpu'] });
});

type Type = 'float32' | 'int32' | 'bool';
const TYPES: Type[] = ['float32', 'int32', 'bool'];

/** Enough of each that vectorized loops meet them too. */
const NUMBERS = [0, -0, 1, -1, 0.5, -0.5, 1.5, 2.5, -2.5, 7, 20, -20, 88.8, -104, 1e-40, 1e10, -1e10, 3e38, -3e38, 1e-8, 2, 3];
const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, ...NUMBERS, Number.NaN, 4, Number.POSITIVE_INFINITY, 1e-3];

function tensor(type: Type, values: number[], shape = [values.length]): tf.Tensor {
  const integer = (x: number): number => (Math.abs(x) < 1000 ? Math.trunc(x) : 5);
  return tf.tensor(type === 'float32' ? values : values.map(type === 'int32' ? integer : (x) => (x > 0 ? 1 : 0)), shape, type);
}

const run = (name: string, inputs: Record<string, tf.Tensor> | tf.Tensor[], attrs: Record<string, unknown> = {}): tf.Tensor | tf.Tensor[] =>
  tf.engine().runKernel(name, inputs as never, attrs as never) as never;

/** Shapes, types and values of what a call returns, or that it throws. */
function outcome(call: () => tf.Tensor | tf.Tensor[]): unknown[] {
  try {
    const read = (output: tf.Tensor): unknown[] => [output.shape, output.dtype, [...output.dataSync()]];
    return tf.tidy(() => {
      const outputs = call();
      return (Array.isArray(outputs) ? outputs.map(read) : read(outputs)) as never;
    });
  } catch {
    return ['throws'];
  }
}

async function compare(what: string, call: () => tf.Tensor | tf.Tensor[]): Promise<void> {
  await tf.setBackend('cpu');
  const expected = outcome(call);
  await tf.setBackend('onnxruntime');
  const actual = outcome(call);
  const same = (a: unknown, b: unknown): boolean =>
    Array.isArray(a) && Array.isArray(b)
      ? a.length === b.length && a.every((x, i) => same(x, b[i]))
      : typeof a === 'number' && typeof b === 'number'
        ? a === b || (Number.isNaN(a) && Number.isNaN(b)) || Math.abs(a - b) <= 3e-6 * Math.max(1, Math.abs(b))
        : a === b;
  assert.ok(same(actual, expected), `${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
}

const UNARY =
  'Neg Abs Exp Log Sqrt Rsqrt Square Sign Sigmoid Tanh Relu Relu6 Erf Reciprocal Floor Ceil Round Sin Cos Softplus Elu Selu Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Log1p ' +
  'Expm1 IsNan IsInf IsFinite ZerosLike OnesLike LogicalNot Step LeakyRelu ClipByValue';
const BINARY =
  'Add Sub Multiply Maximum Minimum RealDiv FloorDiv Mod SquaredDifference Equal NotEqual Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr';

for (const type of TYPES) {
  test(`functions of one ${type} tensor`, async () => {
    const attrs = { alpha: 0.3, clipValueMin: -2, clipValueMax: 2.5 };
    for (const name of UNARY.split(' ')) await compare(name, () => run(name, { x: tensor(type, SPECIAL) }, attrs));
    const inRange = SPECIAL.filter((x) => !(Math.abs(x) >= 2 ** 31 && Math.abs(x) < Number.POSITIVE_INFINITY));
    for (const dtype of TYPES) await compare(`Cast to ${dtype}`, () => run('Cast', { x: tensor(type, inRange) }, { dtype }));
  });

  test(`functions of two ${type} tensors`, async () => {
    const size = SPECIAL.length;
    const operands = () => ({ a: tensor(type, SPECIAL, [size, 1]), b: tensor(type, SPECIAL, [1, size]) });
    for (const name of BINARY.split(' ')) await compare(name, () => run(name, operands()));
  });

  test(`reductions of ${type} tensors, also empty ones`, async () => {
    const inputs = [[1, 2, Number.NaN, 4, 5, 6, -7, 8, 9, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 12], []];
    for (const name of ['Sum', 'Mean', 'Max', 'Min', 'Prod', ...(type === 'bool' ? ['All', 'Any'] : [])])
      for (const values of inputs)
        for (const axis of [[1], [0], [0, 1, 2], []])
          for (const keepDims of [false, true]) {
            const x = () => tensor(type, values, [2, values.length / 4, 2]);
            await compare(`${name} ${axis} of ${values}`, () => run(name, { x: x() }, { axis, reductionIndices: axis, keepDims }));
          }
    for (const name of ['ArgMax', 'ArgMin'])
      await compare(name, () => run(name, { x: tensor(type, [3, 3, 2, 5, 4, Number.NaN, 1, 1], [2, 4]) }, { axis: 1 }));
  });

  test(`movements of ${type} tensors, also empty ones`, async () => {
    for (const shape of [[2, 3], [0, 3], [6]]) {
      const rank = shape.length;
      const x = () => tensor(type, [1, 0, -3, 4, 5, 0].slice(0, tf.util.sizeFromShape(shape)), shape);
      const each = (value: (axis: number) => unknown) => shape.map((_, axis) => value(axis));
      const check = (
        name: string,
        attrs: Record<string, unknown>,
        inputs: () => Record<string, tf.Tensor> | tf.Tensor[] = () => ({ x: x() }),
      ) => compare(`${name} of [${shape}]`, () => run(name, inputs(), attrs));
      await check('Transpose', { perm: each((axis) => rank - 1 - axis) });
      await check('Slice', { begin: each((axis) => Math.min(1, shape[axis])), size: each(() => -1) });
      await check('Slice', { begin: each(() => 0), size: each(() => 0) });
      await check('SplitV', { numOrSizeSplits: 3, axis: rank - 1 });
      await check('SplitV', { numOrSizeSplits: [shape[rank - 1], 0], axis: rank - 1 });
      await check('Reverse', { dims: each((axis) => axis) });
      await check('SplitV', { numOrSizeSplits: 1, axis: rank - 1 });
      await check('Unpack', { axis: rank - 1 }, () => ({ value: x() }));
      if (type !== 'bool') await check('Cumsum', { axis: rank - 1, exclusive: false, reverse: true });
      await check('Tile', { reps: each((axis) => axis + 2) });
      await check('PadV2', { paddings: each(() => [1, 2]), constantValue: 1 });
      for (const indices of [[0, 2, 1, 0], []])
        await check('GatherV2', { axis: rank - 1, batchDims: 0 }, () => ({ x: x(), indices: tf.tensor1d(indices, 'int32') }));
      await check('Concat', { axis: rank - 1 }, () => [x(), x()]);
      await check('Pack', { axis: rank }, () => [x(), x()]);
      await check('AddN', {}, () => [x(), x(), x()]);
      await check('Select', {}, () => ({ condition: tf.cast(x(), 'bool'), t: x(), e: x() }));
      for (const dtype of TYPES) await check('OneHot', { depth: 4, onValue: 1, offValue: 0, dtype }, () => ({ indices: x() }));
    }
    for (const shape of [[2, 3], [0], []]) await compare(`Fill [${shape}]`, () => run('Fill', {}, { shape, value: 1, dtype: type }));
  });

  test(`products of ${type} matrices, also empty ones`, async () => {
    const numbers = (shape: number[]) => Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => ((i * 7) % 5) - 2);
    const turned = (shape: number[], turn: boolean) =>
      turn ? [...shape.slice(0, -2), shape[shape.length - 1], shape[shape.length - 2]] : shape;
    const pairs = [
      [
        [2, 3],
        [3, 4],
      ],
      [
        [0, 3],
        [3, 4],
      ],
      [
        [2, 0],
        [0, 4],
      ],
      [
        [2, 2, 3],
        [2, 3, 2],
      ],
      [
        [1, 2, 3],
        [4, 3, 2],
      ],
      [
        [2, 2, 0],
        [2, 0, 3],
      ],
    ];
    for (const [left, right] of pairs)
      for (const transposeA of [false, true])
        for (const transposeB of [false, true])
          await compare(`[${left}] × [${right}]`, () => {
            const [a, b] = [turned(left, transposeA), turned(right, transposeB)].map((shape) => tensor(type, numbers(shape), shape));
            return run('BatchMatMul', { a, b }, { transposeA, transposeB });
          });
  });
}

test('a row whose segment does not exist counts for nothing', async () => {
  const ids = () => tf.tensor1d([1, -1, 0, 9], 'int32');
  await compare('UnsortedSegmentSum', () =>
    run('UnsortedSegmentSum', { x: tf.tensor1d([1, 2, 4, 8]), segmentIds: ids() }, { numSegments: 2 }),
  );
});

test('softmax of infinities', async () => {
  const [least, most] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const rows = [
    [1, Number.NaN, 2],
    [most, 1, 2],
    [least, 0, 1],
    [1e30, -1e30, 0],
    // Infinity instead of NaN by ONNX Runtime's kernel for ARM
    ...(process.arch === 'arm64' ? [] : [[least, least, least]]),
  ];
  await compare('Softmax', () => run('Softmax', { logits: tf.tensor2d(rows) }, { dim: 1 }));
});
