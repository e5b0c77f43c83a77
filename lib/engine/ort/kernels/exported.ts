/** What only exported models have (onnx-model.ts): inputs by name, rows picked at run time, and weights in 8 or 4 bits. */
import { byteProduct, byteRows } from '../byte-products';
import { fourBitProduct, fourBitRows } from '../four-bit-products';
import type { NumericType, OrtKernel } from '../kernel';
import { ELEMENT_TYPES } from '../onnx';

/** A tensor that the model is given. Attributes: its name, its type and its sizes there; it is int32 here where it is int64 there. */
export const modelInput: OrtKernel = {
  name: 'ModelInput',
  infer: (_, { type, shape }) => ({ shape, dtype: type === 'int64' ? 'int32' : type }),
  emit: ({ graph, outputs: [output], attrs: { name, type } }) => {
    const input = graph.input(name, type, output.shape);
    return type === 'int64' ? graph.op('Cast', [input], { to: ELEMENT_TYPES.int32 }) : input;
  },
};

/** The last of the second axis: as many as a scalar says, all of them where it says 0. Attribute: how many are recorded. */
export const lastRows: OrtKernel = {
  name: 'LastRows',
  inputs: ['x', 'count'],
  infer: ([x], { count }) => ({ shape: [x.shape[0], count, ...x.shape.slice(2)], dtype: x.dtype as NumericType }),
  emit: ({ graph, inputs: [x, count], outputs: [output] }) => {
    const before = graph.op('Neg', [graph.op('Cast', [count.name], { to: ELEMENT_TYPES.int64 })]);
    const start = graph.op('Reshape', [before, graph.ints([1])]);
    const rows = graph.op('Slice', [x.name, start, graph.ints([2 ** 31 - 1]), graph.ints([1])]);
    graph.findSizes(rows, output.shape);
    return rows;
  },
};

/** Of the second axis what is between two places, which may be counted from the end (below zero). Attributes: those, and how many are recorded. */
export const rowsBetween: OrtKernel = {
  name: 'RowsBetween',
  inputs: ['x'],
  infer: ([x], { count }) => ({ shape: [x.shape[0], count, ...x.shape.slice(2)], dtype: x.dtype as NumericType }),
  key: ({ first, behind }) => `${first},${behind}`,
  emit: ({ graph, inputs: [x], attrs: { first, behind = 2 ** 31 - 1 } }) =>
    graph.op('Slice', [x.name, graph.ints([first]), graph.ints([behind]), graph.ints([1])]),
};

/** Zeros in the place of the rows for which a condition is false; a kernel of its own, since tfjs would repeat the condition for each number. */
export const rowsWhere: OrtKernel = {
  name: 'RowsWhere',
  inputs: ['condition', 'x'],
  infer: ([, x]) => ({ shape: x.shape, dtype: 'float32' }),
  emit: ({ graph, inputs: [condition, x] }) => graph.op('Where', [condition.name, x.name, graph.scalar('float32', 0)]),
};

/** About x·Wᵀ. */
export const byteMatMul: OrtKernel = {
  name: 'ByteMatMul',
  inputs: ['x'],
  infer: ([x], { weight }) => ({ shape: [...x.shape.slice(0, -1), weight.shape[0]], dtype: 'float32' }),
  constant: ({ weight }) => weight,
  emit: ({ graph, inputs: [x], attrs: { weight } }) => byteProduct(graph, x.name, weight),
};

/** About the rows of a table. */
export const byteEmbedding: OrtKernel = {
  name: 'ByteEmbedding',
  inputs: ['ids'],
  infer: ([ids], { weight }) => ({ shape: [...ids.shape, weight.shape[1]], dtype: 'float32' }),
  constant: ({ weight }) => weight,
  emit: ({ graph, inputs: [ids], attrs: { weight } }) => byteRows(graph, ids.name, weight),
};

/** x·Wᵀ with W in 4 bits. */
export const fourBitMatMul: OrtKernel = {
  ...byteMatMul,
  name: 'FourBitMatMul',
  emit: ({ graph, inputs: [x], attrs: { weight } }) => fourBitProduct(graph, x.name, weight),
};

/** The rows of a table in 4 bits. */
export const fourBitEmbedding: OrtKernel = {
  ...byteEmbedding,
  name: 'FourBitEmbedding',
  emit: ({ graph, inputs: [ids], attrs: { weight } }) => fourBitRows(graph, ids.name, weight),
};
