/** The plots that notebooks and the command line ask for: shown in the cell, written to files. */
import * as path from 'node:path';
import { checkOptions, type OptionNames } from '../arguments';
import { inNotebook } from '../display';
import { UserError } from '../errors';
import { writeFileAtomic } from '../files';
import { CURVES, type CurveName, type CurveOptions, hasCurve } from './curves';
import { displayPng } from './display';
import { CURVE_OPTIONS, checkRun, checkRuns, checkValues } from './options';
import { renderSvg, svgToPng, svgWidth } from './render';
import { curvesOfRun, type PlottedRun, whyNothing } from './run';
import type { CurveRecord } from './series';
import { comparisonSpec, curveSpec, dashboardSpec } from './specs';

/** Names of the exported files, without extension. */
export const FILE_NAMES: Readonly<Record<CurveName, string>> = {
  loss: 'train_loss',
  accuracy: 'train_accuracy',
  gradNorm: 'train_gradnorm',
  learningRate: 'learning_rate',
};

/** Which curves are drawn, how, and where they are saved. */
export interface PlotOptions extends CurveOptions {
  /** Which curves; by default all that the log has values for. */
  readonly curves?: readonly CurveName[];
  /** Folder for `train_loss.png`, `train_loss.svg`, and so on. */
  readonly saveTo?: string;
}

const OPTIONS: OptionNames<PlotOptions> = { ...CURVE_OPTIONS, curves: true, saveTo: true };

/**
 * Draws the curves of a run: in a notebook all in one picture under the cell, and with `saveTo` each as a PNG and an SVG file.
 * @param run the trainer, which also knows where gradients are clipped and the learning rate of every step; or records with TRL's names,
 *   such as `trainer.log`
 * @throws UserError when there is no such option or curve, nothing can be drawn in that size, the log has nothing to draw, or a file cannot be written
 */
export async function plotTraining(run: readonly CurveRecord[] | PlottedRun, given: PlotOptions = {}): Promise<void> {
  checkRun(run);
  checkOptions('plotTraining', given, OPTIONS);
  checkValues(given);
  const { log, options } = curvesOfRun(run, given);
  const curves = curvesOf(log, options, 'log' in run ? whyNothing(run) : undefined);
  if (inNotebook()) await showInline(dashboardSpec(log, curves, options));
  if (options.saveTo !== undefined) await savePlots(log, options.saveTo, { ...options, title: undefined });
}

/**
 * Writes every curve of a run into a folder, each as PNG (double density) and SVG.
 * @returns the paths of the written files
 * @throws UserError when the log has nothing to draw, or a file cannot be written
 */
export async function savePlots(log: readonly CurveRecord[], folder: string, options: PlotOptions = {}): Promise<string[]> {
  const files: string[] = [];
  for (const name of curvesOf(log, options)) {
    files.push(...(await savePicture(await renderSvg(curveSpec(log, name, options)), path.join(folder, FILE_NAMES[name]))));
  }
  return files;
}

/**
 * Draws runs over each other, one colour a run.
 * @param runs the trainers, or their records, by the names that the legend shall show
 * @throws UserError when there is no such option or curve, nothing can be drawn in that size, no log has anything to draw, or a file cannot be written
 */
export async function plotComparison(
  runs: Readonly<Record<string, readonly CurveRecord[] | Pick<PlottedRun, 'log'>>>,
  options: PlotOptions = {},
): Promise<void> {
  checkRuns(runs);
  const logs = Object.fromEntries(Object.entries(runs).map(([name, run]) => [name, 'log' in run ? run.log : run]));
  checkOptions('plotComparison', options, OPTIONS);
  checkValues(options);
  const curves = curvesOf(Object.values(logs).flat(), options);
  for (const name of options.curves ?? curves.filter((curve) => curve !== 'learningRate')) {
    const svg = await renderSvg(comparisonSpec(logs, name, options));
    if (inNotebook()) await showSvg(svg);
    if (options.saveTo !== undefined) await savePicture(svg, path.join(options.saveTo, `compare_${FILE_NAMES[name]}`));
  }
}

/** @param why there is nothing, where the run's settings say it */
function curvesOf(log: readonly CurveRecord[], options: PlotOptions, why?: string): readonly CurveName[] {
  const curves = (options.curves ?? CURVES).filter((name) => hasCurve(log, name));
  if (curves.length === 0) {
    const found = `${log.length} records, none with ${(options.curves ?? CURVES).join(', ')}`;
    throw new UserError(`The log has nothing to plot${why ? `, as ${why}` : ` (${found}); train first`}.`);
  }
  return curves;
}

async function showInline(spec: Parameters<typeof renderSvg>[0]): Promise<void> {
  await showSvg(await renderSvg(spec));
}

/** As PNG, because every viewer of saved notebooks shows it alike. */
async function showSvg(svg: string): Promise<void> {
  displayPng(await svgToPng(svg), { width: svgWidth(svg) });
}

async function savePicture(svg: string, base: string): Promise<string[]> {
  writeFileAtomic(`${base}.svg`, svg);
  writeFileAtomic(`${base}.png`, await svgToPng(svg));
  return [`${base}.png`, `${base}.svg`];
}
