/** Metrics of training and evaluation: sums over targets, ratios per micro-batch, means over a logging window, as TRL logs them. */
import type { RowScores } from './loss';

/** Sums over the targets of one micro-batch. */
export interface BatchSums {
  targets: number;
  loss: number;
  correct: number;
  entropy: number;
  /** Its router loss, where the model has experts (router-loss.ts). */
  aux?: number;
}

/** One micro-batch after another, each starting at zero. */
export function emptySums(count: number): BatchSums[] {
  return Array.from({ length: count }, () => ({ targets: 0, loss: 0, correct: 0, entropy: 0 }));
}

/** Adds a row's targets to the sums of the micro-batches that they belong to. */
export function addScores(sums: BatchSums[], { loss, argmax, entropy, targets, owners, aux }: RowScores): void {
  for (const [i, owner] of owners.entries()) {
    const sum = sums[owner];
    sum.targets++;
    sum.loss += loss[i];
    sum.entropy += entropy[i];
    if (argmax[i] === targets[i]) sum.correct++;
  }
  if (!aux) return;
  for (const [i, sum] of sums.entries()) sum.aux = (sum.aux ?? 0) + aux[i];
}

/** Sum of the router losses of micro-batches; undefined where they have none. */
export function sumOfAux(batches: readonly BatchSums[]): number | undefined {
  return batches.reduce<number | undefined>((sum, { aux }) => (aux === undefined ? sum : (sum ?? 0) + aux), undefined);
}

/**
 * The loss of an optimizer step: that of the targets, as a mean over all of them, and the router losses of its micro-batches.
 * @param weight of each router loss, where there are any
 */
export function lossOfStep(sums: readonly BatchSums[], targets: number, weight = 0): number {
  return sums.reduce((sum, batch) => sum + batch.loss, 0) / targets + weight * (sumOfAux(sums) ?? 0);
}

/** What accumulates between two log records; plain numbers, so that a checkpoint keeps it exactly. */
export interface LogWindow {
  steps: number;
  /** Sum of the steps' losses. */
  loss: number;
  microBatches: number;
  /** Sums of the micro-batches' ratios. */
  accuracy: number;
  entropy: number;
  /** Sum of the router losses, where there are any. */
  aux?: number;
}

export const emptyWindow: Readonly<LogWindow> = { steps: 0, loss: 0, microBatches: 0, accuracy: 0, entropy: 0 };

/** The window with one optimizer step more. */
export function addStep(window: Readonly<LogWindow>, loss: number, microBatches: readonly BatchSums[]): LogWindow {
  const ratio = (pick: (sums: BatchSums) => number) =>
    microBatches.reduce((sum, batch) => sum + (batch.targets > 0 ? pick(batch) / batch.targets : 0), 0);
  const aux = sumOfAux(microBatches);
  return {
    steps: window.steps + 1,
    loss: window.loss + loss,
    microBatches: window.microBatches + microBatches.length,
    accuracy: window.accuracy + ratio(({ correct }) => correct),
    entropy: window.entropy + ratio(({ entropy }) => entropy),
    ...(aux !== undefined && { aux: (window.aux ?? 0) + aux }),
  };
}

/** The metrics of an evaluation, by their names without `eval_`. */
export const EVAL_METRICS = [
  'loss',
  'entropy',
  'num_tokens',
  'mean_token_accuracy',
  'runtime',
  'samples_per_second',
  'steps_per_second',
] as const;

export type EvalMetricName = (typeof EVAL_METRICS)[number];

/**
 * One logged step, under TRL's names. A training record has `loss`, an evaluation record `eval_loss`.
 * Holds nothing that depends on the clock, so that the same run always logs the same.
 */
export interface LogRecord {
  /** Sum of the token losses over the targets of a step, divided by their number; mean over the steps of the window. */
  loss?: number;
  /** Global norm of the last step's gradients, before clipping. */
  grad_norm?: number;
  /** Rate that the last step used. */
  learning_rate?: number;
  /** Mean entropy of the predicted distributions, in nats. */
  entropy?: number;
  /** Tokens seen since the run began. */
  num_tokens?: number;
  /** Share of targets that were the likeliest token. */
  mean_token_accuracy?: number;
  /** Of models with experts: mean router loss of the micro-batches, of which the loss has router_aux_loss_coef times as much. */
  aux_loss?: number;
  eval_loss?: number;
  eval_entropy?: number;
  eval_mean_token_accuracy?: number;
  eval_num_tokens?: number;
  eval_aux_loss?: number;
  /** Epochs done; fractions count micro-batches. */
  epoch: number;
  /** Optimizer steps done. */
  step: number;
}

/** The record of the steps since the last one; a norm that overflowed is left out. */
export function stepRecord(
  window: LogWindow,
  { norm, learningRate, numTokens, epoch, step }: Record<'norm' | 'learningRate' | 'numTokens' | 'epoch' | 'step', number>,
): LogRecord {
  return {
    loss: window.loss / window.steps,
    ...(Number.isFinite(norm) && { grad_norm: norm }),
    learning_rate: learningRate,
    entropy: window.entropy / window.microBatches,
    num_tokens: numTokens,
    mean_token_accuracy: window.accuracy / window.microBatches,
    ...(window.aux !== undefined && { aux_loss: window.aux / window.microBatches }),
    epoch,
    step,
  };
}
