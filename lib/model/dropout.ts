/** What is dropped while a model is trained: of its hidden states, as its configuration says, and of its adapter's inputs. */
import { Dropout, type DropoutPlaces } from '../engine';
import type { Random } from '../random';
import type { CausalLM } from './types';

/** The chance of one row of tokens; the caller disposes of it. */
export interface RowDropout {
  hidden?: Dropout;
  adapter?: Dropout;
}

/**
 * Draws what is dropped of a row.
 * @param tokens rows that its hidden states have at most
 */
export function drawDropout({ config, adapter }: CausalLM, tokens: number, random: Random): RowDropout {
  const draw = (share: number, places: DropoutPlaces) => (share > 0 ? new Dropout(places, share, random) : undefined);
  // the embeddings, and two sublayers of each layer
  const sublayers = 1 + 2 * config.numHiddenLayers;
  const hidden = draw(config.hiddenDropout, { places: sublayers, tokens, features: config.hiddenSize });
  if (!adapter) return { hidden };
  const features = adapter.layers.reduce((most, { a }) => Math.max(most, a.shape[1]), 0);
  return { hidden, adapter: draw(adapter.settings.loraDropout, { places: adapter.layers.length, tokens, features }) };
}
