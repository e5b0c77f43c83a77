/** From a checkpoint on disk or on the Hub to a model. */
import type { CausalLM, CreateOptions, LoadOptions } from './types';

/** Loads a model and its tokenizer from a folder or a Hub id. */
export async function loadModel(_dirOrId: string, _options: LoadOptions = {}): Promise<CausalLM> {
  throw new Error('not yet');
}

/** Makes a model with fresh random weights, as Hugging Face initializes them. */
export function createModel(_config: Record<string, unknown>, _options: CreateOptions): CausalLM {
  throw new Error('not yet');
}
