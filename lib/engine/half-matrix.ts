/**
 * Matrices in 16 bits, for weights that stay as they are while an adapter is trained beside them. They are multiplied in float32, into which each
 * is brought right before its product.
 *
 * The bits are float16's also where the numbers are bfloat16's: processors have an instruction for those. A float16 has three digits more, but ends
 * at 65,504, so a matrix is multiplied by the power of two that takes its largest number there. Down to 2⁻³² of that all bfloat16 numbers are
 * exact; smaller ones are rounded to the nearest 2⁻⁴⁰ of it.
 */
import * as tf from '@tensorflow/tfjs-core';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../number-formats';
import { bitsAs, wordsTensor } from './bits';
import { ortBackend } from './device';

/** What numbers of 16 bits are rounded to. */
export type HalfDtype = 'bfloat16' | 'float16';

/** A matrix in 16 bits. */
export interface HalfMatrix {
  readonly bits: 16;
  readonly dtype: HalfDtype;
  /** [rows, columns] */
  readonly shape: readonly [number, number];
  /** Two float16 each, int32 [rows · columns / 2]. */
  readonly words: tf.Tensor1D;
  /** What they are multiplied by, a power of two. */
  readonly scale: number;
}

/** Exponent of the largest numbers of float16. */
const TOP = 15;

/** The exponent's bits of bfloat16, and what they count from. */
const EXPONENT = 0xff;
const BIAS = 127;

/** Whether a matrix falls into whole words. */
export const fitsHalf = (shape: readonly number[]): boolean => shape.reduce((product, size) => product * size, 1) % 2 === 0;

/**
 * Rounds a matrix, to the nearest number, ties to even.
 * @param data row after row, `fitsHalf`
 * @returns a tensor that the caller disposes of (`disposeHalf`)
 */
export function halfMatrix(data: Float32Array, shape: readonly [number, number], dtype: HalfDtype): HalfMatrix {
  return halfMatrixOfBits(dtype === 'float16' ? float32ToFloat16(data) : float32ToBfloat16(data), shape, dtype);
}

/** The same of the numbers' bits, whose array it takes over: nothing as large as the matrix in float32 is made. */
export function halfMatrixOfBits(bits: Uint16Array, shape: readonly [number, number], dtype: HalfDtype): HalfMatrix {
  const { halves, scale } = dtype === 'float16' ? { halves: bits, scale: 1 } : fromBfloat16(bits);
  return { bits: 16, dtype, shape, words: wordsTensor(new Int32Array(halves.buffer)), scale };
}

/** Bits of bfloat16 as those of float16, in their place. */
function fromBfloat16(bits: Uint16Array): { halves: Uint16Array; scale: number } {
  let largest = 0;
  for (let i = 0; i < bits.length; i++) {
    const exponent = (bits[i] >> 7) & EXPONENT;
    // infinities and what is no number stay that in any scale
    if (exponent > largest && exponent < EXPONENT) largest = exponent;
  }
  const power = TOP - (largest - BIAS);
  const table = halvesOf(power);
  for (let i = 0; i < bits.length; i++) bits[i] = table[bits[i]];
  return { halves: bits, scale: 2 ** -power };
}

const tables = new Map<number, Uint16Array>();

/** The float16 of each bfloat16 times a power of two, by its bits. */
function halvesOf(power: number): Uint16Array {
  const found = tables.get(power);
  if (found) return found;
  const values = new Float32Array(65536);
  bfloat16ToFloat32(
    Uint16Array.from(values, (_, bits) => bits),
    values,
    0,
  );
  const table = float32ToFloat16(values.map((value) => value * 2 ** power));
  tables.set(power, table);
  return table;
}

export function disposeHalf({ words }: HalfMatrix): void {
  words.dispose();
}

/**
 * y = x Wᵀ with W in 16 bits; differentiable with respect to x. The gradient brings W into float32 once more, so that it is nowhere kept so.
 * @param x [tokens, columns of W]
 * @returns [tokens, rows of W]
 */
export function halfLinear(x: tf.Tensor2D, weight: HalfMatrix): tf.Tensor2D {
  const product = tf.customGrad((x) => ({
    value: forward(x as tf.Tensor2D, weight),
    gradFunc: (dy: tf.Tensor) => backward(dy as tf.Tensor2D, weight),
  }));
  return product(x) as tf.Tensor2D;
}

/**
 * Rows of the matrix, in float32.
 * @param ids int32 [tokens]
 * @returns [tokens, columns]; what it was made of learns nothing
 */
export function halfRows(ids: tf.Tensor1D, weight: HalfMatrix): tf.Tensor2D {
  const halves = bitsAs(weight.words, 'float16');
  if (halves) return run('HalfRows', { halves, ids }, weight);
  return tf.tidy(() => tf.gather(fromHalf(weight), ids));
}

/** The matrix in float32, as it was rounded: [rows, columns]. */
export function fromHalf(weight: HalfMatrix): tf.Tensor2D {
  const { words, shape, scale } = weight;
  const halves = bitsAs(words, 'float16');
  if (halves) return run('FromHalf', { halves }, weight);
  if (ortBackend()) return run('FromHalfWords', { words }, weight);
  return tf.tidy(() => tf.mul(tf.tensor2d(valuesOf(words.dataSync<'int32'>()), [...shape]), scale));
}

function valuesOf(words: Int32Array): Float32Array {
  const values = new Float32Array(2 * words.length);
  float16ToFloat32(new Uint16Array(words.buffer, words.byteOffset, values.length), values, 0);
  return values;
}

function forward(x: tf.Tensor2D, weight: HalfMatrix): tf.Tensor2D {
  const halves = bitsAs(weight.words, 'float16');
  if (halves) return run('HalfMatMul', { x, halves }, weight);
  return tf.tidy(() => tf.matMul(x, fromHalf(weight), false, true));
}

function backward(dy: tf.Tensor2D, weight: HalfMatrix): tf.Tensor2D {
  const halves = bitsAs(weight.words, 'float16');
  if (halves) return run('HalfMatMulGrad', { dy, halves }, weight);
  return tf.tidy(() => tf.matMul(dy, fromHalf(weight)));
}

function run(kernel: string, inputs: Record<string, tf.Tensor>, { shape, scale }: HalfMatrix): tf.Tensor2D {
  return tf.engine().runKernel(kernel, inputs, { shape, scale } as unknown as tf.NamedAttrMap) as unknown as tf.Tensor2D;
}
