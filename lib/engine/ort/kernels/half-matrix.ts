/** Products with matrices in 16 bits (half-matrix.ts) and rows of them on the CPU, and such matrices in float32 on any device. */
import { float16ToFloat32 } from '../../../number-formats';
import { plus } from '../blocked-products';
import type { Emission, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';

const HALVES = 65536;

/** Of so few rows, bringing a matrix of so many numbers into the processor's layout takes longer than the product there saves. */
const FEW_ROWS = 4;
const MANY_NUMBERS = 1 << 21;

/** Writes the matrix in float32, anew for each who asks: shared by a product and its gradient it would stay in memory between them. */
function decoded(graph: GraphBuilder, halves: string, { shape, scale }: Emission['attrs']): string {
  return scaled(graph, bare(graph, halves, shape), scale);
}

/** The same before it is multiplied by its scale. */
function bare(graph: GraphBuilder, halves: string, shape: readonly number[]): string {
  const numbers = graph.freshName();
  graph.node('Cast', [halves], [numbers], { to: ELEMENT_TYPES.float32 });
  return graph.op('Reshape', [numbers, graph.ints([...shape])]);
}

export const scaled = (graph: GraphBuilder, x: string, scale: number): string =>
  scale === 1 ? x : graph.op('Mul', [x, graph.scalar('float32', scale)]);

/** The same of words of 32 bits, two halves each, by whole numbers alone, as GPUs compute them: their bits look up what they mean. */
function decodedWords({ graph, inputs: [{ name }], attrs }: Emission): string {
  const words = graph.again(name, graph.ints([-1]));
  const count = graph.scalar('int32', HALVES);
  const positive = (x: string): string =>
    graph.op('Where', [graph.op('Less', [x, graph.scalar('int32', 0)]), graph.op('Add', [x, count]), x]);
  // division cuts off towards zero: the rest has the sign of the word
  const rest = graph.op('Sub', [words, graph.op('Mul', [graph.op('Div', [words, count]), count])]);
  const first = positive(rest);
  const second = positive(graph.op('Div', [graph.op('Sub', [words, first]), count]));
  const bits = graph.op(
    'Concat',
    [first, second].map((x) => graph.op('Unsqueeze', [x, graph.ints([1])])),
    { axis: 1 },
  );
  const table = graph.once('values of float16', () => graph.data('float32', valuesOfHalves(), [HALVES]));
  const numbers = graph.op('Gather', [table, bits], { axis: 0 });
  return scaled(graph, graph.op('Reshape', [numbers, graph.ints([...attrs.shape])]), attrs.scale);
}

function valuesOfHalves(): Float32Array {
  const values = new Float32Array(HALVES);
  float16ToFloat32(
    Uint16Array.from({ length: HALVES }, (_, bits) => bits),
    values,
    0,
  );
  return values;
}

interface Addend {
  base?: string;
  bias?: string;
}

/** x Wᵀ. Where it has a few rows, they are what is multiplied by the scale: a power of two, so that it is the same. */
function product({ graph, inputs: [x, halves], attrs }: Emission, addend: Addend = {}): string {
  const sizes = { rows: x.shape[0], inner: attrs.shape[1], columns: attrs.shape[0] };
  const options = { ranks: [2, 2], transB: true } as const;
  if (typeof sizes.rows === 'number' && sizes.rows <= FEW_ROWS && sizes.inner * sizes.columns >= MANY_NUMBERS) {
    const y = matrixProduct(graph, x.name, bare(graph, halves.name, attrs.shape), { ...options, sizes, makesLast: true });
    return plus(graph, scaled(graph, y, attrs.scale), addend.base ?? addend.bias);
  }
  return matrixProduct(graph, x.name, decoded(graph, halves.name, attrs), { ...options, sizes, makesLast: true, ...addend });
}

/** dy W. */
function gradient({ graph, inputs: [dy, halves], attrs }: Emission, addend: Addend = {}): string {
  const sizes = { rows: dy.shape[0], inner: attrs.shape[0], columns: attrs.shape[1] };
  const options = { ranks: [2, 2], sizes, makesLast: true, ...addend } as const;
  return matrixProduct(graph, dy.name, decoded(graph, halves.name, attrs), options);
}

/** Rows of the matrix, which are all of it that is brought into float32. */
function rows({ graph, inputs: [halves, ids], attrs: { shape, scale } }: Emission): string {
  const found = graph.op('Gather', [graph.op('Reshape', [halves.name, graph.ints([...shape])]), ids.name], { axis: 0 });
  const numbers = graph.op('Cast', [found], { to: ELEMENT_TYPES.float32 });
  return scale === 1 ? numbers : graph.op('Mul', [numbers, graph.scalar('float32', scale)]);
}

const key: OrtKernel['key'] = ({ shape, scale }) => `${shape},${scale}`;

export const halfMatrixKernels: OrtKernel[] = [
  {
    name: 'HalfMatMul',
    inputs: ['x', 'halves'],
    infer: ([x], { shape }) => ({ shape: [x.shape[0], shape[0]], dtype: 'float32' }),
    key,
    emit: (emission) => product(emission),
    emitOnto: (emission, base) => product(emission, { base }),
    emitBiased: (emission, bias) => product(emission, { bias }),
  },
  {
    name: 'HalfMatMulGrad',
    inputs: ['dy', 'halves'],
    infer: ([dy], { shape }) => ({ shape: [dy.shape[0], shape[1]], dtype: 'float32' }),
    key,
    emit: (emission) => gradient(emission),
    emitOnto: (emission, base) => gradient(emission, { base }),
    emitBiased: (emission, bias) => gradient(emission, { bias }),
  },
  {
    name: 'HalfRows',
    inputs: ['halves', 'ids'],
    infer: ([, ids], { shape }) => ({ shape: [ids.shape[0], shape[1]], dtype: 'float32' }),
    key,
    emit: rows,
  },
  {
    name: 'FromHalf',
    inputs: ['halves'],
    infer: (_, { shape }) => ({ shape, dtype: 'float32' }),
    key,
    emit: ({ graph, inputs: [halves], attrs }) => decoded(graph, halves.name, attrs),
  },
  {
    name: 'FromHalfWords',
    inputs: ['words'],
    infer: (_, { shape }) => ({ shape, dtype: 'float32' }),
    key,
    emit: decodedWords,
  },
];
