/** Finds and reads the data that a recipe names: a file, a folder with a file for each split, or a mixture. */
import fs from 'node:fs';
import * as path from 'node:path';
import { Dataset, loadDataset } from '../data';
import { UserError } from '../errors';
import { isFolder, namesIn } from '../files';
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
    datasets,
    dataset_train_split: trainSplit,
    dataset_test_split: testSplit,
    eval_dataset_name: evalName,
  } = script;
  const train = datasets ? await loadMixture(datasets) : await loadSplit(name as string, trainSplit);
  if (script.test_split_size !== null && evalName === null) {
    // rows that are held out are not trained on, whether or not anybody looks at them
    const split = train.split({ test: script.test_split_size, seed });
    return wantsEvaluation ? split : { train: split.train };
  }
  if (!wantsEvaluation) return { train };
  if (evalName !== null) return { train, test: await loadSplit(evalName, testSplit) };
  if (datasets === null && isFolder(name as string)) return { train, test: await loadSplit(name as string, testSplit) };
  throw new UserError(
    `eval_strategy asks for evaluations, but ${datasets ? 'the mixture' : name} has no ${testSplit} split; name a file with eval_dataset_name, ` +
      'hold rows out with test_split_size: 0.1, or set eval_strategy: no.',
  );
}

/** TRL's mixture: fractions take the first rows of each dataset, as many as there are without taking a row twice. */
async function loadMixture(entries: readonly MixtureEntry[]): Promise<Dataset> {
  const all: Dataset[] = [];
  for (const { path: place, data_files: file, split } of entries) {
    all.push(await loadSplit(file === undefined || !isFolder(place) ? (file ?? place) : path.join(place, file), split));
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

/** Python's `round`: what lies halfway goes to the even neighbour. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  if (value - below === 0.5) return below % 2 === 0 ? below : below + 1;
  return Math.round(value);
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

/** Reads a file, or a split's file in a folder; `train[:100]` and `train[:10%]` take a part of the rows. */
async function loadSplit(place: string, split: string): Promise<Dataset> {
  const match = /^([^[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?$/.exec(split);
  if (!match)
    throw new UserError(
      `The split ${JSON.stringify(split)} is not understood; write a name such as train, or a part of it such as train[:100] or train[:10%].`,
    );
  const [, name, from, to] = match;
  const dataset = await loadDataset(fileOf(place, name));
  if (from === undefined && to === undefined) return dataset;
  // as in datasets, one % makes both bounds percentages
  const inPercent = from?.endsWith('%') || to?.endsWith('%');
  const bound = (text: string | undefined, fallback: number): number => {
    if (text === undefined) return fallback;
    const number = Number.parseInt(text, 10);
    const rows = inPercent ? roundHalfEven((number * dataset.length) / 100) : number;
    return Math.max(0, Math.min(dataset.length, rows < 0 ? dataset.length + rows : rows));
  };
  const start = bound(from, 0);
  return dataset.take(bound(to, dataset.length)).skip(start);
}

function fileOf(place: string, split: string): string {
  const hub = /^[\w.-]+\/[\w.-]+$/.test(place) && !/\.(json|jsonl|ndjson)$/i.test(place);
  if (!fs.existsSync(place) && hub) {
    throw new UserError(
      `There is no file or folder ${place} (taken from ${process.cwd()}), and datasets are not downloaded from the Hub; download it as JSON or JSONL and name the file.`,
    );
  }
  if (!isFolder(place)) return place;
  const files = namesIn(place).filter((file) => /\.(json|jsonl|ndjson)$/i.test(file));
  const found = files.find((file) => path.parse(file).name === split);
  if (found !== undefined) return path.join(place, found);
  throw new UserError(
    `The folder ${place} has no file for the split ${split}; expected ${split}.jsonl or ${split}.json, but it holds ${files.slice(0, 5).join(', ') || 'no JSON file'}.`,
  );
}
