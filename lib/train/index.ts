/** Supervised fine-tuning: the trainer, its configuration, and what it reports. */
export type { TrainerCallback, TrainerState } from './callbacks';
export { configHelp, type FieldInfo, fieldList, type ParseOptions, parseConfig, type SFTConfig, toSnakeCase } from './config';
export { type EarlyStoppingOptions, earlyStopping } from './early-stopping';
export type { EvalMetrics } from './evaluation';
export { type Examples, type Item, type PreparedDataset, type PrepareOptions, prepareExamples, type Sequence } from './examples';
export type { LogRecord } from './metrics';
export type { SFTTrainerOptions, TrainOptions } from './options';
export { defaultCallbackMakers, notebookProgress, terminalProgress } from './progress';
export type { TrainOutput, TrainSummary } from './results';
export { SFTTrainer } from './trainer';
