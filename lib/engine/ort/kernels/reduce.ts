/** Sums, extremes and softmax along axes. */
import { backend_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Attrs, NumericType, OrtKernel } from '../kernel';
import { ELEMENT_TYPES } from '../onnx';

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

function argReduction(name: string, op: string): OrtKernel {
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
      return graph.op('Cast', [graph.op(op, [x.name], { axis, keepdims: 0 })], { to: ELEMENT_TYPES.int32 });
    },
    supports: ([x]) => x.dtype === 'float32' && x.shape.length > 0,
  };
}

export const reduceKernels: OrtKernel[] = [
  reduction('Sum', 'ReduceSum'),
  reduction('Mean', 'ReduceMean', { dtypes: ['float32'] }),
  reduction('Max', 'ReduceMax'),
  reduction('Min', 'ReduceMin'),
  reduction('Prod', 'ReduceProd'),
  argReduction('ArgMax', 'ArgMax'),
  argReduction('ArgMin', 'ArgMin'),
  {
    name: 'SumOfSquares',
    inputs: ['x'],
    infer: () => ({ shape: [], dtype: 'float32' }),
    emit: ({ graph, inputs: [x] }) => graph.op('ReduceSumSquare', [x.name], { keepdims: 0 }),
  },
  {
    name: 'Softmax',
    inputs: ['logits'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'float32' }),
    key: ({ dim }) => `${dim}`,
    emit: ({ graph, inputs: [x], attrs }) => graph.op('Softmax', [x.name], { axis: attrs.dim }),
    supports: ([x]) => x.dtype === 'float32',
  },
  {
    name: 'LogSoftmax',
    inputs: ['logits'],
    infer: ([x]) => ({ shape: x.shape, dtype: 'float32' }),
    key: ({ axis }) => `${axis}`,
    emit: ({ graph, inputs: [x], attrs }) => graph.op('LogSoftmax', [x.name], { axis: attrs.axis }),
    supports: ([x]) => x.dtype === 'float32',
  },
];
