/** Every mapped kernel of tfjs against tfjs's own CPU backend, and its gradient against finite differences. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { engineStatistics } from '../../lib/engine/device';
import { mappedKernels } from '../../lib/engine/ort/register';

before(async () => {
  await useDevice('cpu');
});

interface Case {
  /** One or several calls of the kernel. */
  run: (...inputs: tf.Tensor[]) => tf.Tensor;
  /** Shapes of its float inputs; gradients with respect to each are checked unless `constant`. */
  shapes: number[][];
  constant?: boolean;
  /** From standard normal numbers to the kernel's domain. */
  domain?: (x: number) => number;
}

const positive = (x: number): number => 0.5 + Math.abs(x);
/** Away from the kinks at whole numbers. */
const offKink = (x: number): number => Math.sign(x) * (0.2 + (Math.abs(x) % 0.6));
/** NaN and infinities in between. */
const special = (x: number): number =>
  x > 0.8 ? Number.NaN : x > 0.3 ? Number.POSITIVE_INFINITY : x < -0.8 ? Number.NEGATIVE_INFINITY : x;
const int = (x: tf.Tensor): tf.Tensor => tf.cast(x, 'int32');
const bool = (x: tf.Tensor): tf.Tensor => tf.greater(x, 0);
const float = (x: tf.Tensor): tf.Tensor => tf.cast(x, 'float32');
const kernel = (name: string, inputs: Record<string, tf.Tensor>, attrs = {}): tf.Tensor =>
  tf.engine().runKernel(name, inputs, attrs) as tf.Tensor;
const a = [3, 4];
const row = [4];

const unary = (run: (x: tf.Tensor) => tf.Tensor, domain?: Case['domain']): Case => ({ run, shapes: [a], domain });
const binary = (run: (x: tf.Tensor, y: tf.Tensor) => tf.Tensor, domain?: Case['domain']): Case => ({ run, shapes: [a, row], domain });
/** Some of tfjs's own gradients do not broadcast. */
const sameShape = (run: (x: tf.Tensor, y: tf.Tensor) => tf.Tensor): Case => ({ run, shapes: [a, a] });
const comparison = (run: (x: tf.Tensor, y: tf.Tensor) => tf.Tensor): Case => ({
  run: (x, y) => tf.concat([float(run(x, y)), float(run(int(tf.mul(x, 2)), int(tf.mul(tf.add(tf.zeros(a), y), 2))))]),
  shapes: [a, row],
  constant: true,
});

const cases: Record<string, Case> = {
  Add: binary(tf.add),
  Sub: binary(tf.sub),
  Multiply: binary(tf.mul),
  Maximum: sameShape(tf.maximum),
  Minimum: sameShape(tf.minimum),
  RealDiv: binary(tf.div, positive),
  Pow: binary(tf.pow, positive),
  SquaredDifference: sameShape(tf.squaredDifference),
  Equal: comparison(tf.equal),
  NotEqual: comparison(tf.notEqual),
  Greater: comparison(tf.greater),
  GreaterEqual: comparison(tf.greaterEqual),
  Less: comparison(tf.less),
  LessEqual: comparison(tf.lessEqual),
  LogicalAnd: { run: (x, y) => float(tf.logicalAnd(bool(x), bool(y))), shapes: [a, row], constant: true },
  LogicalOr: { run: (x, y) => float(tf.logicalOr(bool(x), bool(y))), shapes: [a, row], constant: true },
  LogicalNot: { run: (x) => float(tf.logicalNot(bool(x))), shapes: [a], constant: true },
  Neg: unary(tf.neg),
  Abs: unary(tf.abs, offKink),
  Exp: unary(tf.exp),
  Log: unary(tf.log, positive),
  Sqrt: unary(tf.sqrt, positive),
  Rsqrt: unary(tf.rsqrt, positive),
  Square: unary(tf.square),
  Sign: { run: tf.sign, shapes: [a], constant: true },
  Sigmoid: unary(tf.sigmoid),
  Tanh: unary(tf.tanh),
  Relu: unary(tf.relu, offKink),
  Erf: unary(tf.erf),
  Reciprocal: unary(tf.reciprocal, positive),
  Floor: { run: tf.floor, shapes: [a], constant: true },
  Ceil: { run: tf.ceil, shapes: [a], constant: true },
  Round: { run: (x) => tf.round(tf.concat([x, tf.tensor2d([[0.5, 1.5, 2.5, -0.5]])])), shapes: [a], constant: true },
  Sin: unary(tf.sin),
  Cos: unary(tf.cos),
  Softplus: unary(tf.softplus),
  Asin: unary(tf.asin, (x) => 0.9 * Math.tanh(x)),
  Acos: unary(tf.acos, (x) => 0.9 * Math.tanh(x)),
  Atan: unary(tf.atan),
  Sinh: unary(tf.sinh),
  Cosh: unary(tf.cosh),
  Asinh: unary(tf.asinh),
  Acosh: unary(tf.acosh, (x) => 1.2 + Math.abs(x)),
  Atanh: unary(tf.atanh, (x) => 0.9 * Math.tanh(x)),
  Selu: unary(tf.selu, offKink),
  Relu6: unary((x) => tf.relu6(tf.mul(x, 4)), offKink),
  IsNan: { run: (x) => float(tf.isNaN(x)), shapes: [a], constant: true, domain: special },
  IsInf: { run: (x) => float(tf.isInf(x)), shapes: [a], constant: true, domain: special },
  IsFinite: { run: (x) => float(tf.isFinite(x)), shapes: [a], constant: true, domain: special },
  Step: { run: (x) => tf.step(x, 0.3), shapes: [a], constant: true },
  ClipByValue: unary((x) => tf.clipByValue(x, -0.1, 0.15), offKink),
  Elu: unary(tf.elu, offKink),
  LeakyRelu: unary((x) => tf.leakyRelu(x, 0.1), offKink),
  AddN: { run: (x, y, z) => tf.addN([x, y, z]), shapes: [a, a, a] },
  Cast: unary((x) => tf.mul(x, tf.cast(tf.cast(tf.tensor1d([1, 0, 3, -2.7]), 'int32'), 'float32'))),
  Select: { run: (x, y) => tf.where(tf.tensor2d([1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1], [3, 4], 'bool'), x, y), shapes: [a, a] },
  ZerosLike: { run: tf.zerosLike, shapes: [a], constant: true },
  OnesLike: { run: (x) => kernel('OnesLike', { x }), shapes: [a], constant: true },
  Fill: { run: (x) => tf.add(x, tf.fill([3, 4], 2.5)), shapes: [a] },
  Transpose: { run: (x) => tf.transpose(x, [2, 0, 1]), shapes: [[2, 3, 4]] },
  Concat: {
    run: (x, y) => tf.concat([x, y], 1),
    shapes: [
      [2, 3],
      [2, 1],
    ],
  },
  Pack: { run: (x, y) => tf.stack([x, y], 1), shapes: [a, a] },
  Slice: { run: (x) => tf.slice(x, [0, 1, 0], [2, -1, 2]), shapes: [[2, 3, 4]] },
  SplitV: { run: (x) => tf.concat([...tf.split(x, [1, 2], 1)].reverse(), 1), shapes: [[2, 3, 4]] },
  Unpack: { run: (x) => tf.concat([...tf.unstack(x, 1)].reverse(), 0), shapes: [[2, 3, 4]] },
  Reverse: { run: (x) => tf.reverse(x, [0, -1]), shapes: [[2, 3, 4]] },
  Tile: { run: (x) => tf.tile(x, [2, 3]), shapes: [a] },
  PadV2: {
    run: (x) =>
      tf.pad(
        x,
        [
          [1, 2],
          [0, 3],
        ],
        0.5,
      ),
    shapes: [a],
  },
  GatherV2: { run: (x) => tf.gather(x, tf.tensor2d([0, 2, 2, 1], [2, 2], 'int32'), 1), shapes: [[2, 3, 4]] },
  GatherNd: { run: (x) => tf.gatherND(x, tf.tensor2d([1, 2, 0, 0, 1, 2], [3, 2], 'int32')), shapes: [[2, 3, 4]], constant: true },
  TensorScatterUpdate: {
    run: (x, rows) => tf.tensorScatterUpdate(x, tf.tensor2d([1, 2, 0, 0], [2, 2], 'int32'), rows),
    shapes: [
      [2, 3, 4],
      [2, 4],
    ],
    constant: true,
  },
  OneHot: { run: (x) => tf.mul(x, tf.oneHot(tf.tensor1d([1, 0, 3], 'int32'), 4)), shapes: [a] },
  UnsortedSegmentSum: { run: (x) => tf.unsortedSegmentSum(x, tf.tensor1d([1, 0, 1], 'int32'), 2), shapes: [a] },
  Sum: { run: (x) => tf.sum(x, [0, 2]), shapes: [[2, 3, 4]] },
  Mean: { run: (x) => tf.mean(x, 1, true), shapes: [[2, 3, 4]] },
  Max: { run: (x) => tf.max(x, 1), shapes: [[2, 3, 4]] },
  Min: { run: (x) => tf.min(x, -1, true), shapes: [[2, 3, 4]] },
  Prod: { run: (x) => tf.prod(x, 1), shapes: [a], constant: true },
  All: { run: (x) => float(tf.all(bool(x), 1)), shapes: [[6, 2]], constant: true },
  Any: { run: (x) => float(tf.any(bool(x), [0], true)), shapes: [[2, 6]], constant: true },
  Cumsum: { run: (x) => tf.add(tf.cumsum(x, 1), tf.cumsum(x, 1, true, true)), shapes: [[3, 4]] },
  ArgMax: { run: (x) => float(tf.argMax(x, 1)), shapes: [a], constant: true },
  ArgMin: { run: (x) => float(tf.argMin(x, 0)), shapes: [a], constant: true },
  Softmax: unary((x) => tf.softmax(x)),
  LogSoftmax: unary((x) => tf.logSoftmax(x)),
  BatchMatMul: {
    run: (x, y) =>
      tf.concat([
        tf.reshape(tf.matMul(x, y), [-1]),
        tf.reshape(tf.matMul(tf.squeeze(tf.slice(x, 0, 1), [0]), tf.squeeze(tf.slice(y, 0, 1), [0]), true, true), [-1]),
      ]),
    shapes: [
      [2, 3, 3],
      [2, 3, 3],
    ],
  },
};

/** Fused kernels have their own tests: ops.test.ts, pieces.test.ts, normal-float.test.ts, gated-delta.test.ts, experts.test.ts, and train/dropout.test.ts. */
const FUSED =
  /^(RmsNorm|LayerNorm|SwiGlu|Activation|SegmentAttention|TokenLoss|NormalFloatMatMul|GatedDelta|StateSpace)(Grad)?$|^(TokenLossWithBias|TokenLoss(Hidden|Weight|Bias)Grad|Rotary|Embedding|ScatterRows|CachedAttention|SumOfSquares|QuantizedMatMul|Dropout|SegmentAttentionDropout|FromNormalFloat(Words)?|HalfMatMul(Grad)?|FromHalf(Words)?|HalfRows|SegmentAttentionSums|Largest|Experts(Grad)?(Adapted(GateUp)?(Down)?)?|Experts(GateUp|Down)(Factors)?Grad)$/;

test('every mapped kernel has a test', () => {
  const missing = mappedKernels.map(({ name }) => name).filter((name) => !(name in cases) && !FUSED.test(name));
  assert.deepEqual(missing, []);
});

/** Standard normal numbers, the same in every run. */
function numbers(seed: number, size: number): number[] {
  return [...tf.tidy(() => tf.randomNormal([size], 0, 1, 'float32', seed).dataSync())];
}

for (const [name, { run, shapes, constant, domain = (x: number) => x }] of Object.entries(cases)) {
  test(`${name}: equals tfjs's CPU backend${constant ? '' : ', gradient equals finite differences'}`, async () => {
    const data = shapes.map((shape, index) => Float32Array.from(numbers(index + 1, tf.util.sizeFromShape(shape)), domain));
    const tensors = (): tf.Tensor[] => data.map((values, index) => tf.tensor(values.slice(), shapes[index]));
    const evaluate = (): { value: Float32Array; gradients: Float32Array[] } =>
      tf.tidy(() => {
        const inputs = tensors();
        const value = run(...inputs);
        const direction = tf.tensor(numbers(99, value.size), value.shape);
        const gradients = constant ? [] : tf.grads((...args) => tf.sum(tf.mul(run(...args), direction)))(inputs);
        return { value: value.dataSync() as Float32Array, gradients: gradients.map((gradient) => gradient.dataSync() as Float32Array) };
      });
    const fallbacks = engineStatistics()?.fallbacks.get(name);
    const actual = evaluate();
    assert.equal(engineStatistics()?.fallbacks.get(name), fallbacks, 'the kernel fell back to JavaScript');
    await tf.setBackend('cpu');
    const expected = evaluate();
    assertClose(actual.value, expected.value, 'value');
    for (const [index, gradient] of actual.gradients.entries()) {
      assertClose(gradient, expected.gradients[index], `gradient of input ${index}`);
      assertDifferences(run, data, shapes, index, gradient);
    }
    await tf.setBackend('onnxruntime');
  });
}

function assertClose(actual: Float32Array, expected: Float32Array, what: string): void {
  assert.equal(actual.length, expected.length, what);
  for (const [i, x] of expected.entries())
    assert.ok(Math.abs(actual[i] - x) <= 2e-6 * Math.max(1, Math.abs(x)), `${what}[${i}] is ${actual[i]}, expected ${x}`);
}

/** Central differences, computed on tfjs's CPU backend. */
function assertDifferences(run: Case['run'], data: Float32Array[], shapes: number[][], index: number, gradient: Float32Array): void {
  const step = 1e-2;
  for (const i of data[index].keys()) {
    const at = (delta: number): number =>
      tf.tidy(() => {
        const moved = data.map((values) => values.slice());
        moved[index][i] += delta;
        const value = run(...moved.map((values, k) => tf.tensor(values, shapes[k])));
        return tf.sum(tf.mul(value, tf.tensor(numbers(99, value.size), value.shape))).dataSync()[0];
      });
    const numeric = (at(step) - at(-step)) / (2 * step);
    assert.ok(
      Math.abs(numeric - gradient[i]) <= 2e-2 * Math.max(1, Math.abs(numeric)),
      `input ${index}[${i}]: gradient ${gradient[i]}, finite difference ${numeric}`,
    );
  }
}
