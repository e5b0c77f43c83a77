/** One dataset out of several. */
import { checkOptions, checkSeed, type OptionNames, shown } from '../arguments';
import { UserError } from '../errors';
import { createRandom, shuffled } from '../random';
import { Dataset, type RowOrigin } from './dataset';
import type { Example } from './types';

export interface MixOptions {
  /** The share of each dataset in the result, in any unit; without it every row of every dataset is taken. */
  weights?: readonly number[];
  /** Decides which rows are taken and their order. Default 0. */
  seed?: number;
}

const OPTIONS: OptionNames<MixOptions> = { weights: true, seed: true };

/**
 * Mixes datasets in a random order. With weights, as many rows are taken as the shares allow without repeating a row:
 * [0.8, 0.2] of 1000 and 100 rows gives 400 and 100.
 * @throws UserError when there is no dataset or no such option, or the weights are not one number above 0 for each
 */
export function mixDatasets(datasets: readonly Dataset[], options: MixOptions = {}): Dataset {
  checkDatasets(datasets);
  checkOptions('mixDatasets', options, OPTIONS, { probabilities: 'weights' });
  const { weights, seed = 0 } = options;
  checkSeed(seed);
  if (datasets.length === 0) throw new UserError('mixDatasets needs at least one dataset.');
  const random = createRandom(seed);
  const counts = weights ? countsOf(datasets, weights) : datasets.map((dataset) => dataset.length);
  const taken = datasets.flatMap((dataset, which) => {
    const chosen = shuffled([...dataset.rows.keys()], random).slice(0, counts[which]);
    return chosen.map((index): [Example, RowOrigin] => [dataset.rows[index], dataset.originOf(index)]);
  });
  const mixed = shuffled(taken, random);
  const notes = [...new Set([...datasets.flatMap((dataset) => dataset.notes), ...unusedNotes(datasets, counts)])];
  return new Dataset(
    mixed.map(([row]) => row),
    { origins: mixed.map(([, origin]) => origin), notes },
  );
}

function checkDatasets(datasets: unknown): void {
  if (!Array.isArray(datasets))
    throw new UserError(`The datasets of mixDatasets are ${shown(datasets)}; give a list, such as [first, second].`);
  const other = datasets.findIndex((dataset) => !(dataset instanceof Dataset));
  if (other >= 0)
    throw new UserError(
      `Dataset ${other + 1} of mixDatasets is ${shown(datasets[other])}; give what await loadDataset(...) or Dataset.fromRows(...) returns.`,
    );
}

/** A share may be so small that it is less than half a row. */
function unusedNotes(datasets: readonly Dataset[], counts: readonly number[]): string[] {
  return [...datasets.keys()]
    .filter((which) => counts[which] === 0)
    .map((which) => {
      const { length } = datasets[which];
      const reason = length === 0 ? 'it has none' : `its share is less than half a row (it has ${length}); give it a larger weight`;
      return `Nothing of dataset ${which + 1} of ${datasets.length} was taken: ${reason}.`;
    });
}

function countsOf(datasets: readonly Dataset[], weights: readonly number[]): number[] {
  const sound =
    Array.isArray(weights) && weights.length === datasets.length && weights.every((weight) => Number.isFinite(weight) && weight > 0);
  if (!sound)
    throw new UserError(`weights ${JSON.stringify(weights)} must be one number above 0 for each of the ${datasets.length} datasets.`);
  // the dataset that is used up first sets the scale
  const rowsPerWeight = Math.min(...datasets.map((dataset, which) => dataset.length / weights[which]));
  return weights.map((weight) => Math.round(weight * rowsPerWeight));
}
