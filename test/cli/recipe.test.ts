import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { readRecipe } from '../../lib/cli/recipe';
import { projectRoot } from '../../lib/project';
import { put, refuses, workFolder } from './support';

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

test('without output_dir a run goes where TRL writes it, and keeps its best checkpoint there', (t) => {
  const evaluated =
    'model_name_or_path: m\ndataset_name: d\neval_strategy: steps\neval_steps: 10\nsave_steps: 10\nload_best_model_at_end: true\n';
  for (const line of ['', 'output_dir: null\n', 'outputDir: null\n']) {
    const { config } = readRecipe(['--config', put(workFolder(t), 'recipe.yaml', evaluated + line)]);
    assert.deepEqual([config.outputDir, config.loadBestModelAtEnd], ['trainer_output', true]);
  }
});

test('a recipe chooses the loss, and a flag wins', (t) => {
  const content = 'model_name_or_path: m\ndataset_name: d\nloss_type: chunked_nll\nlabel_smoothing_factor: 0.1\n';
  const recipe = put(workFolder(t), 'recipe.yaml', content);
  const lossOf = (...flags: string[]) => {
    const { lossType, labelSmoothingFactor } = readRecipe(['--config', recipe, ...flags]).config;
    return [lossType, labelSmoothingFactor];
  };
  assert.deepEqual(lossOf(), ['nll', 0.1]);
  assert.deepEqual(lossOf('--label_smoothing_factor', '0.2'), ['nll', 0.2]);
  assert.deepEqual(lossOf('--loss_type', 'dft'), ['dft', 0]);
});

test('a recipe with an AdamW of 8 bits is read, and told what is different', () => {
  const { notes } = readRecipe(['--model', 'm', '--data', 'd', '--optim', 'paged_adamw_8bit']);
  assert.deepEqual(notes, ['optim is paged_adamw_8bit; here moments are kept in float32.']);
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

test('of a flag that is given twice with two values the last counts, which is said', () => {
  const { config, notes } = readRecipe([
    '--model',
    'm',
    '--data',
    'd',
    '--seed',
    '1',
    '--seed=1',
    '--packing',
    '--max_steps',
    '5',
    '--max_steps',
    '7',
  ]);
  assert.equal(config.maxSteps, 7);
  assert.deepEqual(notes, ['--max_steps is given more than once; the last value, 7, counts.']);
});

test('modules are named in words, by commas, or as a list; a pattern stays whole', (t) => {
  const targetsOf = (...words: string[]) =>
    readRecipe(['--model', 'm', '--data', 'd', '--use_peft', '--lora_target_modules', ...words]).script.lora_target_modules;
  for (const words of [['q_proj', 'v_proj'], ['q_proj,v_proj'], ['q_proj,', 'v_proj'], ['q_proj, v_proj']])
    assert.deepEqual(targetsOf(...words), ['q_proj', 'v_proj'], words.join('|'));
  for (const one of ['all-linear', '.*\\.[0-9]{1,2}\\.q_proj', '(q|v)_proj']) assert.equal(targetsOf(one), one);
  const recipe = put(
    workFolder(t),
    'recipe.yaml',
    'use_peft: true\nlora_target_modules: [all-linear]\nlora_modules_to_save: norm,lm_head\n',
  );
  const { script } = readRecipe(['--config', recipe, '--model', 'm', '--data', 'd']);
  assert.deepEqual([script.lora_target_modules, script.lora_modules_to_save], [['all-linear'], ['norm', 'lm_head']]);
});

test('names that every object of JavaScript has are unknown settings like others', (t) => {
  const own = 'model_name_or_path: m\ndataset_name: d\n';
  for (const name of ['__proto__', 'constructor']) {
    const expected = new RegExp(`${name} is not a known setting`);
    assert.throws(() => readRecipe(['--model', 'a', '--data', 'd', `--${name}`, '5']), expected);
    assert.throws(() => readRecipe(['--config', put(workFolder(t), 'recipe.yaml', `${own}${name}: 5\n`)]), expected);
  }
});

test('values of YAML that no setting has are refused in one sentence', (t) => {
  const cases: Array<[string, RegExp]> = [
    ['!!set {learning_rate, seed}', /recipe\.yaml is a set, but a table of settings was expected/],
    ['!!omap [seed: 1]', /recipe\.yaml is not a table of settings/],
    ['seed: &x [*x]', /recipe\.yaml line 1: seed is a list that is endless or too deep, but must be a whole number/],
    ['model_revision: &x {a: *x}', /recipe\.yaml line 1: model_revision is a value that is endless or too deep, but must be a text/],
    ['max_grad_norm: _', /recipe\.yaml line 1: max_grad_norm is "_", but must be a number/],
    ['lr_scheduler_kwargs: !!set {min_lr}', /recipe\.yaml line 1: lr_scheduler_kwargs is .+, but must be a table with the keys/],
  ];
  for (const [content, expected] of cases) {
    assert.throws(() => readRecipe(['--model', 'a', '--data', 'd', '--config', put(workFolder(t), 'recipe.yaml', content)]), {
      name: 'UserError',
      message: expected,
    });
  }
});

test('underscores may part the digits of a number and nothing else', () => {
  const read = (value: string): number =>
    readRecipe(['--model', 'a', '--data', 'd', '--tokens_per_micro_batch', value]).config.tokensPerMicroBatch;
  assert.equal(read('1_000'), 1000);
  for (const wrong of ['_', '_1', '1_', '1__0']) assert.throws(() => read(wrong), /but must be a whole number/);
});

test('what other programs call a setting is told its name here; behind npm run without -- it is said where that belongs', async (t) => {
  const folder = workFolder(t);
  const words = ['sft', '--model', 'm', '--data', 'd', '--output_dir', 'out'];
  await refuses([...words, '--lr', '1e-4'], /lr is no setting here; write learning_rate\.$/, { cwd: folder });
  await refuses([...words, '--batch-size', '8'], /batch-size is no setting here; write per_device_train_batch_size\.$/, { cwd: folder });
  const env = { npm_lifecycle_event: 'tunebook' };
  await refuses(
    ['generate', 'runs/my-run', 'hi'],
    /"runs\/my-run" is not understood; .*behind npm run, -- has to come before its words\.$/,
    { env },
  );
  await refuses(['generate', 'runs/my-run'], /listed by tunebook generate --help\.$/);
});
