/** Operations that move elements without computing on them. */
import { backend_util, slice_util, type TensorInfo, util } from '@tensorflow/tfjs-core';
import type { Attrs, NumericType, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import type { HostArray } from '../value';
import { sumsOfRows } from './row-sums';

const ofOneType = (inputs: TensorInfo[]): boolean => inputs.every(({ dtype }) => dtype === inputs[0].dtype);
const typeOf = (x: TensorInfo): NumericType => x.dtype as NumericType;

/** Axes that a slice narrows, with their borders: only those enter the graph, so that full axes may vary. */
function narrowed(shape: number[], begin: number[], size: number[]): { axes: number[]; starts: number[]; ends: number[] } {
  const axes = shape.map((_, axis) => axis).filter((axis) => begin[axis] !== 0 || size[axis] !== shape[axis]);
  return { axes, starts: axes.map((axis) => begin[axis]), ends: axes.map((axis) => begin[axis] + size[axis]) };
}

function sliceOf(x: TensorInfo, attrs: { begin: number | number[]; size: number | number[] }): { begin: number[]; size: number[] } {
  const [begin, size] = slice_util.parseSliceParams(x as never, attrs.begin, attrs.size);
  return { begin, size };
}

const axisOf = (shape: readonly number[], axis: number): number => util.parseAxisParam(axis, shape as number[])[0];

function splitOf(shape: readonly number[], { axis, numOrSizeSplits }: Attrs): { axis: number; sizes: number[] } {
  const at = util.parseAxisParam(axis, shape as number[])[0];
  return { axis: at, sizes: backend_util.prepareSplitSize({ shape } as never, numOrSizeSplits, at) };
}

const int64 = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });

/** Whether the second tensor may name entries of the first by their indices along its first axes. */
const areEntries = ([x, indices]: TensorInfo[]): boolean =>
  indices.dtype === 'int32' && indices.shape.length > 0 && [...x.shape, ...indices.shape].every((size) => size > 0);

/** Along how many axes. */
function depthOf(x: TensorInfo, indices: TensorInfo): number {
  const depth = indices.shape[indices.shape.length - 1];
  util.assert(depth <= x.shape.length, () => `Indices along ${depth} axes name no entry of a tensor of ${x.shape.length}.`);
  return depth;
}

/** The indices of the first entry that is none, where they are known. */
function wrongEntry(x: TensorInfo, indices: TensorInfo, values: HostArray | undefined): HostArray | undefined {
  const depth = depthOf(x, indices);
  for (let at = 0; values && at < values.length; at += depth) {
    const entry = values.slice(at, at + depth);
    if (entry.some((index, axis) => index < 0 || index >= x.shape[axis])) return entry;
  }
  return undefined;
}

export const shapeKernels: OrtKernel[] = [
  {
    name: 'Transpose',
    inputs: ['x'],
    infer: ([x], { perm }) => ({ shape: (perm as number[]).map((axis) => x.shape[axis]), dtype: typeOf(x) }),
    key: ({ perm }) => perm.join(),
    emit: ({ graph, inputs: [x], attrs }) => graph.op('Transpose', [x.name], { perm: attrs.perm }),
  },
  {
    name: 'Concat',
    infer: (inputs, { axis }) => {
      const at = util.parseAxisParam(axis, inputs[0].shape)[0];
      const shapes = inputs.map((x) => x.shape);
      backend_util.assertParamsConsistent(shapes, at);
      return { shape: backend_util.computeOutShape(shapes, at), dtype: typeOf(inputs[0]) };
    },
    key: ({ axis }, inputs) => `${util.parseAxisParam(axis, inputs[0].shape)[0]}`,
    emit: ({ graph, inputs, attrs }) =>
      graph.concat(
        inputs.map((x) => x.name),
        attrs.axis,
      ),
    supports: ofOneType,
  },
  {
    name: 'Pack',
    infer: (inputs, { axis }) => {
      const shape = [...inputs[0].shape];
      for (const input of inputs) {
        util.assertShapesMatch(shape, input.shape, 'All tensors passed to stack must have matching shapes');
        util.assert(input.dtype === inputs[0].dtype, () => 'All tensors passed to stack must have matching dtypes');
      }
      shape.splice(axis < 0 ? axis + shape.length + 1 : axis, 0, inputs.length);
      return { shape, dtype: typeOf(inputs[0]) };
    },
    key: ({ axis }) => `${axis}`,
    emit: ({ graph, inputs, attrs }) => {
      const axes = graph.ints([attrs.axis]);
      return graph.concat(
        inputs.map((x) => graph.op('Unsqueeze', [x.name, axes])),
        attrs.axis,
      );
    },
  },
  {
    name: 'Slice',
    inputs: ['x'],
    infer: ([x], attrs) => {
      const { begin, size } = sliceOf(x, attrs as never);
      slice_util.assertParamsValid(x as never, begin, size);
      return { shape: size, dtype: typeOf(x) };
    },
    key: (attrs, [x]) => {
      const { begin, size } = sliceOf(x, attrs as never);
      const { axes, starts, ends } = narrowed(x.shape, begin, size);
      return `${axes}|${starts}|${ends}`;
    },
    emit: ({ graph, inputs: [x], attrs, concrete }) => {
      const shape = concrete[0] as number[];
      const { begin, size } = sliceOf({ shape } as TensorInfo, attrs as never);
      const { axes, starts, ends } = narrowed(shape, begin, size);
      if (axes.length === 0) return graph.op('Identity', [x.name]);
      return graph.op('Slice', [x.name, graph.ints(starts), graph.ints(ends), graph.ints(axes)]);
    },
  },
  {
    name: 'SplitV',
    inputs: ['x'],
    list: true,
    infer: ([x], attrs) => {
      const { axis, sizes } = splitOf(x.shape, attrs);
      return sizes.map((size) => ({ shape: x.shape.with(axis, size), dtype: typeOf(x) }));
    },
    key: (attrs, [x]) => {
      const { axis, sizes } = splitOf(x.shape, attrs);
      return `${axis}|${sizes}`;
    },
    emit: ({ graph, inputs: [x], attrs, concrete }) => {
      const { axis, sizes } = splitOf(concrete[0], attrs);
      return graph.split(x.name, sizes, axis);
    },
  },
  {
    name: 'Unpack',
    inputs: ['value'],
    list: true,
    infer: ([x], { axis }) => {
      const at = axisOf(x.shape, axis);
      return Array.from({ length: x.shape[at] }, () => ({ shape: x.shape.filter((_, i) => i !== at), dtype: typeOf(x) }));
    },
    key: ({ axis }, [x]) => `${axisOf(x.shape, axis)}`,
    emit: ({ graph, inputs: [x], outputs, attrs, concrete }) => {
      const axis = axisOf(concrete[0], attrs.axis);
      const ones = outputs.map(() => 1);
      return graph.split(x.name, ones, axis).map((piece) => graph.op('Squeeze', [piece, graph.ints([axis])]));
    },
    supports: ([x], { axis }) => x.shape[axisOf(x.shape, axis)] > 0,
  },
  {
    name: 'Reverse',
    inputs: ['x'],
    infer: ([x]) => ({ shape: x.shape, dtype: typeOf(x) }),
    key: ({ dims }, [x]) => `${util.parseAxisParam(dims, x.shape)}`,
    emit: ({ graph, inputs: [x], attrs, concrete }) => {
      const axes = util.parseAxisParam(attrs.dims, concrete[0] as number[]);
      if (axes.length === 0) return graph.op('Identity', [x.name]);
      const each = (value: number): string => graph.ints(axes.map(() => value));
      return graph.op('Slice', [x.name, each(-1), each(-(2 ** 31)), graph.ints(axes), each(-1)]);
    },
    supports: ([x]) => x.shape.length > 0,
  },
  {
    name: 'Tile',
    inputs: ['x'],
    infer: ([x], { reps }) => ({ shape: x.shape.map((size, axis) => size * reps[axis]), dtype: typeOf(x) }),
    key: ({ reps }) => reps.join(),
    emit: ({ graph, inputs: [x], attrs }) => graph.op('Tile', [x.name, graph.ints(attrs.reps)]),
  },
  {
    name: 'PadV2',
    inputs: ['x'],
    infer: ([x], { paddings }) => ({ shape: x.shape.map((size, axis) => size + paddings[axis][0] + paddings[axis][1]), dtype: typeOf(x) }),
    key: ({ paddings, constantValue }) => `${paddings}|${constantValue}`,
    emit: ({ graph, inputs: [x], attrs }) => {
      const pads = [0, 1].flatMap((side) => (attrs.paddings as number[][]).map((pair) => pair[side]));
      return graph.op('Pad', [x.name, graph.ints(pads), graph.scalar(x.dtype, attrs.constantValue)]);
    },
    supports: ([x]) => x.dtype === 'float32' && x.shape.length > 0,
  },
  {
    name: 'GatherV2',
    inputs: ['x', 'indices'],
    infer: ([x, indices], { axis }) => {
      const at = util.parseAxisParam(axis, x.shape)[0];
      return { shape: [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)], dtype: typeOf(x) };
    },
    key: ({ axis }) => `${axis}`,
    emit: ({ graph, inputs: [x, indices], attrs: { axis }, isWith }) => {
      const operands = [x.name, indices.name];
      if (axis !== 0 || !isWith('CachedAttention')) return graph.op('Gather', operands, { axis });
      const rows = graph.whenRead((name) => graph.node('Gather', operands, [name], { axis }));
      return graph.withOrigin(rows, { kind: 'rows', matrix: x.name, ids: indices.name });
    },
    supports: (inputs, { batchDims }) => !batchDims && inputs[1].dtype === 'int32',
    check: ([x], { axis }, [, indices]) => {
      const size = x.shape[util.parseAxisParam(axis, x.shape)[0]];
      const wrong = indices?.find((index) => index < 0 || index >= size);
      util.assert(wrong === undefined, () => `GatherV2: the index value ${wrong} is not in [0, ${size - 1}]`);
      return indices !== undefined;
    },
  },
  {
    name: 'GatherNd',
    inputs: ['params', 'indices'],
    infer: ([x, indices]) => ({
      shape: [...indices.shape.slice(0, -1), ...x.shape.slice(depthOf(x, indices))],
      dtype: typeOf(x),
    }),
    emit: ({ graph, inputs: [x, indices] }) => graph.op('GatherND', [x.name, int64(graph, indices.name)]),
    supports: (inputs) => areEntries(inputs),
    check: ([x, indices], _, [, values]) => {
      const wrong = wrongEntry(x, indices, values);
      util.assert(wrong === undefined, () => `GatherNd: the indices ${wrong} are not in the shape [${x.shape}]`);
      return values !== undefined;
    },
  },
  {
    name: 'TensorScatterUpdate',
    inputs: ['tensor', 'indices', 'updates'],
    infer: ([x]) => ({ shape: [...x.shape], dtype: typeOf(x) }),
    inPlace: [[0, 0]],
    emit: ({ graph, inputs: [x, indices, updates] }) => graph.op('ScatterND', [x.name, int64(graph, indices.name), updates.name]),
    supports: (inputs) => areEntries(inputs) && inputs[2].dtype === inputs[0].dtype,
    check: ([x, indices], _, [, values]) => {
      const wrong = wrongEntry(x, indices, values);
      util.assert(wrong === undefined, () => `TensorScatterUpdate: the indices ${wrong} are not in the shape [${x.shape}]`);
      return values !== undefined;
    },
  },
  {
    name: 'OneHot',
    inputs: ['indices'],
    infer: ([indices], { depth, dtype }) => ({ shape: [...indices.shape, depth], dtype: dtype ?? 'int32' }),
    key: ({ depth, onValue, offValue, dtype }) => `${depth},${onValue},${offValue},${dtype}`,
    emit: ({ graph, inputs: [indices], outputs: [output], attrs }) => {
      // An equality with 0 … depth-1, and not OneHot, which wraps negative indices around.
      const range = graph.constant(
        'int32',
        Array.from({ length: attrs.depth }, (_, i) => i),
        [attrs.depth],
      );
      const hit = graph.op('Equal', [graph.op('Unsqueeze', [indices.name, graph.ints([-1])]), range]);
      const [on, off] = [attrs.onValue, attrs.offValue].map((value: number) => graph.constant('float32', [Number(value)], [1]));
      const values = graph.op('Where', [hit, on, off]);
      return output.dtype === 'float32' ? values : graph.op('Cast', [values], { to: ELEMENT_TYPES[output.dtype] });
    },
    supports: ([indices]) => indices.dtype === 'int32',
  },
  {
    name: 'UnsortedSegmentSum',
    inputs: ['x', 'segmentIds'],
    infer: ([x, ids], { numSegments }) => ({ shape: [numSegments, ...x.shape.slice(ids.shape.length)], dtype: 'float32' }),
    emit: ({ graph, inputs: [x, ids], outputs: [output] }) => {
      // A row whose id is no segment counts for nothing: it is added as zeros to segment 0.
      const end = graph.op('Cast', [graph.shape(output.shape.slice(0, 1))], { to: ELEMENT_TYPES.int32 });
      const inRange = graph.op('Less', [ids.name, end]);
      const valid = graph.op('And', [inRange, graph.op('GreaterOrEqual', [ids.name, graph.scalar('int32', 0)])]);
      const rows = graph.op('Where', [
        graph.reshape(valid, [x.shape[0], ...x.shape.slice(1).map(() => 1)]),
        x.name,
        graph.scalar('float32', 0),
      ]);
      return sumsOfRows(graph, rows, graph.op('Where', [valid, ids.name, graph.scalar('int32', 0)]), output.shape);
    },
    supports: ([x, ids], { numSegments }) => x.dtype === 'float32' && ids.dtype === 'int32' && ids.shape.length === 1 && numSegments > 0,
  },
];
