/** What plots are given, looked at for those who write JavaScript. */
import type { OptionNames } from '../arguments';
import { UserError } from '../errors';
import { describe, isObject, showValue } from '../json';
import { CURVES, type CurveOptions } from './curves';

/** Names of the options that all plots have. */
export const CURVE_OPTIONS: OptionNames<CurveOptions> = {
  title: true,
  subtitle: true,
  smoothing: true,
  logScale: true,
  width: true,
  height: true,
  maxGradNorm: true,
  config: true,
};

/** Pixels on a side of the largest plot: sharp refuses pictures of more than 32,767, and draws two for each of a plot's. */
const MOST_PIXELS = 8000;

/** @throws UserError for a curve that there is none of, and numbers that nothing can be drawn by */
export function checkValues({ curves, width, height, smoothing }: CurveOptions & { readonly curves?: unknown }): void {
  checkCurves(curves);
  for (const [name, pixels] of Object.entries({ width, height }))
    if (pixels !== undefined && !(pixels > 0 && pixels <= MOST_PIXELS))
      throw new UserError(`${name} is ${showValue(pixels)}, but must be a number of pixels, above 0 and at most ${MOST_PIXELS}.`);
  if (smoothing !== undefined && !(smoothing >= 0 && smoothing < 1))
    throw new UserError(`smoothing is ${showValue(smoothing)}, but must be a number, at least 0 and below 1.`);
}

function checkCurves(curves: unknown): void {
  if (curves === undefined) return;
  const known = new Intl.ListFormat('en').format(CURVES);
  if (!Array.isArray(curves)) throw new UserError(`curves is ${describe(curves)}; give a list with some of ${known}.`);
  const other = curves.find((curve) => !CURVES.includes(curve));
  if (other !== undefined) throw new UserError(`There is no curve ${showValue(other)}; choose from ${known}.`);
}

/** @throws UserError for what is neither a trainer nor a log, such as the name of its file */
export function checkRun(run: unknown): void {
  const isTrainer = isObject(run) && Array.isArray(run.log) && isObject(run.config) && isObject(run.plan);
  if (Array.isArray(run) || isTrainer) return;
  throw new UserError(`The run of plotTraining is ${describe(run)}; give the trainer, or its records (trainer.log).`);
}

/** @throws UserError for what is no table of trainers or logs */
export function checkRuns(runs: unknown): void {
  if (typeof runs !== 'object' || runs === null)
    throw new UserError(`The runs of plotComparison are ${describe(runs)}; give a table such as { first: trainer }.`);
  const other = Object.entries(runs).find(([, run]) => !Array.isArray(isObject(run) ? run.log : run));
  if (other)
    throw new UserError(`The run ${other[0]} of plotComparison is ${describe(other[1])}; give its trainer, or its records (trainer.log).`);
}
