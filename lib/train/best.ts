/** Which evaluation is the best of a run. */
import type { SFTConfig } from './config';
import type { EvalMetrics } from './evaluation';
import { EVAL_METRICS, type EvalMetricName } from './metrics';

/** An evaluation that was the best so far. */
export interface Best {
  metric: number;
  step: number;
}

/**
 * Whether the best checkpoint outlasts save_total_limit: whenever something says what is best, as in transformers, even if the run does not
 * end with it.
 */
export function keepsBest({
  loadBestModelAtEnd,
  metricForBestModel,
  saveStrategy,
}: Pick<SFTConfig, 'loadBestModelAtEnd' | 'metricForBestModel' | 'saveStrategy'>): boolean {
  return loadBestModelAtEnd || metricForBestModel !== null || saveStrategy === 'best';
}

type BestConfig = Pick<SFTConfig, 'metricForBestModel' | 'greaterIsBetter'>;

/** The metric that decides, by its name without `eval_`; undefined where no evaluation has the one that was asked for. */
export function decidingMetric({ metricForBestModel }: BestConfig): EvalMetricName | undefined {
  const asked = (metricForBestModel ?? 'loss').replace(/^eval_/, '');
  return EVAL_METRICS.find((name) => name === asked);
}

/**
 * Whether an evaluation after `step` beats the best one before it; unless told otherwise, the greater value wins, but for losses. What is
 * not a number, or infinitely bad, is never the best.
 * @returns the new best, or undefined when the old one stays
 */
export function betterOf(best: Best | undefined, metrics: EvalMetrics, step: number, config: BestConfig): Best | undefined {
  const name = decidingMetric(config) ?? 'loss';
  const metric = metrics[`eval_${name}`];
  const greater = config.greaterIsBetter ?? !name.endsWith('loss');
  const before = best?.metric ?? (greater ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY);
  const isBetter = greater ? metric > before : metric < before;
  return isBetter ? { metric, step } : undefined;
}
