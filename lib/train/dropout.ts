/** Dropout of a run: what a row drops, and for how long. */
import { type CausalLM, drawDropout, type TokenBatch } from '../model';
import type { Random } from '../random';

/** What a row's dropout is drawn for, and from. */
export interface RowDropoutOptions {
  /** Rows of its hidden states at most; of the last layer's there may be more than the row has tokens. */
  tokens: number;
  random: Random;
}

/** Until the returned function is called, a row is computed with some of its numbers dropped, where model or adapter ask for it. */
export function startDropout(model: CausalLM, batch: TokenBatch, { tokens, random }: RowDropoutOptions): () => void {
  const { adapter } = model;
  const dropout = drawDropout(model, tokens, random);
  batch.dropout = dropout.hidden;
  if (adapter) adapter.dropout = dropout.adapter;
  return () => {
    batch.dropout = undefined;
    if (adapter) adapter.dropout = undefined;
    dropout.hidden?.dispose();
    dropout.adapter?.dispose();
  };
}
