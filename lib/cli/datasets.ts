/** Finds and reads the data that a recipe names: a file, a folder or a dataset of the Hub with splits, or a mixture. */
import { existsSync } from 'node:fs';
import { Dataset, loadDataset, roundHalfEven } from '../data';
import { atPlace, UserError } from '../errors';
import { isFolder } from '../files';
import type { MixtureEntry, ScriptArguments } from './script-fields';

export interface RecipeData {
  train: Dataset;
  /** Held out; present where it is wanted. */
  test?: Dataset;
}

/**
 * Reads the training rows and, where evaluation is wanted, the rows to evaluate on.
 * @throws UserError when a file or split is missing, or there is nothing to evaluate on
 */
export async function loadRecipeData(script: ScriptArguments, wantsEvaluation: boolean, seed: number): Promise<RecipeData> {
  const {
    dataset_name: name,
    dataset_config,
    dataset_text_field: textField,
    datasets,
    dataset_train_split: trainSplit,
    dataset_test_split: testSplit,
    eval_dataset_name: evalName,
  } = script;
  const load = (place: string, split: string): Promise<Dataset> =>
    loadDataset(place, { split, textField, config: dataset_config ?? undefined });
  const train = datasets ? await loadMixture(datasets, textField) : await load(name as string, trainSplit);
  if (script.test_split_size !== null && evalName === null) {
    // rows that are held out are not trained on, whether or not anybody looks at them
    const { test_split_size: test } = script;
    const split = atPlace('test_split_size', () => train.split({ test, seed }));
    return wantsEvaluation ? split : { train: split.train };
  }
  if (!wantsEvaluation) return { train };
  if (evalName !== null)
    return { train, test: await loadDataset(evalName, { split: isFile(evalName) ? partOfFile(testSplit) : testSplit, textField }) };
  const hasSplits = datasets === null && !isFile(name as string);
  if (hasSplits) return { train, test: await load(name as string, testSplit) };
  throw new UserError(
    `eval_strategy asks for evaluations, but ${datasets ? 'the mixture' : name} has no ${testSplit} split; name a file with eval_dataset_name, ` +
      'hold rows out with test_split_size: 0.1, or set eval_strategy: no.',
  );
}

/** Whether a dataset is a single file, all of whose rows are meant. */
const isFile = (place: string): boolean => existsSync(place) && !isFolder(place);

/** The part of a file that a split names: `test[:100]` its first hundred rows. */
const partOfFile = (split: string): string => split.replace(/^[^[]+/, 'train');

/** TRL's mixture: fractions take the first rows of each dataset, as many as there are without taking a row twice. */
async function loadMixture(entries: readonly MixtureEntry[], textField: string): Promise<Dataset> {
  const all: Dataset[] = [];
  for (const { path: place, name: config, data_dir: dataDir, data_files: dataFiles, split, columns } of entries) {
    all.push(await loadDataset(place, { split, textField, config, dataDir, dataFiles, columns }));
  }
  const fractions = entries.map(({ fraction }) => fraction).filter((fraction) => fraction !== undefined);
  if (fractions.length > 0 && fractions.length < entries.length) {
    throw new UserError('datasets gives a fraction for some datasets but not for all; give one for each, or for none.');
  }
  if (fractions.length === 0) return concatenate(all);
  // in the order of TRL's get_dataset, so that what lies halfway lies there too
  const sum = fractions.reduce((total, fraction) => total + fraction, 0);
  const weights = fractions.map((fraction) => fraction / sum);
  const size = Math.min(...all.map((dataset, i) => dataset.length / weights[i]));
  return concatenate(all.map((dataset, i) => dataset.take(roundHalfEven(weights[i] * size))));
}

function concatenate(parts: readonly Dataset[]): Dataset {
  if (parts.length === 1) return parts[0];
  return new Dataset(
    parts.flatMap((part) => [...part.rows]),
    {
      origins: parts.flatMap((part) => part.rows.map((_, i) => part.originOf(i))),
      notes: [...new Set(parts.flatMap((part) => part.notes))],
    },
  );
}
