import assert from 'node:assert/strict';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { chooseFiles } from '../../lib/data/data-files';
import { readJson } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { says } from './hub-place';

interface Case {
  names: string[];
  card?: string;
  config?: string;
  splits: Record<string, string[]>;
}

const cases = readJson(path.join(projectRoot, 'test/data/datasets/splits.json')) as Case[];
const asReadme = (card?: string): string => (card === undefined ? '' : `---\n${card}---\n# Card\n`);

describe('a split has the files that datasets takes for it:', () => {
  for (const { names, card, config, splits } of cases) {
    test([...names, ...(config ? [`configuration ${config}`] : [])].join(', '), () => {
      for (const [split, files] of Object.entries(splits))
        assert.deepEqual(chooseFiles([...names].reverse(), asReadme(card), { split, config }, 'it'), files);
      for (const other of ['train', 'validation', 'test'].filter((name) => !(name in splits)))
        assert.throws(
          () => chooseFiles(names, asReadme(card), { split: other, config }, 'it'),
          says(new RegExp(`it has no split ${other}; it has ${Object.keys(splits).join(', ')}\\.`)),
        );
    });
  }
});

test('files and folders that are asked for come before all else', () => {
  const names = ['train.jsonl', 'more/a.jsonl', 'more/b.jsonl', 'more/deep/test.jsonl'];
  const choose = (choice: object): string[] => chooseFiles(names, '', { split: 'train', ...choice }, 'it');
  assert.deepEqual(choose({ dataFiles: ['more/*.jsonl'] }), ['more/a.jsonl', 'more/b.jsonl']);
  assert.deepEqual(choose({ dataFiles: ['more/b.jsonl', 'train.jsonl'] }), ['more/b.jsonl', 'train.jsonl']);
  assert.deepEqual(choose({ dataDir: 'more/deep', split: 'test' }), ['more/deep/test.jsonl']);
  for (const dataDir of ['more/deep/', './more/deep', 'more//deep'])
    assert.deepEqual(choose({ dataDir, split: 'test' }), ['more/deep/test.jsonl']);
  assert.deepEqual(choose({ dataDir: '.' }), choose({}));
  assert.throws(() => choose({ dataFiles: ['none*'] }), says(/it holds no JSON, Parquet or CSV file/));
  const card = asReadme('configs:\n- config_name: one\n  data_dir: more\n- config_name: two\n  data_files: more/b.jsonl\n');
  const despite = (choice: object): string[] => chooseFiles(names, card, { split: 'train', ...choice }, 'it');
  for (const config of [undefined, 'one']) {
    assert.deepEqual(despite({ dataFiles: ['train.jsonl'], config }), ['train.jsonl']);
    assert.deepEqual(despite({ dataDir: 'more/deep', split: 'test', config }), ['more/deep/test.jsonl']);
  }
});

test('a file with an ending that objects have a key of is no data', () => {
  assert.deepEqual(chooseFiles(['a.jsonl', 'notes.constructor'], '', { split: 'train' }, 'it'), ['a.jsonl']);
});

test('a split of another name is a file of that name, where nobody says what is data', () => {
  const names = ['train.jsonl', 'probe.jsonl', 'more/a.jsonl'];
  const choose = (readme: string, choice: object = {}) => chooseFiles(names, readme, { split: 'probe', ...choice }, 'it');
  assert.deepEqual(choose(''), ['probe.jsonl']);
  const card = asReadme('configs:\n- config_name: default\n  data_files: train.jsonl\n');
  assert.throws(() => choose(card), says(/it has no split probe; it has train\./));
  assert.throws(() => choose('', { dataDir: 'more' }), says(/it has no split probe; it has train\./));
});

test('plots beside the data are no splits', () => {
  const choose = (names: string[]) => chooseFiles(names, '', { split: 'train' }, 'it');
  assert.deepEqual(choose(['rows.jsonl', 'plots/train_loss.png', 'plots/train_loss.svg']), ['rows.jsonl']);
  assert.deepEqual(choose(['train/1.csv', 'train/1.png', 'eval_loss.png']), ['train/1.csv']);
});

test('what there is instead of data is said', () => {
  const choose = (names: string[]) => () => chooseFiles(names, '', { split: 'train' }, 'it');
  assert.throws(
    choose(['README.md', 'pictures/1.png', 'pictures/2.png']),
    says(/no JSON, Parquet or CSV file; it holds pictures\/1\.png, pictures\/2\.png\./),
  );
  assert.throws(
    choose(['README.md', 'squad.py']),
    says(/made by a program \(squad\.py\), which is never run; try the revision refs\/convert\/parquet/),
  );
  assert.throws(choose(['.gitattributes']), says(/it is empty/));
  for (const folder of ['', 'train/'])
    assert.throws(
      choose(['data-00000-of-00001.arrow', 'dataset_info.json', 'state.json'].map((name) => folder + name)),
      says(/holds Arrow files, .* as save_to_disk of Python's datasets writes them; write its splits there with to_parquet or to_json/),
    );
});

test('of several configurations one must be named, by a name that there is', () => {
  const card = asReadme('configs:\n- config_name: en\n  data_files: en.jsonl\n- config_name: de\n  data_files: de.jsonl\n');
  const choose = (config?: string) => () => chooseFiles(['en.jsonl', 'de.jsonl'], card, { split: 'train', config }, 'it');
  assert.throws(choose(), says(/it holds several datasets; choose one as configuration \(dataset_config in a recipe\): en, de\./));
  assert.throws(choose('fr'), says(/it has no configuration fr; it has en, de\./));
  assert.throws(() => chooseFiles(['a.jsonl'], '', { split: 'train', config: 'fr' }, 'it'), says(/has but one dataset, so leave it out/));
  const broken = asReadme('configs:\n- config_name: x\n  data_files: {a: 1}\n');
  assert.throws(
    () => chooseFiles(['a.jsonl'], broken, { split: 'train' }, 'it'),
    says(/README\.md, x: "data_files" is neither patterns nor/),
  );
});

test('a card that is no YAML says nothing', () => {
  for (const readme of ['---\n: [\n---\n', '# Just a title\n', '---\nconfigs: 7\n---\n', '---\n- a\n---\n'])
    assert.deepEqual(chooseFiles(['train.jsonl'], readme, { split: 'train' }, 'it'), ['train.jsonl']);
});

test('a card that has configurations but is no YAML is refused, one that has a key twice is not', () => {
  const names = ['a.jsonl', 'b.jsonl'];
  const choose = (card: string, choice: object = {}) => chooseFiles(names, asReadme(card), { split: 'train', ...choice }, 'it');
  const configs = 'configs:\n- config_name: default\n  data_files: a.jsonl\n';
  const broken = `title: "half\n${configs}`;
  assert.throws(() => choose(broken), says(/^it: the "configs" of its README\.md cannot be read \(.*at line \d+.*\); correct them/));
  assert.deepEqual(choose(broken, { dataFiles: ['b.jsonl'] }), ['b.jsonl']);
  assert.deepEqual(choose(`license: mit\nlicense: mit\n${configs}`), ['a.jsonl']);
});
