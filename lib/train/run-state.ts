/** The state of a run beside weights and moments: small, plain, and all that a checkpoint needs to continue exactly. */
import { isObject } from '../json';
import { createTorchRandom, isTorchState, restoreTorchRandom } from '../torch-random';
import { type RunPlan, type StepBatch, stepsOfEpoch } from './batches';
import type { Best } from './best';
import type { SFTConfig } from './config';
import type { Item } from './examples';
import type { LossScale } from './loss-scaling';
import { emptyWindow, type LogRecord, type LogWindow } from './metrics';

export interface RunState {
  /** Local time at which the run began, for templates that write the date; absent before that. */
  began?: string;
  /** Optimizer steps done. */
  step: number;
  epoch: number;
  numTokens: number;
  /** Sum of the losses of all steps. */
  totalLoss: number;
  /** The stream of random numbers that all of TRL's program shares, as it stands. */
  random: string;
  /** How it stood where an epoch began, counted from 0: the order of the epoch's examples follows from that. */
  epochStart?: { epoch: number; random: string };
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

/** The steps of the epoch that a run is in, from where it stands; the epoch begins if it has not begun. */
export function stepsLeft(items: readonly Item[], config: SFTConfig, state: RunState, { stepsPerEpoch }: RunPlan): StepBatch[] {
  const epoch = Math.floor(state.step / stepsPerEpoch);
  const begun = state.epochStart?.epoch === epoch ? state.epochStart : undefined;
  const start = begun ?? { epoch, random: state.random };
  const random = restoreTorchRandom(start.random);
  const steps = stepsOfEpoch(items, config, epoch, random);
  if (!begun) state.random = random.state();
  state.epochStart = start;
  return steps.slice(state.step % stepsPerEpoch);
}

/** Updates of the weights so far: steps, less those whose gradients overflowed. */
export function updatesOf({ step, lossScale }: RunState): number {
  return step - (lossScale?.skipped ?? 0);
}

/** A run that has not begun. */
export function freshRun(seed: number): RunState {
  const random = createTorchRandom(seed).state();
  return { step: 0, epoch: 0, numTokens: 0, totalLoss: 0, random, window: { ...emptyWindow }, log: [], bestCheckpoint: null };
}

/** Whether a value that was read from a file is a state. */
export function isRunState(value: unknown): value is RunState {
  if (!hasNumbers(value, ['step', 'epoch', 'numTokens', 'totalLoss'])) return false;
  const { began, random, epochStart, window, log, lossScale, best, bestCheckpoint } = value;
  return (
    (began === undefined || isTime(began)) &&
    isTorchState(random) &&
    (epochStart === undefined || (hasNumbers(epochStart, ['epoch']) && isTorchState(epochStart.random))) &&
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
