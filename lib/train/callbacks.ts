/** What others may listen to while a trainer works. */
import type { SFTConfig } from './config';
import type { EvalMetrics } from './evaluation';
import type { LogRecord } from './metrics';
import type { TrainOutput } from './results';

/** Where a run stands. */
export interface TrainerState {
  /** All settings of the run. */
  readonly config: SFTConfig;
  /** Optimizer steps done. */
  readonly step: number;
  readonly maxSteps: number;
  /** Share of the step at work that is done; 0 between steps. */
  readonly stepShare: number;
  /** Share of the evaluation at work that is done; 0 before and after it. */
  readonly evaluationShare: number;
  /** Epochs done; fractions count micro-batches. */
  readonly epoch: number;
  /** Tokens seen since the run began. */
  readonly numTokens: number;
  /** Everything logged so far, oldest first. */
  readonly log: readonly LogRecord[];
  /** Tokens trained per second of this session, without evaluation and saving; 0 before the first step. */
  readonly tokensPerSecond: number;
  /** Seconds that the remaining steps will take at this pace; undefined before the first step. */
  readonly secondsLeft: number | undefined;
  /** Ends the run after the micro-batch at work; model and log stay usable. */
  stop(): void;
  /**
   * Ends the run after the step at work as if it were the last of its epoch and of the run: what is due once an epoch is done, with
   * `loadBestModelAtEnd` the best weights are loaded, and the run has finished. Before the first step, none is done.
   */
  finish(): void;
}

/** Called by the trainer, each awaited before it goes on. All are optional. */
export interface TrainerCallback {
  onTrainBegin?(state: TrainerState): void | Promise<void>;
  onStepBegin?(state: TrainerState): void | Promise<void>;
  /** A part of a step is done, and others are to come: see `stepShare`. */
  onSubstepEnd?(state: TrainerState): void | Promise<void>;
  onStepEnd?(state: TrainerState): void | Promise<void>;
  /** A training record or an evaluation record was logged. */
  onLog?(state: TrainerState, record: LogRecord): void | Promise<void>;
  /** A part of an evaluation is done: see `evaluationShare`. */
  onPredictionStep?(state: TrainerState): void | Promise<void>;
  onEvaluate?(state: TrainerState, metrics: EvalMetrics): void | Promise<void>;
  /** A checkpoint was written completely. */
  onSave?(state: TrainerState, folder: string): void | Promise<void>;
  /** Something to tell the user once, such as how many examples were cut. */
  onNote?(line: string): void | Promise<void>;
  onTrainEnd?(state: TrainerState, output: TrainOutput): void | Promise<void>;
  /** The run ended with an error, which the caller of `train` gets too. */
  onTrainError?(state: TrainerState, error: unknown): void | Promise<void>;
}
