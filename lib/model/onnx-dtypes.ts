/**
 * Number formats of an exported model's weights, by transformers.js's names: float32, 8 bits with a step for each row, or 4 bits with a step
 * for each 32 numbers of a row.
 */
export const ONNX_DTYPES = ['fp32', 'q8', 'q4'] as const;
export type OnnxDtype = (typeof ONNX_DTYPES)[number];

/** Those that are written where nothing else is asked for: the ones that transformers.js takes by itself. */
export const DEFAULT_ONNX_DTYPES: readonly OnnxDtype[] = ['fp32', 'q8'];
