/** Number formats of weights in a GGUF file, under llama.cpp's names. */
import { float32ToBfloat16, float32ToFloat16, LARGEST_HALF } from '../number-formats';

export const GGUF_DTYPES = ['f32', 'f16', 'bf16', 'q8_0'] as const;

export type GgufDtype = (typeof GGUF_DTYPES)[number];

export const DEFAULT_GGUF_DTYPE: GgufDtype = 'f16';

/** Numbers of Q8_0 that share a scale. */
const BLOCK = 32;

/** What a format is in a file: of one tensor (`ggml_type`), and of a file whose matrices are in it (`llama_ftype`). */
interface NumberFormat {
  tensorType: number;
  fileType: number;
  /** The largest number that it holds. */
  largest: number;
  /** Bytes of so many numbers. */
  bytes(numbers: number): number;
  encode(values: Float32Array): Uint8Array;
}

export const GGUF_FORMATS: Readonly<Record<GgufDtype, NumberFormat>> = {
  f32: { tensorType: 0, fileType: 0, largest: Number.MAX_VALUE, bytes: (numbers) => 4 * numbers, encode: bytesOf },
  f16: {
    tensorType: 1,
    fileType: 1,
    largest: LARGEST_HALF,
    bytes: (numbers) => 2 * numbers,
    encode: (values) => bytesOf(float32ToFloat16(values)),
  },
  bf16: {
    tensorType: 30,
    fileType: 32,
    largest: Number.MAX_VALUE,
    bytes: (numbers) => 2 * numbers,
    encode: (values) => bytesOf(float32ToBfloat16(values)),
  },
  // its scales are in float16
  q8_0: { tensorType: 8, fileType: 7, largest: 127 * LARGEST_HALF, bytes: (numbers) => (numbers / BLOCK) * (2 + BLOCK), encode: inBlocks },
};

/**
 * The format that a tensor of a file gets: vectors, and what llama.cpp adds up with them, stay in float32; rows that no whole blocks make, in float16.
 * @param shape [rows, columns], or [values]
 */
export function formatOf(shape: readonly number[], dtype: GgufDtype): GgufDtype {
  if (shape.length === 1) return 'f32';
  return dtype === 'q8_0' && shape[shape.length - 1] % BLOCK !== 0 ? 'f16' : dtype;
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** Q8_0: of each 32 numbers a scale in float16, by which the largest is ±127, and each as a multiple of it in a byte (ggml's `quantize_row_q8_0`). */
function inBlocks(values: Float32Array): Uint8Array {
  const blocks = values.length / BLOCK;
  const encoded = new Uint8Array(GGUF_FORMATS.q8_0.bytes(values.length));
  const scales = new Float32Array(blocks);
  for (let block = 0; block < blocks; block++) {
    const from = block * BLOCK;
    let largest = 0;
    for (let i = from; i < from + BLOCK; i++) largest = Math.max(largest, Math.abs(values[i]));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    scales[block] = scale;
    for (let i = 0; i < BLOCK; i++) encoded[block * (2 + BLOCK) + 2 + i] = rounded(Math.fround(values[from + i] * inverse));
  }
  for (const [block, half] of float32ToFloat16(scales).entries()) {
    encoded[block * (2 + BLOCK)] = half & 255;
    encoded[block * (2 + BLOCK) + 1] = half >> 8;
  }
  return encoded;
}

/** To the nearest, halves away from zero. */
const rounded = (x: number): number => Math.sign(x) * Math.round(Math.abs(x));
