import type { Dataset } from './dataset';

/** Reads a dataset file: a JSON array or JSONL, in any of the formats of `FileFormat`, which it recognizes. */
export async function loadDataset(_path: string): Promise<Dataset> {
  throw new Error('not there yet');
}
