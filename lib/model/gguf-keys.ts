/** Typed values of a GGUF file's keys, as `@huggingface/gguf` writes them. */

/** `GGUFValueType` of the format. */
const TYPES = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;

export interface GgufValue {
  value: number | boolean | string | readonly (number | boolean | string)[];
  type: number;
  /** Of a list's elements. */
  subType?: number;
}

export type GgufKeys = Record<string, GgufValue>;

export const whole = (value: number): GgufValue => ({ value, type: TYPES.uint32 });
export const float = (value: number): GgufValue => ({ value, type: TYPES.float32 });
export const bool = (value: boolean): GgufValue => ({ value, type: TYPES.bool });
export const text = (value: string): GgufValue => ({ value, type: TYPES.string });
export const texts = (value: readonly string[]): GgufValue => ({ value, type: TYPES.array, subType: TYPES.string });
export const wholes = (value: readonly number[]): GgufValue => ({ value, type: TYPES.array, subType: TYPES.int32 });
export const bools = (value: readonly boolean[]): GgufValue => ({ value, type: TYPES.array, subType: TYPES.bool });
export const floats = (value: readonly number[]): GgufValue => ({ value, type: TYPES.array, subType: TYPES.float32 });
