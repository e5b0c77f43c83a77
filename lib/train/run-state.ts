/** The state of a run beside weights and moments: small, plain, and all that a checkpoint needs to continue exactly. */
import { isObject } from '../json';
import type { Best } from './best';
import type { LossScale } from './loss-scaling';
import { emptyWindow, type LogRecord, type LogWindow } from './metrics';

export interface RunState {
  /** Local time at which the run began, for templates that write the date; absent before that. */
  began?: string;
  /** Optimizer steps done. The order of examples follows from it and the seed, so no random state is kept. */
  step: number;
  epoch: number;
  numTokens: number;
  /** Sum of the losses of all steps. */
  totalLoss: number;
  /** What has accumulated since the last log record. */
  window: LogWindow;
  log: LogRecord[];
  /** In mixed precision. */
  lossScale?: LossScale;
  /** The best evaluation so far. */
  best?: Best;
  /** Whole path of its checkpoint, or of that of the last best evaluation that has one; null: there is none. */
  bestCheckpoint: string | null;
}

/** Updates of the weights so far: steps, less those whose gradients overflowed. */
export function updatesOf({ step, lossScale }: RunState): number {
  return step - (lossScale?.skipped ?? 0);
}

/** A run that has not begun. */
export function freshRun(): RunState {
  return { step: 0, epoch: 0, numTokens: 0, totalLoss: 0, window: { ...emptyWindow }, log: [], bestCheckpoint: null };
}

/** Whether a value that was read from a file is a state. */
export function isRunState(value: unknown): value is RunState {
  if (!hasNumbers(value, ['step', 'epoch', 'numTokens', 'totalLoss'])) return false;
  const { began, window, log, lossScale, best, bestCheckpoint } = value;
  return (
    (began === undefined || isTime(began)) &&
    hasNumbers(window, Object.keys(emptyWindow)) &&
    Array.isArray(log) &&
    log.every((record) => hasNumbers(record, ['step', 'epoch'])) &&
    (lossScale === undefined || hasNumbers(lossScale, ['scale', 'updates', 'skipped'])) &&
    (best === undefined || hasNumbers(best, ['step'])) &&
    (bestCheckpoint === null || typeof bestCheckpoint === 'string')
  );
}

function isTime(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}

function hasNumbers(value: unknown, keys: readonly string[]): value is Record<string, unknown> {
  return isObject(value) && keys.every((key) => typeof value[key] === 'number');
}
