/**
 * Products with a matrix in 8 bits: a good quarter of the memory to read, and no more than an approximation (see model/draft.ts).
 *
 * Each row of the matrix is cut into blocks of numbers, which share a scale, a 127th of their largest magnitude, and are rounded to
 * whole multiples of it (the Q8_0 of llama.cpp, whose blocks have 32). ONNX Runtime's `MatMulNBits` rounds the other operand likewise and
 * multiplies whole numbers. It wants the matrix as a constant, which it brings into a layout of its own when the graph is compiled.
 */
import { GraphBuilder } from './onnx';
import { ortTensor, Session, type SessionSettings } from './session';
import type { Value } from './value';

/** Numbers that share a scale: the columns of a matrix are a multiple of the smaller number, and where they can be of the larger. */
export const SCALE_BLOCK = 32;
const LARGE_SCALE_BLOCK = 64;

/** Numbers of a row that share a scale. The fewer scales, the less is to be read. */
const scaleBlockOf = (columns: number): number => (columns % LARGE_SCALE_BLOCK === 0 ? LARGE_SCALE_BLOCK : SCALE_BLOCK);

/** May round the other operand to 8 bits, too (an attribute of MatMulNBits). */
const IN_WHOLE_NUMBERS = 4;

/** What stands for zero in an unsigned byte, and the largest multiple. */
const ZERO = 128;
const LARGEST = 127;

/** A matrix to be rounded: row by row, or in the processor's own layout (resting-layout.ts). */
export type Matrix = Pick<Value, 'shape' | 'layout' | 'data'>;

export interface QuantizedMatrix {
  /** The multiples plus ZERO, [rows, columns] */
  quants: Uint8Array;
  /** [rows, columns / scaleBlockOf(columns)] */
  scales: Float32Array;
}

/**
 * Rounds matrices of as many columns, and puts one under the other.
 * @param block channels in a block of the processor's own layout
 */
export function quantize(matrices: readonly Matrix[], block = 1): QuantizedMatrix {
  const scaleBlock = scaleBlockOf(matrices[0].shape[1]);
  const size = matrices.reduce((sum, { shape: [rows, columns] }) => sum + rows * columns, 0);
  const quants = new Uint8Array(size);
  const scales = new Float32Array(size / scaleBlock);
  let first = 0;
  for (const matrix of matrices) {
    const count = matrix.shape[0] * matrix.shape[1];
    const part = { quants: quants.subarray(first), scales: scales.subarray(first / scaleBlock) };
    quantizeInto(part, matrix, matrix.layout === 'blocks' ? block : 1);
    first += count;
  }
  return { quants, scales };
}

/** The bits of a float32 without its sign: as a whole number the larger, the larger the magnitude. */
const MAGNITUDE = 0x7fffffff;

/** @param stride from a number of a row to the next */
function quantizeInto({ quants, scales }: QuantizedMatrix, { shape, data }: Matrix, stride: number): void {
  const [rows, columns] = shape;
  const scaleBlock = scaleBlockOf(columns);
  const weights = data as Float32Array;
  const pattern = new Int32Array(weights.buffer, weights.byteOffset, weights.length);
  let done = 0;
  for (let row = 0; row < rows; row++) {
    const inBlock = row % stride;
    const begin = (row - inBlock) * columns + inBlock;
    for (let column = 0; column < columns; column += scaleBlock) {
      const start = begin + column * stride;
      const end = start + scaleBlock * stride;
      let place = start;
      for (let at = start; at < end; at += stride) if ((pattern[at] & MAGNITUDE) > (pattern[place] & MAGNITUDE)) place = at;
      const largest = Math.abs(weights[place]);
      const perStep = largest > 0 ? LARGEST / largest : 0;
      scales[(row * columns + column) / scaleBlock] = largest / LARGEST;
      for (let at = start; at < end; at += stride) quants[done++] = (weights[at] * perStep + ZERO + 0.5) | 0;
    }
  }
}

/** Writes x·Wᵀ for one or several W of as many columns, as their numbers are now. One product is faster than several small ones. */
export function quantizedProducts(graph: GraphBuilder, x: string, weights: readonly Matrix[]): string[] {
  const columns = weights[0].shape[1];
  const scaleBlock = scaleBlockOf(columns);
  const rows = weights.map(({ shape }) => shape[0]);
  const allRows = rows.reduce((sum, count) => sum + count, 0);
  const { quants, scales } = quantize(weights, graph.target.block);
  const constants = [
    graph.data('uint8', quants, [allRows, columns / scaleBlock, scaleBlock]),
    graph.data('float32', scales, [scales.length]),
  ];
  const attributes = { K: columns, N: allRows, bits: 8, block_size: scaleBlock, accuracy_level: IN_WHOLE_NUMBERS };
  const [product] = graph.onRows([x], (xs) => [graph.op('MatMulNBits', [...xs, ...constants], attributes)]);
  return rows.length === 1 ? [product] : partsOf(graph, product, rows);
}

/** The columns of a matrix in parts. */
function partsOf(graph: GraphBuilder, whole: string, columns: readonly number[]): string[] {
  const parts = graph.onRows([whole], ([rows]) => cutWhenRead(graph, rows, columns));
  return parts.map((part) => graph.withOrigin(part, { kind: 'part', whole, parts }));
}

/** Parts of a tensor along its last axis, which are cut off when the first of them is read. */
function cutWhenRead(graph: GraphBuilder, x: string, sizes: readonly number[]): string[] {
  let isCut = false;
  const cut = (): void => {
    if (!isCut) graph.node('Split', [x, graph.ints([...sizes])], parts, { axis: -1 });
    isCut = true;
  };
  const parts = sizes.map(() => graph.whenRead(cut));
  return parts;
}

/**
 * Whether ONNX Runtime multiplies in 8 bits here. Where it has no kernel for that it multiplies in float32, which takes longer than
 * with a matrix in float32: then the other operand has not been rounded, and the product shows it.
 */
export function multipliesIn8Bits(settings: SessionSettings): boolean {
  const ones: Matrix = { shape: [1, SCALE_BLOCK], layout: 'rows', data: new Float32Array(SCALE_BLOCK).fill(1) };
  const graph = new GraphBuilder();
  const x = graph.input('x', 'float32', [1, SCALE_BLOCK]);
  graph.outputAs('y', quantizedProducts(graph, x, [ones])[0], 'float32', [1, 1]);
  // All but the first are less than half a step of their scale.
  const numbers = new Float32Array(SCALE_BLOCK).fill(0.003);
  numbers[0] = 1;
  const y = new Float32Array(1);
  try {
    const session = new Session(graph, { ...settings, threads: 1, prepacks: true });
    session.run({ x: ortTensor('float32', numbers, [1, SCALE_BLOCK]) }, { y: ortTensor('float32', y, [1, 1]) });
    session.dispose();
  } catch {
    return false;
  }
  return Math.abs(y[0] - 1) < 0.01;
}
