/** The end of a run that no longer gets better, as transformers' EarlyStoppingCallback finds it. */
import { checkOptions, type OptionNames } from '../arguments';
import { UserError } from '../errors';
import { showValue } from '../json';
import { decidingMetric } from './best';
import type { TrainerCallback, TrainerState } from './callbacks';
import type { SFTConfig } from './config';

export interface EarlyStoppingOptions {
  /** Evaluations one after another without a sufficient improvement after which the run ends; default 1. */
  patience?: number;
  /** By more than this `metricForBestModel` must improve on its best value, in its own unit; default 0. */
  threshold?: number;
}

const OPTIONS: OptionNames<EarlyStoppingOptions> = { patience: true, threshold: true };

/** What transformers calls otherwise. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ...{ early_stopping_patience: 'patience', earlyStoppingPatience: 'patience' },
  ...{ early_stopping_threshold: 'threshold', earlyStoppingThreshold: 'threshold' },
};

/**
 * A callback that ends a run, as finished, after `patience` evaluations in which `metricForBestModel` did not improve on the best one before
 * by more than `threshold`. With `loadBestModelAtEnd` the model then has its best weights, else its last. A continued run counts the
 * evaluations before its checkpoint, too.
 * @throws UserError for an option that there is not or that is out of range, and when the run begins without evaluations or without a metric to watch
 */
export function earlyStopping(options: EarlyStoppingOptions = {}): TrainerCallback {
  checkOptions('earlyStopping', options, OPTIONS, ELSEWHERE);
  const { patience = 1, threshold = 0 } = options;
  if (!Number.isInteger(patience) || patience < 0)
    throw new UserError(`earlyStopping: patience is ${showValue(patience)}, but must be a whole number of evaluations, at least 0.`);
  if (!Number.isFinite(threshold) || threshold < 0)
    throw new UserError(`earlyStopping: threshold is ${showValue(threshold)}, but must be a number, at least 0.`);
  let values: number[] = [];
  const failures = ({ config }: TrainerState): number => failuresAtEnd(values, { greater: greaterIsBetter(config), threshold });
  return {
    onTrainBegin(state) {
      checkConfig(state.config);
      values = loggedValues(state);
      if (values.length > 0 && failures(state) >= patience) state.finish();
    },
    onEvaluate(state, metrics) {
      // the one before the first step is not compared with
      if (state.step > 0) values.push(metrics[metricOf(state.config)]);
      if (failures(state) >= patience) state.finish();
    },
  };
}

function checkConfig({ evalStrategy, metricForBestModel, loadBestModelAtEnd }: SFTConfig): void {
  if (evalStrategy === 'no') throw new UserError('earlyStopping needs evaluations, but evalStrategy is no; set it to steps or epoch.');
  if (metricForBestModel === null && !loadBestModelAtEnd)
    throw new UserError('earlyStopping needs a metric to watch; set metricForBestModel, such as loss, or loadBestModelAtEnd: true.');
}

const metricOf = (config: SFTConfig) => `eval_${decidingMetric(config) ?? 'loss'}` as const;

const greaterIsBetter = (config: SFTConfig): boolean => config.greaterIsBetter ?? !metricOf(config).endsWith('loss');

/** The metric in the evaluations of the run so far; numbers that JSON cannot write come back from a checkpoint as null. */
function loggedValues({ log, config }: TrainerState): number[] {
  const name = metricOf(config);
  const evaluations = log.filter((record) => record.step > 0).map((record): Partial<Record<string, unknown>> => ({ ...record }));
  return evaluations.filter((record) => name in record).map((record) => Number(record[name] ?? Number.NaN));
}

/** How many evaluations at the end did not improve enough on the best value before them. */
function failuresAtEnd(values: readonly number[], { greater, threshold }: { greater: boolean; threshold: number }): number {
  const isBetter = (value: number, than: number): boolean => (greater ? value > than : value < than);
  let best: number | undefined;
  let failures = 0;
  for (const value of values) {
    const improved = best === undefined || (isBetter(value, best) && Math.abs(value - best) > threshold);
    failures = improved ? 0 : failures + 1;
    best ??= greater ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    if (isBetter(value, best)) best = value;
  }
  return failures;
}
