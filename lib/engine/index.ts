/** The compute engine: tfjs, the fused operations, and the device they run on. Knows nothing of language models. */

export { rowsAt } from './chunks';
export * from './compact-matrix';
export * from './device';
export * from './dropout';
export * from './experts';
export * from './gradient-checkpointing';
export * from './half-matrix';
export * from './in-place';
export * from './normal-float';
export * from './onnx-model';
export * from './ops';
export * from './recurrence';
export * from './repeated';
export * from './segments';
export * from './shelf';
export * from './short-convolution';
export * from './updates';
