/** From a model to a checkpoint in Hugging Face's layout. */
import type { CausalLM, SaveOptions } from './types';

/** Saves a model so that `loadModel` and transformers open it. */
export async function saveModel(_model: CausalLM, _directory: string, _options: SaveOptions = {}): Promise<void> {
  throw new Error('not yet');
}
