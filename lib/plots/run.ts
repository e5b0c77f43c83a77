/** What the plots take from a run: its log, and from its settings what the log does not say. */
import type { SFTConfig } from '../train';
import { makeSchedule } from '../train/schedule';
import type { CurveOptions } from './curves';
import type { CurveRecord } from './series';

/** A run as its trainer has it. */
export interface PlottedRun {
  readonly log: readonly CurveRecord[];
  readonly config: SFTConfig;
  /** Optimizer steps of the whole run. */
  readonly plan: { readonly maxSteps: number };
}

/** The log to draw, and the options with what the run's settings say. */
export function curvesOfRun<O extends CurveOptions>(
  run: readonly CurveRecord[] | PlottedRun,
  options: O,
): { log: readonly CurveRecord[]; options: O } {
  if (!('log' in run)) return { log: run, options };
  return { log: [...run.log, ...ratesBetween(run)], options: { maxGradNorm: run.config.maxGradNorm, ...options } };
}

/**
 * The learning rates of the steps that were not logged, among which the highest often is. None where the log does not follow the
 * schedule: in mixed precision it waits while gradients overflow.
 */
function ratesBetween({ log, config, plan }: PlottedRun): CurveRecord[] {
  const schedule = makeSchedule(config, plan.maxSteps);
  const rateOf = (step: number): number => config.learningRate * schedule(step - 1);
  const logged = new Set<number>();
  let last = 0;
  for (const { step, learning_rate: rate } of log) {
    if (rate === undefined) continue;
    if (!(Math.abs(rate - rateOf(step)) <= 1e-9 * config.learningRate)) return [];
    logged.add(step);
    last = Math.max(last, step);
  }
  const steps = Array.from({ length: last }, (_, i) => i + 1).filter((step) => !logged.has(step));
  return steps.map((step) => ({ step, learning_rate: rateOf(step) }));
}

/** Why a run logs nothing, trained or not: it is shorter than the steps between two records. */
export function whyNothing({ log, config: { loggingStrategy, loggingSteps }, plan: { maxSteps } }: PlottedRun): string | undefined {
  if (log.length > 0 || loggingStrategy !== 'steps' || loggingSteps <= maxSteps) return undefined;
  const steps = maxSteps === 1 ? '1 step' : `${maxSteps} steps`;
  return `loggingSteps is ${loggingSteps} and the run has ${steps}; set loggingSteps: 1 and train again`;
}
