/** From files and the Hugging Face Hub to examples. */
export { Dataset, type RowOrigin, type SplitOptions } from './dataset';
export { type DownloadProgress, type ResolveOptions, resolveModel } from './hub';
export { type LoadDatasetOptions, loadDataset } from './load';
export { type MixOptions, mixDatasets } from './mix';
export { roundHalfEven } from './split';
export * from './types';
