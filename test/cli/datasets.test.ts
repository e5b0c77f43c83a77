/** The rows that a recipe's data comes to; the numbers are those of datasets and of TRL's get_dataset. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { loadRecipeData } from '../../lib/cli/datasets';
import { readScriptArguments } from '../../lib/cli/script-fields';
import { put, workFolder } from './support';

/** A folder with datasets of these lengths: 0.json, 1.json, ... */
function folderWith(t: TestContext, lengths: readonly number[]): string {
  const folder = workFolder(t);
  for (const [which, length] of lengths.entries())
    put(
      folder,
      `${which}.json`,
      Array.from({ length }, (_, i) => ({ text: `${which}:${i}` })),
    );
  return folder;
}

const load = (raw: Record<string, unknown>, wantsEvaluation = false) =>
  loadRecipeData(readScriptArguments(raw, () => undefined).script, wantsEvaluation, 0);

const textsOf = (rows: readonly unknown[]): string[] => (rows as Array<{ text: string }>).map(({ text }) => text);

for (const [split, length, from, to] of [
  ['train[:25%]', 10, 0, 2],
  ['train[:15%]', 10, 0, 2],
  ['train[25%:75%]', 10, 2, 8],
  ['train[-35%:]', 10, 6, 10],
  ['train[:33%]', 10, 0, 3],
  ['train[10:50%]', 30, 3, 15],
  ['train[-150:4]', 10, 0, 4],
] as const) {
  test(`${split} of ${length} rows is rows ${from} to ${to}, as datasets rounds it`, async (t) => {
    const { train } = await load({
      dataset_name: path.join(folderWith(t, [length]), '0.json'),
      dataset_train_split: split,
    });
    assert.deepEqual(
      textsOf(train.rows),
      Array.from({ length: to - from }, (_, i) => `0:${from + i}`),
    );
  });
}

test('a part that is rounded to no rows is refused', async (t) => {
  const settings = { dataset_name: path.join(folderWith(t, [10]), '0.json'), dataset_train_split: 'train[:-5%]' };
  await assert.rejects(load(settings), /^UserError: The part train\[:-5%\] of .*0\.json has no rows, as train has 10 rows; choose one /);
});

for (const [fractions, lengths, counts] of [
  [
    [2, 1],
    [5, 10],
    [5, 2],
  ],
  [
    [2, 1],
    [7, 10],
    [7, 4],
  ],
  [
    [0.5, 0.25, 0.25],
    [9, 9, 9],
    [9, 4, 4],
  ],
  [
    [1, 2],
    [3, 3],
    [2, 3],
  ],
  [
    [0.1, 0.7],
    [10, 35],
    [5, 35],
  ],
] as const) {
  test(`fractions ${fractions.join(', ')} of ${lengths.join(', ')} rows take ${counts.join(', ')}, as TRL rounds them`, async (t) => {
    const folder = folderWith(t, lengths);
    const datasets = fractions.map((fraction, which) => ({ path: path.join(folder, `${which}.json`), fraction }));
    const taken = textsOf((await load({ datasets })).train.rows);
    assert.deepEqual(
      counts.map((_, which) => taken.filter((text) => text.startsWith(`${which}:`)).length),
      counts,
    );
  });
}

for (const [size, length, train, held] of [
  [0.1, 34, 30, 4],
  [0.2, 34, 27, 7],
  [0.001, 10, 9, 1],
  [0.07, 100, 92, 8],
] as const) {
  test(`test_split_size ${size} of ${length} rows holds out ${held}, as datasets rounds it`, async (t) => {
    const raw = { dataset_name: path.join(folderWith(t, [length]), '0.json'), test_split_size: size };
    const split = await load(raw, true);
    assert.deepEqual([split.train.length, split.test?.length], [train, held]);
  });
}

test('a test_split_size that leaves no row to train on is refused by that name', async (t) => {
  const raw = { dataset_name: path.join(folderWith(t, [10]), '0.json'), test_split_size: 10 };
  await assert.rejects(
    load(raw, true),
    /^UserError: test_split_size: split\(\{ test: 10 \}\) of 10 rows leaves no row on one side; give .* from 1 to 9\.$/,
  );
});

test('a mixture takes files, folders and columns of each of its datasets', async (t) => {
  const folder = workFolder(t);
  const row = { prompt: 'Q', completion: 'A', text: 'no', messages: [{ role: 'user', content: 'no' }] };
  const all = put(folder, 'all.json', [row]);
  mkdirSync(path.join(folder, 'parts'));
  for (const name of ['train', 'test', 'other']) put(path.join(folder, 'parts'), `${name}.json`, [{ prompt: name, completion: '' }]);
  const parts = path.join(folder, 'parts');
  const { train } = await load({
    datasets: [
      { path: all, columns: ['prompt', 'completion'], name: null },
      { path: parts, split: 'test' },
      { path: parts, data_files: 'other*' },
      { path: folder, data_dir: 'parts', data_files: null },
      { path: 'json', data_files: [path.join(parts, 'test.json'), path.join(parts, 'other.json')], split: 'train[1:]' },
    ],
  });
  const prompts = train.rows.map((found) => ('prompt' in found ? found.prompt : undefined));
  assert.deepEqual(prompts, ['Q', 'test', 'other', 'train', 'other']);
});
