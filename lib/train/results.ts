/** What a run gives. */
import type { RunState } from './run-state';

/** Steps, tokens and examples of this session, and the seconds that the steps took. */
export interface Pace {
  steps: number;
  tokens: number;
  examples: number;
  seconds: number;
}

/** Totals of a run, under TRL's names. */
export interface TrainSummary {
  /** Seconds of this session, with evaluation and saving. */
  train_runtime: number;
  train_samples_per_second: number;
  train_steps_per_second: number;
  /** Mean loss of all steps. */
  train_loss: number;
  num_tokens: number;
  /** Tokens per second of optimizer steps, without evaluation and saving. */
  tokens_per_second: number;
  /** Largest resident memory of this process so far, in 10⁹ bytes. */
  peak_memory_gb: number;
  epoch: number;
}

/** What `train` returns. */
export interface TrainOutput {
  /** Optimizer steps done, those before a continued run began included. */
  globalStep: number;
  /** Mean loss of all steps. */
  trainingLoss: number;
  /** Totals of the run, under TRL's names. */
  metrics: TrainSummary;
  /** True when `stop` ended the run early. */
  stopped: boolean;
}

/** @param runtime seconds of this session */
export function summarize({ step, totalLoss, numTokens, epoch }: RunState, pace: Pace, runtime: number): TrainSummary {
  const perSecond = (amount: number, seconds: number) => (seconds > 0 ? amount / seconds : 0);
  return {
    train_runtime: runtime,
    train_samples_per_second: perSecond(pace.examples, runtime),
    train_steps_per_second: perSecond(pace.steps, runtime),
    train_loss: totalLoss / Math.max(step, 1),
    num_tokens: numTokens,
    tokens_per_second: perSecond(pace.tokens, pace.seconds),
    peak_memory_gb: (process.resourceUsage().maxRSS * 1024) / 1e9,
    epoch,
  };
}
