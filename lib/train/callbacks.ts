/** What others may listen to while a trainer works. */
import { type OptionNames, shown } from '../arguments';
import { UserError } from '../errors';
import { isObject } from '../json';
import { nearest } from '../nearest';
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

const EVENTS: OptionNames<TrainerCallback> = {
  onTrainBegin: true,
  onStepBegin: true,
  onSubstepEnd: true,
  onStepEnd: true,
  onLog: true,
  onPredictionStep: true,
  onEvaluate: true,
  onSave: true,
  onNote: true,
  onTrainEnd: true,
  onTrainError: true,
};

/** @throws UserError when callbacks are no list of them, or one would never be called as it is meant */
export function checkCallbacks(callbacks: unknown): void {
  if (callbacks === undefined || callbacks === null) return;
  if (!Array.isArray(callbacks))
    throw new UserError(`The callbacks of SFTTrainer are ${shown(callbacks)}; give a list, such as [earlyStopping({ patience: 3 })].`);
  for (const [index, callback] of callbacks.entries()) checkCallback(callback, `Callback ${index + 1} of SFTTrainer`);
}

function checkCallback(callback: unknown, which: string): void {
  const known = Object.keys(EVENTS);
  if (!isObject(callback)) throw new UserError(`${which} is ${shown(callback)}; give an object with functions such as onLog or onStepEnd.`);
  const names = functionsOf(callback);
  const other = names.find((name) => /^on[A-Z_]/.test(name) && !known.includes(name));
  const meant =
    other &&
    nearest(
      other.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()),
      known,
    );
  if (other)
    throw new UserError(
      `${which} has ${other}, which is no event; ${meant === undefined ? `there are ${known.join(', ')}` : `write ${meant}`}.`,
    );
  if (!names.some((name) => known.includes(name))) throw new UserError(`${which} has none of the events ${known.join(', ')}.`);
}

/** Names of the functions of an object, its class's included. */
function functionsOf(object: object): string[] {
  const names: string[] = [];
  for (let at: object | null = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    const own = Object.entries(Object.getOwnPropertyDescriptors(at));
    names.push(...own.filter(([, { value }]) => typeof value === 'function').map(([name]) => name));
  }
  return names;
}
