/** Loss and accuracy of a model on prepared examples. */
import { Interruption } from '../interruption';
import type { CausalLM } from '../model';
import { chunks, cutIntoRows } from './batches';
import type { Item } from './examples';
import { hasTargets, scoreRow } from './loss';
import { addScores, type BatchSums, emptySums } from './metrics';

/** An evaluation under TRL's names. */
export interface EvalMetrics {
  /** Mean over the batches of their mean token loss, weighted by their numbers of examples, as transformers computes it. */
  eval_loss: number;
  eval_entropy: number;
  /** Tokens that training had seen by then. */
  eval_num_tokens: number;
  eval_mean_token_accuracy: number;
  /** Seconds. */
  eval_runtime: number;
  eval_samples_per_second: number;
  eval_steps_per_second: number;
  epoch: number;
}

export interface ScoreOptions {
  /** Examples in a batch; matters only to metrics that are ratios per batch. Default 8. */
  batchSize?: number;
  /** Tokens computed at once. Default 1024. */
  tokensPerMicroBatch?: number;
  /** What may end it; default: the notebook's stop button. */
  interruption?: Interruption;
  /** Told the share of the work that is done; awaited. */
  onProgress?: (share: number) => void | Promise<void>;
}

/** Sums over the targets of each batch, and the batch's number of examples. */
export type ScoredBatch = BatchSums & { examples: number };

/** Items that are laid into rows together; finding rows for all of a large dataset at once would take long. */
const ITEMS_AT_ONCE = 512;

/**
 * Scores items. Those of several batches are computed together where they fit.
 * @returns the batches' sums, in order
 * @throws Interrupted
 */
export async function scoreItems(model: CausalLM, items: readonly Item[], options: ScoreOptions = {}): Promise<ScoredBatch[]> {
  const { batchSize = 8, tokensPerMicroBatch = 1024, interruption = new Interruption(), onProgress } = options;
  const batches = chunks(items, batchSize);
  const parts = chunks(batches, Math.ceil(ITEMS_AT_ONCE / batchSize));
  const scored: ScoredBatch[] = [];
  for (const [done, part] of parts.entries()) {
    const sums = emptySums(part.length);
    const rows = cutIntoRows(part, tokensPerMicroBatch).filter(hasTargets);
    for (const [index, row] of rows.entries()) {
      addScores(sums, await scoreRow(model, row));
      await onProgress?.((done + (index + 1) / rows.length) / parts.length);
      await interruption.breathe();
    }
    scored.push(...sums.map((sum, i) => ({ ...sum, examples: part[i].length })));
  }
  return scored;
}

/** Batches' results as TRL averages them. */
export function averageBatches(batches: readonly ScoredBatch[]): { loss: number; entropy: number; accuracy: number } {
  const ratio = (amount: number, { targets }: BatchSums) => (targets > 0 ? amount / targets : 0);
  const examples = batches.reduce((sum, batch) => sum + batch.examples, 0);
  return {
    loss: batches.reduce((sum, batch) => sum + ratio(batch.nll, batch) * batch.examples, 0) / examples,
    entropy: batches.reduce((sum, batch) => sum + ratio(batch.entropy, batch), 0) / batches.length,
    accuracy: batches.reduce((sum, batch) => sum + ratio(batch.correct, batch), 0) / batches.length,
  };
}
