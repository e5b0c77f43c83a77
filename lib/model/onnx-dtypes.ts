/**
 * The number formats of an exported model, by transformers.js' names. Weights are in float32, in float16, in 8 bits with a step for each row, or in
 * 4 bits with a step for each 32 numbers of a row; those of experts are in float32 in any case. What is called f16 computes in float16.
 */
export const ONNX_DTYPES = ['fp32', 'fp16', 'q8', 'q4', 'q4f16'] as const;
export type OnnxDtype = (typeof ONNX_DTYPES)[number];

/** Those that are written where nothing else is asked for: the ones that transformers.js takes by itself. */
export const DEFAULT_ONNX_DTYPES: readonly OnnxDtype[] = ['fp32', 'q8'];

/** Whether a model in a number format computes in float16. */
export const isHalf = (dtype: OnnxDtype): boolean => dtype === 'fp16' || dtype === 'q4f16';
