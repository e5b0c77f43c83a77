/** When to log, evaluate and save: TRL's strategies and intervals. */
import type { RunPlan } from './batches';
import type { SFTConfig } from './config';

/** What is due after a step. */
export interface Due {
  log: boolean;
  evaluate: boolean;
  save: boolean;
  /** Whether the evaluation comes before the log: as in transformers, what is due after a step comes before what is due after an epoch. */
  evaluateFirst: boolean;
}

export type CadenceConfig = Pick<
  SFTConfig,
  'loggingStrategy' | 'loggingSteps' | 'loggingFirstStep' | 'evalStrategy' | 'evalSteps' | 'evalDelay' | 'saveStrategy' | 'saveSteps'
>;

/** @param finishing whether the run ends with this step, planned or not */
export function dueAfterStep(config: CadenceConfig, step: number, { maxSteps, stepsPerEpoch }: RunPlan, finishing = false): Due {
  const every = (interval: number) => step % stepsOf(interval, maxSteps) === 0;
  const last = step === maxSteps;
  const epochEnds = finishing || last || step % stepsPerEpoch === 0;
  const delay = config.evalDelay * (config.evalStrategy === 'epoch' ? stepsPerEpoch : 1);
  const due = (strategy: string, interval: number, atEnd: boolean) =>
    strategy === 'epoch' ? epochEnds : strategy === 'steps' && (every(interval) || (atEnd && last));
  const logsFirst = config.loggingFirstStep && step === 1;
  return {
    log: due(config.loggingStrategy, config.loggingSteps, false) || logsFirst,
    evaluate: step >= delay && due(config.evalStrategy, config.evalSteps ?? config.loggingSteps, true),
    save: due(config.saveStrategy, config.saveSteps, true),
    evaluateFirst: config.evalStrategy === 'steps' && config.loggingStrategy === 'epoch' && !logsFirst,
  };
}

/** What is due beside the log. */
export type DueBesideLog = Pick<Due, 'evaluate' | 'save'>;

/** What of it is not done yet. */
export function stillDue(due: Due, done: Due): DueBesideLog {
  return { evaluate: due.evaluate && !done.evaluate, save: due.save && !done.save };
}

/** The steps after `from` at which a run may write a checkpoint. */
export function savingSteps(config: CadenceConfig, plan: RunPlan, from = 0): number[] {
  const steps: number[] = [];
  for (let step = from + 1; step <= plan.maxSteps; step++) {
    const { save, evaluate } = dueAfterStep(config, step, plan);
    if (config.saveStrategy === 'best' ? evaluate : save) steps.push(step);
  }
  return steps;
}

/** An interval in steps; below 1 it is a share of all steps. */
function stepsOf(interval: number, maxSteps: number): number {
  return interval < 1 ? Math.max(1, Math.ceil(interval * maxSteps)) : interval;
}
