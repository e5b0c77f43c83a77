/** Products with matrices of NormalFloat numbers in 4 bits (normal-float.ts) on the CPU, and such matrices in float32 on any device. */
import { NF4, NF4_BLOCK, NF4_PLACES } from '../../nf4';
import type { Emission, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';

/** MatMulBnb4's name for them. */
const QUANT_TYPE = 1;

/** The four numbers of each 16 bits. */
function tableOfFours(): Float32Array {
  const table = new Float32Array(4 * 65536);
  for (let bits = 0; bits < 65536; bits++)
    for (const [i, place] of NF4_PLACES.slice(0, 4).entries()) table[4 * bits + i] = NF4[(bits >> (4 * place)) & 15];
  return table;
}

/** Writes the matrix in float32. @param fours uint16 [numbers / 4] */
function decoded(graph: GraphBuilder, fours: string, scales: string, [rows, columns]: readonly number[]): string {
  const table = graph.once('table of four NormalFloats', () => graph.data('float32', tableOfFours(), [65536, 4]));
  const shares = graph.op('Gather', [table, graph.op('Cast', [fours], { to: ELEMENT_TYPES.int32 })], { axis: 0 });
  return scaled(graph, shares, scales, [rows, columns]);
}

function scaled(graph: GraphBuilder, shares: string, scales: string, [rows, columns]: readonly number[]): string {
  const inBlocks = graph.op('Reshape', [shares, graph.ints([(rows * columns) / NF4_BLOCK, NF4_BLOCK])]);
  const numbers = graph.op('Mul', [inBlocks, graph.op('Unsqueeze', [scales, graph.ints([1])])]);
  return graph.op('Reshape', [numbers, graph.ints([rows, columns])]);
}

/**
 * The same of words of 32 bits, by whole numbers alone, as GPUs compute them: the digits of a word to base 16. Division cuts off towards zero,
 * so that the sign, which is 8 in the highest digit, goes first. Each who asks gets numbers of its own: shared by a product and its gradient they would
 * stay in memory between them.
 */
function decodedWords({ graph, inputs: [codes, scales], attrs }: Emission): string {
  const [rows, columns] = attrs.shape as number[];
  const int = (value: number): string => graph.scalar('int32', value);
  const row = (values: number[]): string => graph.constant('int32', values, [1, values.length]);
  const words = graph.again(codes.name, graph.ints([-1, 1]));
  const isNegative = graph.op('Less', [words, int(0)]);
  const positive = graph.op('Where', [isNegative, graph.op('Sub', [words, int(-(2 ** 31))]), words]);
  const shifted = graph.op('Div', [positive, row(NF4_PLACES.map((place) => 16 ** place))]);
  const digits = graph.op('Sub', [shifted, graph.op('Mul', [graph.op('Div', [shifted, int(16)]), int(16)])]);
  const signs = graph.op('Mul', [
    graph.op('Cast', [isNegative], { to: ELEMENT_TYPES.int32 }),
    row(NF4_PLACES.map((place) => (place === 7 ? 8 : 0))),
  ]);
  const shares = graph.op('Gather', [graph.constant('float32', [...NF4], [NF4.length]), graph.op('Add', [digits, signs])], { axis: 0 });
  return scaled(graph, shares, scales.name, [rows, columns]);
}

/**
 * x Wᵀ. ONNX Runtime's operator decodes the matrix into memory of its own while it runs. Where products are of float16, W has to be rounded to
 * it first.
 */
function product({ graph, inputs: [x, codes, fours, scales], attrs: { shape } }: Emission): string {
  const [rows, columns] = shape;
  if (graph.target.precision === 'float32')
    return graph.op('MatMulBnb4', [x.name, codes.name, scales.name], {
      K: columns,
      N: rows,
      block_size: NF4_BLOCK,
      quant_type: QUANT_TYPE,
    });
  return matrixProduct(graph, x.name, decoded(graph, fours.name, scales.name, shape), { ranks: [2, 2], transB: true });
}

/** dy W. The operator that multiplies by codes reads W the other way round only. */
function gradient({ graph, inputs: [dy, fours, scales], attrs: { shape } }: Emission): string {
  const sizes = { rows: dy.shape[0], inner: shape[0], columns: shape[1] };
  return matrixProduct(graph, dy.name, decoded(graph, fours.name, scales.name, shape), { ranks: [2, 2], sizes });
}

export const normalFloatKernels: OrtKernel[] = [
  {
    name: 'NormalFloatMatMul',
    inputs: ['x', 'codes', 'fours', 'scales'],
    infer: ([x], { shape }) => ({ shape: [x.shape[0], shape[0]], dtype: 'float32' }),
    key: ({ shape }) => `${shape}`,
    emit: product,
  },
  {
    name: 'NormalFloatMatMulGrad',
    inputs: ['dy', 'fours', 'scales'],
    infer: ([dy], { shape }) => ({ shape: [dy.shape[0], shape[1]], dtype: 'float32' }),
    key: ({ shape }) => `${shape}`,
    emit: gradient,
  },
  {
    name: 'FromNormalFloat',
    inputs: ['fours', 'scales'],
    infer: (_, { shape }) => ({ shape, dtype: 'float32' }),
    key: ({ shape }) => `${shape}`,
    emit: ({ graph, inputs: [fours, scales], attrs: { shape } }) => decoded(graph, fours.name, scales.name, shape),
  },
  {
    name: 'FromNormalFloatWords',
    inputs: ['codes', 'scales'],
    infer: (_, { shape }) => ({ shape, dtype: 'float32' }),
    key: ({ shape }) => `${shape}`,
    emit: decodedWords,
  },
];
