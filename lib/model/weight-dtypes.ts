/** Formats in which weights beside an adapter can be kept, as options and flags name them. Nothing heavy is imported here. */

export const WEIGHT_DTYPES = ['float32', 'bfloat16', 'float16', 'auto'] as const;

export type WeightDtype = (typeof WEIGHT_DTYPES)[number];
