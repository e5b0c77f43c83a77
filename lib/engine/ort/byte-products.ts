/**
 * Products with matrices in 8 bits of standard ONNX operators, for models that other programs run. `MatMulNBits`, which the engine itself
 * computes with (quantized-products.ts), takes many times as long where there is no kernel of its own for it, as in WebAssembly.
 *
 * Each row of a matrix, and each row of what it is multiplied with, is rounded to whole multiples of a 127th of its largest magnitude.
 */
import { ELEMENT_TYPES, type GraphBuilder } from './onnx';
import type { Value } from './value';

/** What stands for zero in an unsigned byte, and the largest multiple. */
const ZERO = 128;
const LARGEST = 127;

/** Smaller than any magnitude that matters: a row of zeros is divided by it. */
const TINY = 1e-30;

/** Names of a matrix W in a graph: its multiples plus ZERO, [columns, rows], and the step of each row, [rows]. */
interface ByteMatrix {
  multiples: string;
  steps: string;
}

/** A matrix in bytes, once for all who read it. */
function byteMatrix(graph: GraphBuilder, weight: Value): ByteMatrix {
  return graph.once(`bytes of ${weight.version}`, () => {
    const { multiples, steps } = toBytes(weight.data as Float32Array, weight.shape);
    const [rows, columns] = weight.shape;
    return { multiples: graph.data('uint8', multiples, [columns, rows]), steps: graph.data('float32', steps, [rows]) };
  });
}

/**
 * Rounds a matrix.
 * @param shape rows, columns
 */
export function toBytes(matrix: Float32Array, [rows, columns]: readonly number[]): { multiples: Uint8Array; steps: Float32Array } {
  const multiples = new Uint8Array(matrix.length);
  const steps = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const values = matrix.subarray(row * columns, (row + 1) * columns);
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    steps[row] = largest / LARGEST;
    const perStep = largest > 0 ? LARGEST / largest : 0;
    for (let column = 0; column < columns; column++) multiples[column * rows + row] = (values[column] * perStep + ZERO + 0.5) | 0;
  }
  return { multiples, steps };
}

/** Writes about x·Wᵀ. @param x [..., columns of W] */
export function byteProduct(graph: GraphBuilder, x: string, weight: Value): string {
  const { multiples, steps } = byteMatrix(graph, weight);
  const mul = (a: string, b: string): string => graph.op('Mul', [a, b]);
  const float = (value: number): string => graph.scalar('float32', value);
  const largest = graph.op('ReduceMax', [graph.op('Abs', [x]), graph.ints([-1])], { keepdims: 1 });
  const step = mul(graph.op('Max', [largest, float(TINY)]), float(1 / LARGEST));
  const rounded = graph.op('Add', [graph.op('Round', [graph.op('Div', [x, step])]), float(ZERO)]);
  const zero = graph.scalar('uint8', ZERO);
  const product = graph.op('MatMulInteger', [graph.op('Cast', [rounded], { to: ELEMENT_TYPES.uint8 }), multiples, zero, zero]);
  return mul(mul(graph.op('Cast', [product], { to: ELEMENT_TYPES.float32 }), step), steps);
}

/** Writes about the rows of a table with the given numbers, [numbers, columns]. */
export function byteRows(graph: GraphBuilder, numbers: string, weight: Value): string {
  const { multiples, steps } = byteMatrix(graph, weight);
  const rows = graph.op('Transpose', [graph.op('Gather', [multiples, numbers], { axis: 1 })], { perm: [1, 0] });
  const centred = graph.op('Sub', [graph.op('Cast', [rows], { to: ELEMENT_TYPES.float32 }), graph.scalar('float32', ZERO)]);
  const stepsOfRows = graph.op('Unsqueeze', [graph.op('Gather', [steps, numbers], { axis: 0 }), graph.ints([1])]);
  return graph.op('Mul', [centred, stepsOfRows]);
}
