/** Language models: loading, saving, generating, scoring. Knows nothing of training. */

export { carryOnly, checkTokenIds, disposeBatch, makeBatch, packedPass, placeOf, unstretchedLength } from './batch';
export { type Draw, type DropDraw, drawsOf, type WeightDraw } from './draws';
export { checkExport, type ExportOptions, exportModel } from './export';
export { supportedArchitectures } from './families';
export { type GenerateOptions, type Generation, generate, generateBatch, streamText } from './generate';
export { bytesOfGguf, checkGguf, exportGguf, type GgufOptions } from './gguf';
export { DEFAULT_GGUF_DTYPE, GGUF_DTYPES, type GgufDtype } from './gguf-dtypes';
export { Linear, Parameter } from './layers';
export { createModel, loadModel } from './load';
export { addAdapter, type LoraConfig, mergeAdapter, ownWeights, peftKeys } from './lora';
export { namesWithoutTarget } from './lora-targets';
export { tiedCopyOf } from './modules-to-save';
export { DEFAULT_ONNX_DTYPES, ONNX_DTYPES, type OnnxDtype } from './onnx-dtypes';
export type { Prompt } from './prompts';
export { checkAdapter, checkOutputFolder, STAGING, saveModel } from './save';
export { type TokenScores, tokenNll } from './score';
export { findFamilies, type PrefixFamily, sharedPrefixes } from './shared-prefixes';
export { isTrainableTokens, type TrainableTokens } from './token-indices';
export * from './types';
