/** Language models: loading, saving, generating, scoring. Knows nothing of training. */
export * from './types';
export { Linear, Parameter } from './layers';
export { createModel, loadModel } from './load';
export { saveModel } from './save';
export { generate, generateBatch, type Generation, type GenerateOptions, type Prompt } from './generate';
export { tokenNll, type TokenScores } from './score';
