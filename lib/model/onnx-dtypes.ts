/** Number formats of an exported model's weights, by transformers.js's names: float32, or 8 bits with a step for each row. */
export const ONNX_DTYPES = ['fp32', 'q8'] as const;
export type OnnxDtype = (typeof ONNX_DTYPES)[number];
