/** Conversions between float32 and the 16-bit number formats of checkpoints. */

const bits = new Uint32Array(1);
const number = new Float32Array(bits.buffer);

/** Value of every float16, by its bits; made when first needed. */
let halves: Float32Array | undefined;

function halfTable(): Float32Array {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 31) halves[half] = fraction ? NaN : sign * Infinity;
    else halves[half] = sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  }
  return halves;
}

/** float16 bits to float32, into `target` from `at` on. */
export function float16ToFloat32(source: Uint16Array, target: Float32Array, at: number): void {
  const table = halfTable();
  for (let i = 0; i < source.length; i++) target[at + i] = table[source[i]];
}

/** bfloat16 bits to float32: a bfloat16 is the upper half of a float32. */
export function bfloat16ToFloat32(source: Uint16Array, target: Float32Array, at: number): void {
  const words = new Uint32Array(target.buffer, target.byteOffset + 4 * at, source.length);
  for (let i = 0; i < source.length; i++) words[i] = source[i] << 16;
}

/** float32 to bfloat16 bits, to the nearest, ties to even. */
export function float32ToBfloat16(source: Float32Array): Uint16Array {
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const target = new Uint16Array(source.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    // rounding up must not turn a NaN into infinity
    const notANumber = (word & 0x7fffffff) > 0x7f800000;
    target[i] = notANumber ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return target;
}

/** The largest number of float16. */
export const LARGEST_HALF = 65504;

/** float32 to float16 bits, to the nearest, ties to even; beyond `LARGEST_HALF` it becomes infinity. */
export function float32ToFloat16(source: Float32Array): Uint16Array {
  const target = new Uint16Array(source.length);
  const words = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < words.length; i++) target[i] = halfBits(words[i]);
  return target;
}

function halfBits(word: number): number {
  const sign = (word >>> 16) & 0x8000;
  const magnitude = word & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // below the smallest normal float16: count in steps of 2^-24, as adding 0.5 (whose last bit is 2^-24) makes the processor do
  bits[0] = magnitude;
  number[0] += 0.5;
  return sign | (bits[0] - 0x3f000000);
}
