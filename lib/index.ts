/**
 * Tunebook: everything that a notebook uses, and nothing else.
 *
 * Heavy packages (transformers, vega, danfojs) are loaded by the functions that need them, so that importing this is quick.
 */
import { LiveTrainingPlot } from './plots';
import { defaultCallbackMakers } from './train';

// In a notebook every training run draws loss and accuracy in the cell; `plotTraining` draws all curves.
defaultCallbackMakers.push(() => new LiveTrainingPlot({ curves: ['loss', 'accuracy'] }));

export { type ChatMessage, Dataset, type Example, type LoadDatasetOptions, loadDataset, mixDatasets } from './data';
export { displayHtml } from './display';
export { currentDevice, type DeviceInfo, type DeviceName, type DeviceOptions, useDevice } from './engine';
export { UserError } from './errors';
export { type CompareOptions, type Comparison, compareModels, exactMatch, perplexity } from './evaluate';
export { Interrupted } from './interruption';
export {
  type CausalLM,
  createModel,
  type ExportOptions,
  exportGguf,
  exportModel,
  type GenerateOptions,
  type Generation,
  type GgufOptions,
  generate,
  generateBatch,
  type LoraConfig,
  loadModel,
  mergeAdapter,
  saveModel,
  streamText,
  tokenNll,
} from './model';
export { type CurveRecord, LiveTrainingPlot, type PlotOptions, type PlottedRun, plotComparison, plotTraining } from './plots';
export { showTable, type TableCell } from './table';
export { alpacaPrompt, formatExample, loadTokenizer, showTokens, type Tokenizer, tokenizeExample } from './text';
export {
  type EarlyStoppingOptions,
  earlyStopping,
  type LogRecord,
  type SFTConfig,
  SFTTrainer,
  type SFTTrainerOptions,
  type TrainerCallback,
  type TrainerState,
  type TrainOutput,
} from './train';
export { installedVersions } from './versions';
