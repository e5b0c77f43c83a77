/** What the plots take from a run: its log, and from its settings what the log does not say. */
import type { SFTConfig } from '../train';
import type { CurveRecord } from './series';
import type { CurveOptions } from './specs';

/** A run as its trainer has it. */
export interface PlottedRun {
  readonly log: readonly CurveRecord[];
  readonly config: Pick<SFTConfig, 'maxGradNorm'>;
}

/** The log to draw, and the options with what the run's settings say. */
export function curvesOfRun<O extends CurveOptions>(
  run: readonly CurveRecord[] | PlottedRun,
  options: O,
): { log: readonly CurveRecord[]; options: O } {
  if (!('log' in run)) return { log: run, options };
  return { log: run.log, options: { maxGradNorm: run.config.maxGradNorm, ...options } };
}
