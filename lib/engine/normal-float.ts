/**
 * Matrices of NormalFloat numbers in 4 bits, for weights that stay as they are while an adapter is trained beside them (Dettmers et al. 2023,
 * "QLoRA: Efficient Finetuning of Quantized LLMs"). A matrix is cut into blocks of 64 numbers, row after row; each number is written as that of
 * sixteen values which is nearest to it, as a share of the largest magnitude in its block. The values are bitsandbytes' `nf4`.
 */
import * as tf from '@tensorflow/tfjs-core';
import { bitsAs, sharedWords, wordsTensor } from './bits';
import * as composed from './composed';
import { ortBackend } from './device';
import { NF4, NF4_BLOCK } from './nf4';

/** Where the next value is the nearer one. */
const MIDDLES = Float64Array.from([...NF4.slice(1).map((value, i) => (value + NF4[i]) / 2), Infinity]);

/** So many steps from -1 to 1, none of which has two of those places in it. */
const STEPS = 64;

/** The value that is nearest to where each step begins. */
const FIRST_CODES = Uint8Array.from({ length: STEPS + 1 }, (_, step) => MIDDLES.findIndex((middle) => (2 * step) / STEPS - 1 <= middle));

/** A matrix in 4 bits. */
export interface NormalFloatMatrix {
  readonly bits: 4;
  /** [rows, columns] */
  readonly shape: readonly [number, number];
  /** The codes as whole numbers of 32 bits, int32 [rows · columns / 8]: bytes of two codes each, the first of them in the upper half. */
  readonly codes: tf.Tensor1D;
  /** The same memory as ONNX Runtime reads it where it decodes four numbers at a time; elsewhere absent. */
  readonly fours?: tf.Tensor1D;
  /** The largest magnitude of each block, float32 [rows · columns / 64]. */
  readonly scales: tf.Tensor1D;
}

/** Whether a matrix falls into whole blocks. */
export const fitsNormalFloat = ([rows, columns]: readonly number[]): boolean => (rows * columns) % NF4_BLOCK === 0;

/**
 * Rounds a matrix, as bitsandbytes does.
 * @param data row after row, `fitsNormalFloat`
 * @returns tensors that the caller disposes of (`disposeNormalFloat`)
 */
export function normalFloatMatrix(data: Float32Array, shape: readonly [number, number]): NormalFloatMatrix {
  const bytes = new Uint8Array(data.length / 2);
  const scales = new Float32Array(data.length / NF4_BLOCK);
  for (let block = 0; block < scales.length; block++) {
    const first = block * NF4_BLOCK;
    let largest = 0;
    for (let i = first; i < first + NF4_BLOCK; i++) largest = Math.max(largest, Math.abs(data[i]));
    scales[block] = largest;
    // in float32, as there: it decides between two values that are about as near
    const perLargest = largest > 0 ? Math.fround(1 / largest) : 0;
    for (let i = first; i < first + NF4_BLOCK; i += 2)
      bytes[i / 2] = (codeOf(Math.fround(data[i] * perLargest)) << 4) | codeOf(Math.fround(data[i + 1] * perLargest));
  }
  const words = new Int32Array(bytes.buffer);
  const fours = sharedWords(words);
  return { bits: 4, shape, codes: wordsTensor(words), fours: fours && tf.keep(fours), scales: tf.keep(tf.tensor1d(scales)) };
}

/** The codes as ONNX Runtime reads them on the CPU: bytes, and 16 bits each; undefined on another device, or if it was so at first. */
function bitsOf({ codes, fours }: NormalFloatMatrix): { codes: tf.Tensor1D; fours: tf.Tensor1D } | undefined {
  if (!fours) return undefined;
  const [bytes, pairs] = [bitsAs(codes, 'uint8'), bitsAs(fours, 'uint16')];
  return bytes && pairs && { codes: bytes, fours: pairs };
}

/** Which of the values is nearest to a share of the largest magnitude. */
function codeOf(share: number): number {
  const code = FIRST_CODES[((share + 1) * (STEPS / 2)) | 0];
  return share > MIDDLES[code] ? code + 1 : code;
}

export function disposeNormalFloat({ codes, fours, scales }: NormalFloatMatrix): void {
  tf.dispose([codes, scales, ...(fours ? [fours] : [])]);
}

/**
 * y = x Wᵀ with W in 4 bits; differentiable with respect to x. In the gradient W is decoded once more, so that it is nowhere kept as a whole.
 * @param x [tokens, columns of W]
 * @returns [tokens, rows of W]
 */
export function normalFloatLinear(x: tf.Tensor2D, weight: NormalFloatMatrix): tf.Tensor2D {
  const product = tf.customGrad((x) => ({
    value: forward(x as tf.Tensor2D, weight),
    gradFunc: (dy: tf.Tensor) => backward(dy as tf.Tensor2D, weight),
  }));
  return product(x) as tf.Tensor2D;
}

/** The matrix in float32, as it was rounded: [rows, columns]. */
export function fromNormalFloat(weight: NormalFloatMatrix): tf.Tensor2D {
  const { shape, codes, scales } = weight;
  const bits = bitsOf(weight);
  if (bits) return run('FromNormalFloat', { fours: bits.fours, scales }, { shape });
  if (ortBackend()) return run('FromNormalFloatWords', { codes, scales }, { shape });
  return composed.fromNormalFloat(codes, scales, [...shape]);
}

function forward(x: tf.Tensor2D, weight: NormalFloatMatrix): tf.Tensor2D {
  const { shape, scales } = weight;
  const bits = bitsOf(weight);
  if (bits) return run('NormalFloatMatMul', { x, ...bits, scales }, { shape });
  return tf.tidy(() => tf.matMul(x, fromNormalFloat(weight), false, true));
}

function backward(dy: tf.Tensor2D, weight: NormalFloatMatrix): tf.Tensor2D {
  const { shape, scales } = weight;
  const bits = bitsOf(weight);
  if (bits) return run('NormalFloatMatMulGrad', { dy, fours: bits.fours, scales }, { shape });
  return tf.tidy(() => tf.matMul(dy, fromNormalFloat(weight)));
}

function run(kernel: string, inputs: Record<string, tf.Tensor>, attrs: { shape: readonly number[] }): tf.Tensor2D {
  return tf.engine().runKernel(kernel, inputs, attrs as unknown as tf.NamedAttrMap) as unknown as tf.Tensor2D;
}
