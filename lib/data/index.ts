/** From files and the Hugging Face Hub to examples. */
export { Dataset, type RowOrigin, type SplitOptions } from './dataset';
export { type DownloadProgress, type ResolveOptions, resolveModel } from './hub';
export { loadDataset } from './load';
export { type MixOptions, mixDatasets } from './mix';
export * from './types';
