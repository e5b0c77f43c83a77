/** Sums, extremes and softmax along axes. */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import { sumOfRows } from '../blocked-layout';
import type { Attrs, Emission, NumericType, Operand, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';

/** tfjs calls the axes of Max, and of no other reduction, `reductionIndices`. */
const axesOf = (shape: readonly number[], attrs: Attrs): number[] =>
  util.parseAxisParam(attrs.axis ?? attrs.reductionIndices, shape as number[]);

function reducedShape(x: TensorInfo, attrs: Attrs): number[] {
  const axes = axesOf(x.shape, attrs);
  const [short] = backend_util.computeOutAndReduceShapes(x.shape, axes);
  return attrs.keepDims ? backend_util.expandShapeToKeepDim(short, axes) : short;
}

function reduction(name: string, op: string, { dtypes = ['float32', 'int32'] as string[], axesAsInput = true } = {}): OrtKernel {
  return {
    name,
    inputs: ['x'],
    infer: ([x], attrs) => ({ shape: reducedShape(x, attrs), dtype: x.dtype as NumericType }),
    key: (attrs, [x]) => `${axesOf(x.shape, attrs)}|${attrs.keepDims ? 1 : 0}`,
    emit: ({ graph, inputs: [x], attrs, concrete }) => {
      const axes = axesOf(concrete[0], attrs);
      const keepdims = attrs.keepDims ? 1 : 0;
      if (axes.length === 0) return graph.op('Identity', [x.name]);
      return axesAsInput ? graph.op(op, [x.name, graph.ints(axes)], { keepdims }) : graph.op(op, [x.name], { axes, keepdims });
    },
    supports: ([x]) => dtypes.includes(x.dtype) && x.shape.every((size) => size > 0),
  };
}

/**
 * A sum or mean over several axes: along the last of them first, then over the rest. Added up in one go, the sum would soon be
 * so much larger than what is added to it that float32 loses the digits (0.2% of the sum of squares of an embedding's weights).
 */
function inTwoStages(plain: OrtKernel): OrtKernel {
  return {
    ...plain,
    emit: (emission) => {
      const axes = axesOf(emission.concrete[0], emission.attrs);
      if (axes.length < 2) return plain.emit(emission);
      const rows = plain.emit({ ...emission, attrs: { axis: axes[axes.length - 1], keepDims: true } }) as string;
      return plain.emit({ ...emission, inputs: [{ ...emission.inputs[0], name: rows }] });
    },
  };
}

/** A sum that reads a matrix in the blocked layout as it lies there, where it sums its rows. */
function inBlockedLayout(plain: OrtKernel): OrtKernel {
  return {
    ...plain,
    emit: (emission) => {
      const { graph, inputs, attrs, concrete } = emission;
      const sumsRows = !attrs.keepDims && axesOf(concrete[0], attrs).join() === '0';
      return (sumsRows ? sumOfRows(graph, inputs[0]) : undefined) ?? plain.emit(emission);
    },
  };
}

/** The largest or smallest along axes; NaN if any is NaN, which ONNX Runtime skips. */
function extreme(name: string, op: 'ReduceMax' | 'ReduceMin'): OrtKernel {
  const plain = reduction(name, op);
  return {
    ...plain,
    emit: (emission) => {
      const {
        graph,
        inputs: [x],
        attrs,
        concrete,
      } = emission;
      const result = plain.emit(emission) as string;
      const axes = axesOf(concrete[0], attrs);
      if (x.dtype !== 'float32' || axes.length === 0) return result;
      const missing = graph.op('Cast', [graph.op('IsNaN', [x.name])], { to: ELEMENT_TYPES.float32 });
      const some = graph.op('ReduceMax', [missing, graph.ints(axes)], { keepdims: attrs.keepDims ? 1 : 0 });
      return graph.op('Where', [graph.op('Cast', [some], { to: ELEMENT_TYPES.bool }), graph.scalar('float32', Number.NaN), result]);
    },
  };
}

/** All or any of bools, as the smallest or largest of 0 and 1. */
function logicalReduction(name: string, op: 'ReduceMin' | 'ReduceMax'): OrtKernel {
  const numbers = reduction(name, op, { dtypes: ['bool'] });
  return {
    ...numbers,
    emit: (emission) => {
      const { graph, inputs } = emission;
      const x = { ...inputs[0], name: graph.op('Cast', [inputs[0].name], { to: ELEMENT_TYPES.int32 }) };
      return graph.op('Cast', [numbers.emit({ ...emission, inputs: [x] }) as string], { to: ELEMENT_TYPES.bool });
    },
  };
}

/** x with NaN replaced: the place of an extreme is looked for among numbers. */
const withoutNaN = (graph: GraphBuilder, x: Operand, instead: number): string =>
  graph.op('Where', [graph.op('IsNaN', [x.name]), graph.scalar('float32', instead), x.name]);

function argReduction(name: string, op: 'ArgMax' | 'ArgMin'): OrtKernel {
  return {
    name,
    inputs: ['x'],
    infer: ([x], attrs) => {
      const axes = axesOf(x.shape, attrs);
      return { shape: backend_util.computeOutAndReduceShapes(x.shape, axes)[0], dtype: 'int32' };
    },
    key: (attrs, [x]) => `${axesOf(x.shape, attrs)}`,
    emit: ({ graph, inputs: [x], attrs, concrete }) => {
      const axis = axesOf(concrete[0], attrs)[0];
      const numbers = withoutNaN(graph, x, op === 'ArgMax' ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY);
      return graph.op('Cast', [graph.op(op, [numbers], { axis, keepdims: 0 })], { to: ELEMENT_TYPES.int32 });
    },
    supports: ([x]) => x.dtype === 'float32' && x.shape.length > 0,
  };
}

/** Squares that are kept at most: an embedding's would need as much memory as it has itself. */
const MOST_SQUARES = 1 << 23;

/** Whether a sum of squares is faster by way of the squares: on the CPU ReduceSumSquare adds one number after the other, ReduceSum several at a time. */
function squaresPay({ graph, inputs: [{ shape }] }: Emission): boolean {
  if (graph.target.device !== 'cpu') return false;
  return shape.reduce((count: number, size) => (typeof size === 'number' ? count * size : Number.POSITIVE_INFINITY), 1) <= MOST_SQUARES;
}

export const reduceKernels: OrtKernel[] = [
  inBlockedLayout(inTwoStages(reduction('Sum', 'ReduceSum'))),
  inTwoStages(reduction('Mean', 'ReduceMean', { dtypes: ['float32'] })),
  extreme('Max', 'ReduceMax'),
  extreme('Min', 'ReduceMin'),
  reduction('Prod', 'ReduceProd'),
  logicalReduction('All', 'ReduceMin'),
  logicalReduction('Any', 'ReduceMax'),
  {
    name: 'Cumsum',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: x.dtype as NumericType }),
    key: ({ axis, exclusive, reverse }) => `${axis}|${exclusive ? 1 : 0}${reverse ? 1 : 0}`,
    emit: ({ graph, inputs: [x], attrs: { axis, exclusive, reverse } }) =>
      graph.op('CumSum', [x.name, graph.scalar('int64', axis)], { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 }),
    supports: ([x]) => x.dtype !== 'bool' && x.shape.length > 0 && x.shape.every((size) => size > 0),
  },
  argReduction('ArgMax', 'ArgMax'),
  argReduction('ArgMin', 'ArgMin'),
  {
    name: 'SumOfSquares',
    inputs: ['x'],
    infer: () => ({ shape: [], dtype: 'float32' }),
    emit: (emission) => {
      const { graph, inputs } = emission;
      const [x] = inputs;
      if (x.shape.length < 2) return graph.op('ReduceSumSquare', [x.name], { keepdims: 0 });
      // In two stages: see inTwoStages.
      const last = graph.ints([-1]);
      const rows = squaresPay(emission)
        ? graph.op('ReduceSum', [graph.op('Mul', [x.name, x.name]), last], { keepdims: 0 })
        : graph.op('ReduceSumSquare', [x.name, last], { keepdims: 0 });
      return graph.op('ReduceSum', [rows], { keepdims: 0 });
    },
  },
  {
    name: 'Softmax',
    inputs: ['logits'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'float32' }),
    key: ({ dim }) => `${dim}`,
    emit: ({ graph, inputs: [x], attrs }) => graph.op('Softmax', [x.name], { axis: attrs.dim }),
    supports: ([x]) => x.dtype === 'float32',
  },
];
