/**
 * Products with matrices in 4 bits, for models that other programs run: ONNX Runtime's `MatMulNBits` and, for rows of a table,
 * `GatherBlockQuantized`, which processors and WebGPU have, but not WebAssembly in the build that transformers.js takes in browsers.
 *
 * Each row of a matrix is cut into blocks of 32 numbers, which share a step; a number is a whole multiple of it, from -8 to 7.
 */
import type { GraphBuilder } from './onnx';
import type { Value } from './value';

/** Numbers that share a step. */
export const FOUR_BIT_BLOCK = 32;

const BITS = 4;

/** What stands for zero, and the largest unsigned number. */
const ZERO = 8;
const LARGEST = 15;

/** Where the number of largest magnitude may come to lie: at -8 nothing is cut off; nearer to zero others may be met better. */
const PLACES = [-8, -8.4, -7.8, -7.6, -7.3, -7, 7];

/** A matrix in 4 bits: a byte holds two multiples plus ZERO, the first in its lower half. */
export interface FourBitMatrix {
  /** [rows, columns / 2] */
  multiples: Uint8Array;
  /** [rows, columns / FOUR_BIT_BLOCK] */
  steps: Float32Array;
}

/** Whether a matrix [rows, columns] falls into whole blocks. */
export const fitsFourBits = ([, columns]: readonly number[]): boolean => columns % FOUR_BIT_BLOCK === 0;

/**
 * Rounds a matrix [rows, columns] whose rows are whole blocks. Of some ways to round a block x to multiples q that one is taken which leaves
 * the least squared error, each with its best step, Σxq / Σq²: it leaves Σx² - (Σxq)² / Σq².
 */
export function toFourBits(matrix: Float32Array): FourBitMatrix {
  const multiples = new Uint8Array(matrix.length / 2);
  const steps = new Float32Array(matrix.length / FOUR_BIT_BLOCK);
  for (let block = 0; block < steps.length; block++) {
    const first = block * FOUR_BIT_BLOCK;
    const extreme = extremeOf(matrix, first);
    // a block of zeros
    const { perStep, step } = extreme === 0 ? { perStep: 0, step: 0 } : bestStep(matrix, first, extreme);
    steps[block] = step;
    for (let i = first; i < first + FOUR_BIT_BLOCK; i += 2)
      multiples[i / 2] = rounded(matrix[i], perStep) | (rounded(matrix[i + 1], perStep) << BITS);
  }
  return { multiples, steps };
}

/** The number of largest magnitude in a block. */
function extremeOf(matrix: Float32Array, first: number): number {
  let extreme = matrix[first];
  for (let i = first + 1; i < first + FOUR_BIT_BLOCK; i++) if (Math.abs(matrix[i]) > Math.abs(extreme)) extreme = matrix[i];
  return extreme;
}

/** @returns what numbers are multiplied by to be rounded, and the step that brings them back */
function bestStep(matrix: Float32Array, first: number, extreme: number): { perStep: number; step: number } {
  let best = { perStep: 0, step: 0, score: -1 };
  for (const place of PLACES) {
    const perStep = place / extreme;
    let product = 0;
    let square = 0;
    for (let i = first; i < first + FOUR_BIT_BLOCK; i++) {
      const multiple = rounded(matrix[i], perStep) - ZERO;
      product += matrix[i] * multiple;
      square += multiple * multiple;
    }
    const score = (product * product) / square;
    if (score > best.score) best = { perStep, step: product / square, score };
  }
  return best;
}

/** The nearest multiple plus ZERO. */
function rounded(value: number, perStep: number): number {
  const number = (value * perStep + ZERO + 0.5) | 0;
  return number > LARGEST ? LARGEST : number;
}

/** A matrix in 4 bits, once for all who read it. */
function fourBitMatrix(graph: GraphBuilder, { version, data }: Value): FourBitMatrix {
  return graph.once(`four bits of ${version}`, () => toFourBits(data as Float32Array));
}

/** Writes x·Wᵀ with W, [rows, columns], in 4 bits. @param x [..., columns] */
export function fourBitProduct(graph: GraphBuilder, x: string, weight: Value): string {
  const { multiples, steps } = fourBitMatrix(graph, weight);
  const [rows, columns] = weight.shape;
  const constants = graph.once(`four bits to multiply ${weight.version}`, () => [
    graph.data('uint8', multiples, [rows, columns / FOUR_BIT_BLOCK, FOUR_BIT_BLOCK / 2]),
    graph.data('float32', steps, [steps.length]),
  ]);
  return graph.op('MatMulNBits', [x, ...constants], { K: columns, N: rows, bits: BITS, block_size: FOUR_BIT_BLOCK });
}

/** Writes the rows of a table in 4 bits with the given numbers, [numbers, columns]. */
export function fourBitRows(graph: GraphBuilder, numbers: string, weight: Value): string {
  const { multiples, steps } = fourBitMatrix(graph, weight);
  const [rows, columns] = weight.shape;
  // another shape than products want, of the same bytes of the file
  const constants = graph.once(`four bits to look up ${weight.version}`, () => [
    graph.data('uint8', multiples, [rows, columns / 2]),
    graph.data('float32', steps, [rows, columns / FOUR_BIT_BLOCK]),
  ]);
  const [table, stepsOfRows] = constants;
  const attributes = { bits: BITS, block_size: FOUR_BIT_BLOCK, gather_axis: 0, quantize_axis: 1 };
  return graph.op('GatherBlockQuantized', [table, numbers, stepsOfRows], attributes);
}
