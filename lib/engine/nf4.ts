/** The numbers that NormalFloat matrices are made of (normal-float.ts): bitsandbytes' `nf4`. */

/** Quantiles of a normal distribution, scaled to [-1, 1]: of numbers that are distributed so about as many are nearest to each. */
export const NF4: readonly number[] = [
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495],
  ...[0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941],
  ...[0.7229568362236023, 1],
];

/** Where in a word of 32 bits the codes of eight numbers are, in steps of 4 bits: bytes from the first on, of each the upper half first. */
export const NF4_PLACES: readonly number[] = [1, 0, 3, 2, 5, 4, 7, 6];

/** Numbers that share a scale. */
export const NF4_BLOCK = 64;
