/** Language models: loading, saving, generating, scoring. Knows nothing of training. */
export * from './types';
export { Linear, Parameter } from './layers';
export { createModel, loadModel } from './load';
export { checkOutputFolder, saveModel } from './save';
export { generate, generateBatch, type Generation, type GenerateOptions, type Prompt, streamText } from './generate';
export { checkTokenIds, disposeBatch, makeBatch } from './batch';
export { supportedArchitectures } from './families';
export { tokenNll, type TokenScores } from './score';
