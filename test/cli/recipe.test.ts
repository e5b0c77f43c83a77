import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { readRecipe } from '../../lib/cli/recipe';
import { projectRoot } from '../../lib/project';
import { put, workFolder } from './support';

test('every key of trl sft is known, at the default that TRL 1.13 gives it', (t) => {
  const defaults = JSON.parse(readFileSync(path.join(projectRoot, 'test/cli/fixtures/trl-1.13-defaults.json'), 'utf8')) as Record<
    string,
    unknown
  >;
  const own = { model_name_or_path: 'model', dataset_name: 'rows.json', output_dir: 'out' };
  const lines = Object.entries({ ...defaults, ...own }).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
  const { config, script } = readRecipe(['--config', put(workFolder(t), 'recipe.yaml', lines.join(''))]);
  assert.equal(config.outputDir, 'out');
  assert.equal(config.learningRate, defaults.learning_rate);
  assert.equal(script.datasets, null);
});

test('YAML is read as Python reads it: a bare no is false, 1e-4 is a number, anchors are followed', (t) => {
  const recipe = put(
    workFolder(t),
    'recipe.yaml',
    'learning_rate: &rate 1e-4\nmodel_name_or_path: m\ndataset_name: d\npacking: yes\nsave_strategy: no\nweight_decay: *rate\n',
  );
  const { config } = readRecipe(['--config', recipe]);
  assert.deepEqual([config.learningRate, config.weightDecay, config.packing, config.saveStrategy], [1e-4, 1e-4, true, 'no']);
});

test('a setting that is given twice, short and long, is refused', () => {
  assert.throws(
    () => readRecipe(['--model', 'a', '--model_name_or_path', 'b', '--data', 'd']),
    /--model_name_or_path and its short form are both given/,
  );
});
