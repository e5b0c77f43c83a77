/** Loss and accuracy of a model on prepared examples. */
import { UserError } from '../errors';
import { Interruption } from '../interruption';
import { type CausalLM, unstretchedLength } from '../model';
import { chunks, cutIntoRows, orderOfEvaluation } from './batches';
import { type SFTConfig, TOKENS_PER_MICRO_BATCH } from './config';
import type { Item } from './examples';
import { hasTargets, scoreRow } from './loss';
import { addScores, type BatchSums, emptySums, sumOfAux } from './metrics';
import type { LossSettings } from './objective';
import { type RouterLossSettings, weightOfRouterLoss } from './router-loss';

/** How fast an evaluation was. */
interface EvalSpeed {
  /** Seconds. */
  eval_runtime: number;
  eval_samples_per_second: number;
  eval_steps_per_second: number;
}

/** An evaluation under TRL's names. */
export interface EvalMetrics extends EvalSpeed {
  /** Mean over the batches of their mean token loss, weighted by their numbers of examples, as transformers computes it. */
  eval_loss: number;
  eval_entropy: number;
  /** Tokens that training had seen by then. */
  eval_num_tokens: number;
  eval_mean_token_accuracy: number;
  /** Of models with experts: mean over the batches of their router loss; a part of the loss (router_aux_loss_coef). */
  eval_aux_loss?: number;
  epoch: number;
}

export interface ScoreOptions extends LossSettings, RouterLossSettings {
  /** Examples in a batch; matters only to metrics that are ratios per batch, and where positions stretch (dynamic RoPE). Default 8. */
  batchSize?: number;
  /** Tokens computed at once; default as in training. */
  tokensPerMicroBatch?: number;
  /** What may end it; default: the notebook's stop button. */
  interruption?: Interruption;
  /** Told the share of the work that is done; awaited. */
  onProgress?: (share: number) => void | Promise<void>;
}

/** Sums over the targets of each batch, and the batch's number of examples. */
export type ScoredBatch = BatchSums & { examples: number };

/** @throws UserError when a run is to be evaluated, but there is nothing to do that on */
export function checkEvaluation({ evalStrategy, evalOnStart }: Pick<SFTConfig, 'evalStrategy' | 'evalOnStart'>, dataset: unknown): void {
  if (dataset) return;
  const missing = 'but there is no evaluation dataset; give evalDataset, or set';
  if (evalStrategy !== 'no') throw new UserError(`eval_strategy is ${evalStrategy}, ${missing} eval_strategy: 'no'.`);
  if (evalOnStart) throw new UserError(`eval_on_start is true, ${missing} eval_on_start: false.`);
}

/**
 * The items that an evaluation counts, in its order: with dataloader_drop_last without the last batch if it is not full, as in transformers.
 * @throws UserError when that leaves none
 */
export function evaluatedItems(
  prepared: readonly Item[],
  config: Pick<SFTConfig, 'dataloaderDropLast' | 'perDeviceEvalBatchSize' | 'trainSamplingStrategy' | 'seed' | 'dataSeed'>,
): readonly Item[] {
  const { dataloaderDropLast, perDeviceEvalBatchSize: size } = config;
  const items = orderOfEvaluation(prepared, config).map((index) => prepared[index]);
  if (!dataloaderDropLast) return items;
  const whole = items.slice(0, items.length - (items.length % size));
  if (whole.length > 0) return whole;
  throw new UserError(
    `dataloader_drop_last leaves nothing of ${items.length} evaluation examples in batches of ${size}; choose a smaller per_device_eval_batch_size.`,
  );
}

/** Items that are laid into rows together; finding rows for all of a large dataset at once would take long. */
const ITEMS_AT_ONCE = 512;

/**
 * Scores items. Those of several batches are computed together where they fit.
 * @returns the batches' sums, in order
 * @throws Interrupted
 */
export async function scoreItems(model: CausalLM, items: readonly Item[], options: ScoreOptions = {}): Promise<ScoredBatch[]> {
  const {
    batchSize = 8,
    tokensPerMicroBatch = TOKENS_PER_MICRO_BATCH,
    interruption = new Interruption(),
    onProgress,
    ...settings
  } = options;
  const hasRouterLoss = weightOfRouterLoss(model, settings) !== undefined;
  const batches = chunks(items, batchSize);
  const parts = chunks(batches, Math.ceil(ITEMS_AT_ONCE / batchSize));
  const scored: ScoredBatch[] = [];
  for (const [done, part] of parts.entries()) {
    const sums = emptySums(part.length);
    const rows = cutIntoRows(part, tokensPerMicroBatch, {
      unstretched: unstretchedLength(model.config),
      sharesPrefixes: !model.config.keepsState,
      keepsWhole: hasRouterLoss,
    }).filter(hasTargets);
    for (const [index, row] of rows.entries()) {
      addScores(sums, await scoreRow(model, row, settings, hasRouterLoss ? part.length : undefined));
      await onProgress?.((done + (index + 1) / rows.length) / parts.length);
      await interruption.breathe();
    }
    scored.push(...sums.map((sum, i) => ({ ...sum, examples: part[i].length })));
  }
  return scored;
}

/**
 * Batches' results as TRL averages them.
 * @param numTokens that training had seen
 * @param weight of the router loss in the loss
 */
export function averageBatches(
  batches: readonly ScoredBatch[],
  numTokens: number,
  weight = 0,
): Omit<EvalMetrics, keyof EvalSpeed | 'epoch'> {
  const ratio = (amount: number, { targets }: BatchSums) => (targets > 0 ? amount / targets : 0);
  const examples = batches.reduce((sum, batch) => sum + batch.examples, 0);
  const aux = sumOfAux(batches);
  return {
    eval_loss: batches.reduce((sum, batch) => sum + (ratio(batch.loss, batch) + weight * (batch.aux ?? 0)) * batch.examples, 0) / examples,
    eval_entropy: batches.reduce((sum, batch) => sum + ratio(batch.entropy, batch), 0) / batches.length,
    eval_num_tokens: numTokens,
    eval_mean_token_accuracy: batches.reduce((sum, batch) => sum + ratio(batch.correct, batch), 0) / batches.length,
    ...(aux !== undefined && { eval_aux_loss: aux / batches.length }),
  };
}
