/** What a run gives. */

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

export interface TrainOutput {
  globalStep: number;
  trainingLoss: number;
  metrics: TrainSummary;
  /** True when `stop` ended the run early. */
  stopped: boolean;
}
