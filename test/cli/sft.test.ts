import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { golden, goldenModel, goldenRows, put, refuses, tunebook, tunebookJson, workFolder } from './support';

type LogRecord = Record<string, number>;

interface GoldenRun {
  config: Record<string, unknown>;
  log: LogRecord[];
  loss_after_on_forward_ids: number;
}

interface Summary extends LogRecord {
  global_step: number;
}

const readJson = <T>(...names: string[]): T => JSON.parse(readFileSync(path.join(...names), 'utf8')) as T;
const readLog = (folder: string): LogRecord[] =>
  readFileSync(path.join(folder, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as LogRecord);
const toYaml = (settings: Record<string, unknown>): string =>
  Object.entries(settings)
    .map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`)
    .join('');

function close(found: number, expected: number, relative: number, what: string): void {
  assert.ok(Math.abs(found - expected) <= relative * Math.abs(expected), `${what}: ${found}, expected ${expected}`);
}

const SUMMARY_NAMES = [
  'train_runtime',
  'train_samples_per_second',
  'train_steps_per_second',
  'train_loss',
  'epoch',
  'num_tokens',
  'tokens_per_second',
  'peak_memory_gb',
];

describe('a recipe written for trl sft', () => {
  for (const name of ['sft', 'sft_cosine_wd', 'sft_full_loss']) {
    test(`gives the log that TRL gave: ${name}`, async (t) => {
      const reference = readJson<GoldenRun>(golden, 'llama', `${name}.json`);
      const folder = workFolder(t);
      const out = path.join(folder, 'out');
      const recipe = put(
        folder,
        'recipe.yaml',
        toYaml({ model_name_or_path: goldenModel, dataset_name: goldenRows, output_dir: out, ...reference.config }),
      );
      const summary = await tunebookJson<Summary>(['sft', '--config', recipe]);
      for (const key of SUMMARY_NAMES) assert.ok(Number.isFinite(summary[key]), key);
      const log = readLog(out);
      assert.equal(log.length, reference.log.length);
      for (const [i, expected] of reference.log.entries()) {
        close(log[i].loss, expected.loss, 1e-4, `loss of step ${i + 1}`);
        close(log[i].grad_norm, expected.grad_norm, 1e-3, `grad_norm of step ${i + 1}`);
        close(log[i].learning_rate, expected.learning_rate, 1e-9, `learning_rate of step ${i + 1}`);
        assert.equal(log[i].num_tokens, expected.num_tokens);
      }
      const { input_ids: ids } = readJson<{ input_ids: number[] }>(golden, 'llama/forward.json');
      const { loss } = await tunebookJson<{ loss: number }>(['score', '--model', out, '--input_ids', ids.join()]);
      close(loss, reference.loss_after_on_forward_ids, 1e-4, 'loss of the saved model');
    });
  }

  test('may set the environment, switch adapters off, and say what matters only to PyTorch', async (t) => {
    const folder = workFolder(t);
    const lines = `env:\n  HF_HUB_OFFLINE: 1\nmodel_name_or_path: ${goldenModel}\nmodel_revision: main\ndtype: bfloat16\nattn_implementation: flash_attention_2\ndataset_name: ${goldenRows}\ndataset_train_split: train\nuse_peft: no\nlora_r: 16\nload_in_4bit: false\ngradient_checkpointing: true\nreport_to: none\neval_strategy: no\nmax_steps: 1\nlearning_rate: 1.0e-4\n`;
    const { code, stdout, stderr } = await tunebook(['sft', '--config', put(folder, 'recipe.yaml', lines), '--json'], { cwd: folder });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /dtype has no effect: all weights are trained, in float32\./);
    // without output_dir TRL writes there
    assert.equal((JSON.parse(stdout) as { output_dir: string }).output_dir, 'trainer_output');
    assert.ok(existsSync(path.join(folder, 'trainer_output/model.safetensors')));
  });

  test('is refused where it asks for what is not there', async (t) => {
    const recipe = put(
      workFolder(t),
      'recipe.yaml',
      `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\nload_in_8bit: true\n`,
    );
    await refuses(['sft', '--config', recipe], /recipe\.yaml line 3: load_in_8bit is true, but weights in 8 bits are not available/);
    const type = ['--load_in_8bit', 'false', '--load_in_4bit', 'true', '--bnb_4bit_quant_type', 'fp4'];
    await refuses(['sft', '--config', recipe, ...type], /bnb_4bit_quant_type is "fp4", but must be nf4/);
  });

  test('trains an adapter beside weights in 16 bits, and says in what it computes', async (t) => {
    const folder = workFolder(t);
    const lines = `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\nuse_peft: true\ntorch_dtype: bfloat16\noutput_dir: out\nmax_steps: 1\nlearning_rate: 1.0e-4\n`;
    const recipe = put(folder, 'recipe.yaml', lines);
    const { code, stderr } = await tunebook(['sft', '--config', recipe], { cwd: folder });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /The weights beside the adapter are kept in bfloat16 \(dtype\); products are computed in float32\./);
    assert.match(readFileSync(path.join(folder, 'out/run.json'), 'utf8'), /"dtype": "bfloat16"/);
    await refuses(
      ['sft', '--config', recipe, '--dtype', 'fp8'],
      /dtype is "fp8", but must be one of float32, bfloat16, float16, auto, or null\./,
    );
  });

  test('trains an adapter beside weights in 4 bits, and only an adapter', async (t) => {
    const folder = workFolder(t);
    const lines = `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\nload_in_4bit: true\nuse_bnb_nested_quant: true\nbnb_4bit_compute_dtype: bfloat16\noutput_dir: out\nmax_steps: 1\nlearning_rate: 1.0e-4\n`;
    const words = ['sft', '--config', put(folder, 'recipe.yaml', lines)];
    await refuses(
      words,
      /was loaded in 4 bits, so it is not trained itself; train an adapter beside it .*, or load it without loadIn4bit \(load_in_4bit: false\)\./,
      { cwd: folder },
    );
    const { code, stderr } = await tunebook([...words, '--use_peft'], { cwd: folder });
    assert.equal(code, 0, stderr);
    assert.match(stderr, /use_bnb_nested_quant has no effect here/);
    assert.ok(existsSync(path.join(folder, 'out/adapter_model.safetensors')));
    const { loss } = await tunebookJson<{ loss: number }>(['score', '--model', 'out', '--input_ids', '5,6,7'], { cwd: folder });
    assert.ok(loss > 0);
  });
});

test('flags win over the recipe, and relative paths are taken from where the user stands', async (t) => {
  const folder = workFolder(t);
  put(
    folder,
    'rows.jsonl',
    Array.from({ length: 6 }, (_, i) => `${JSON.stringify({ prompt: `Count ${i}:`, completion: ` ${i + 1}` })}\n`).join(''),
  );
  put(
    folder,
    'recipe.yaml',
    `model_name_or_path: ${goldenModel}\ndataset_name: nowhere.json\noutput_dir: out\nlearning_rate: 1e-4\nmax_steps: 5\nlogging_steps: 1\n`,
  );
  const summary = await tunebookJson<Summary>(
    [
      'sft',
      '--config',
      'recipe.yaml',
      '--learning_rate=2e-4',
      '--data',
      'rows.jsonl',
      '--max_steps',
      '2',
      '--packing',
      '--lr_scheduler_type',
      'constant',
    ],
    { cwd: folder },
  );
  assert.equal(summary.global_step, 2);
  const { config, dataset } = readJson<{ config: Record<string, unknown>; dataset: { files: Record<string, string> } }>(
    folder,
    'out/run.json',
  );
  assert.equal(config.packing, true);
  assert.deepEqual(
    readLog(path.join(folder, 'out')).map((record) => record.learning_rate),
    [2e-4, 2e-4],
  );
  assert.match(Object.values(dataset.files)[0], /^[0-9a-f]{64}$/);
});

test('output_dir holds the model in Hugging Face layout, metrics, plots and run.json', async (t) => {
  const out = path.join(workFolder(t), 'out');
  const { code, stdout } = await tunebook([
    'sft',
    '--model',
    goldenModel,
    '--data',
    goldenRows,
    '--output_dir',
    out,
    '--max_steps',
    '2',
    '--logging_steps',
    '1',
    '--save_strategy',
    'no',
  ]);
  assert.equal(code, 0);
  assert.match(stdout, /^The trained model is in .+\n$/);
  const files = readdirSync(out);
  for (const name of ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json', 'metrics.jsonl', 'run.json', 'plots'])
    assert.ok(files.includes(name), name);
  const plots = readdirSync(path.join(out, 'plots'));
  for (const name of ['train_loss.png', 'train_accuracy.png', 'train_gradnorm.png']) assert.ok(plots.includes(name), name);
  assert.match(readFileSync(path.join(out, 'plots/train_gradnorm.svg'), 'utf8'), />clipped above 1</);
  const record = readJson<{ finished: boolean; versions: Record<string, string>; model: { sha256: Record<string, string> } }>(
    out,
    'run.json',
  );
  assert.ok(record.finished);
  assert.match(record.model.sha256['model.safetensors'], /^[0-9a-f]{64}$/);
});

test('a run too short to log its loss says so, with the setting that would have it', async (t) => {
  const folder = workFolder(t);
  const run = (out: string, ...more: string[]) =>
    tunebook(
      [
        ...['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out],
        ...['--max_steps', '2', '--save_strategy', 'no', ...more],
      ],
      { cwd: folder },
    );
  const { code, stdout, stderr } = await run('short');
  assert.equal(code, 0);
  assert.match(
    stderr,
    /^No loss was logged and no curves were drawn, as logging_steps is 10 and the run had 2 steps; set logging_steps: 1 to have them\.$/m,
  );
  assert.match(stdout, /^The trained model is in short\.\n$/);
  assert.ok(!existsSync(path.join(folder, 'short/plots')));
  for (const [out, ...more] of [
    ['never', '--logging_strategy', 'no'],
    ['first', '--logging_first_step'],
  ])
    assert.doesNotMatch((await run(out, ...more)).stderr, /No loss was logged/);
});

test('where evaluations alone were logged, they are drawn', async (t) => {
  const folder = workFolder(t);
  const evaluated = ['--test_split_size', '4', '--eval_strategy', 'steps', '--eval_steps', '1'];
  const run = (out: string, ...more: string[]) =>
    tunebook(
      [
        ...['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out],
        ...['--max_steps', '2', '--save_strategy', 'no', ...evaluated, ...more],
      ],
      { cwd: folder },
    );
  for (const [out, ...more] of [['short'], ['never', '--logging_strategy', 'no']]) {
    const { code, stdout, stderr } = await run(out, ...more);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /, its curves in (short|never).plots\.\n$/);
    const plots = readdirSync(path.join(folder, out, 'plots')).filter((name) => name.endsWith('.png'));
    assert.deepEqual(plots.sort(), ['train_accuracy.png', 'train_loss.png']);
    const isSaid =
      /^No loss of the training was logged and only evaluations were drawn, as logging_steps is 10 and .* set logging_steps: 1 to have it\.$/m;
    assert.equal(isSaid.test(stderr), out === 'short', stderr);
  }
});

test('Ctrl-C stops with exit code 130 and a checkpoint, from which the run ends as if nothing had happened', {
  skip: process.platform === 'win32',
}, async (t) => {
  const folder = workFolder(t);
  const words = (name: string): string[] => [
    'sft',
    '--model',
    goldenModel,
    '--data',
    goldenRows,
    '--output_dir',
    path.join(folder, name),
    '--max_steps',
    '24',
    '--per_device_train_batch_size',
    '2',
    '--logging_steps',
    '1',
    '--learning_rate',
    '1e-3',
  ];
  const whole = await tunebook(words('whole'));
  assert.equal(whole.code, 0, whole.stderr);
  let sent = false;
  const { code, stdout, stderr } = await tunebook([...words('parted'), '--json'], {
    onStderr: (text, kill) => {
      if (sent || !text.includes('step 3/24')) return;
      sent = true;
      kill('SIGINT');
    },
  });
  assert.equal(code, 130, stderr);
  assert.match(stderr, /Stopped after step \d+; continue from .*checkpoint-\d+ with --resume_from_checkpoint true\.\n$/);
  assert.match((JSON.parse(stdout) as { error: string }).error, /^Stopped after step \d+/);
  const before = readLog(path.join(folder, 'parted')).length;
  assert.ok(before >= 3 && before < 24, `${before} steps`);
  const resumed = await tunebook([...words('parted'), '--resume_from_checkpoint']);
  assert.equal(resumed.code, 0, resumed.stderr);
  for (const file of ['metrics.jsonl', 'model.safetensors']) {
    assert.ok(
      readFileSync(path.join(folder, 'parted', file)).equals(readFileSync(path.join(folder, 'whole', file))),
      `${file} is the same to the bit`,
    );
  }
});

test('Ctrl-C in the last evaluation stops the run too, which then makes up for it', { skip: process.platform === 'win32' }, async (t) => {
  const folder = workFolder(t);
  const many = put(folder, 'many.json', Array.from({ length: 30 }, () => readJson<object[]>(goldenRows)).flat());
  const words = [
    ...['sft', '--model', goldenModel, '--data', goldenRows, '--eval_dataset_name', many, '--output_dir', path.join(folder, 'out')],
    ...['--max_steps', '2', '--logging_steps', '1', '--eval_strategy', 'steps', '--eval_steps', '2', '--save_strategy', 'no'],
  ];
  let sent = false;
  const { code, stderr } = await tunebook(words, {
    onStderr: (text, kill) => {
      if (sent || !text.includes('step 2/2')) return;
      sent = true;
      kill('SIGINT');
    },
  });
  assert.equal(code, 130, stderr);
  assert.match(stderr, /Stopped after step 2; continue from .*checkpoint-2 with --resume_from_checkpoint true\.\n$/);
  assert.ok(!existsSync(path.join(folder, 'out', 'model.safetensors')));
  const resumed = await tunebook([...words, '--resume_from_checkpoint']);
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.equal(readLog(path.join(folder, 'out')).filter((record) => record.eval_loss !== undefined).length, 1);
});

describe('data', () => {
  const rows = (n: number, word: string): object[] =>
    Array.from({ length: n }, (_, i) => ({ prompt: `${word} ${i}:`, completion: ` ${word}` }));
  const run = (folder: string, settings: Record<string, unknown>): Promise<Summary> => {
    const recipe = put(
      folder,
      'recipe.yaml',
      toYaml({ model_name_or_path: goldenModel, output_dir: 'out', max_steps: 1, save_strategy: 'no', logging_steps: 1, ...settings }),
    );
    return tunebookJson<Summary>(['sft', '--config', recipe], { cwd: folder });
  };
  const examplesIn = (folder: string, which: 'dataset' | 'eval_dataset'): number =>
    readJson<Record<string, { examples: number }>>(folder, 'out/run.json')[which].examples;

  test('of a folder has a file for each split', async (t) => {
    const folder = workFolder(t);
    mkdirSync(path.join(folder, 'data'));
    put(folder, 'data/train.json', rows(10, 'one'));
    put(folder, 'data/test.json', rows(4, 'two'));
    await run(folder, { dataset_name: 'data', dataset_train_split: 'train[:50%]', eval_strategy: 'steps' });
    assert.deepEqual([examplesIn(folder, 'dataset'), examplesIn(folder, 'eval_dataset')], [5, 4]);
    assert.ok(readLog(path.join(folder, 'out')).some((record) => Number.isFinite(record.eval_loss)));
  });

  test('may be a mixture by fractions, with rows held out', async (t) => {
    const folder = workFolder(t);
    put(folder, 'a.json', rows(30, 'one'));
    put(folder, 'b.json', rows(100, 'two'));
    await run(folder, {
      datasets: [
        { path: 'a.json', fraction: 0.6 },
        { path: 'b.json', fraction: 0.4 },
      ],
      test_split_size: 0.2,
      eval_strategy: 'steps',
    });
    assert.deepEqual([examplesIn(folder, 'dataset'), examplesIn(folder, 'eval_dataset')], [40, 10]);
  });

  test('that is held out for no evaluation is said', async (t) => {
    const common = [
      'sft',
      '--model',
      goldenModel,
      '--data',
      goldenRows,
      '--output_dir',
      'out',
      '--max_steps',
      '1',
      '--save_strategy',
      'no',
    ];
    const { stderr } = await tunebook([...common, '--test_split_size', '0.2'], { cwd: workFolder(t) });
    assert.match(
      stderr,
      /^test_split_size 0\.2 keeps rows from training that nothing evaluates, as eval_strategy is no; .*leave test_split_size out\.$/m,
    );
    const { stderr: two } = await tunebook([...common, '--test_split_size', '0.2', '--eval_dataset_name', goldenRows], {
      cwd: workFolder(t),
    });
    assert.match(two, /^eval_dataset_name has no effect.*\ntest_split_size has no effect: eval_dataset_name names/m);
  });

  test('that an evaluation lacks is asked for', async (t) => {
    const recipe = put(
      workFolder(t),
      'recipe.yaml',
      toYaml({ model_name_or_path: goldenModel, dataset_name: goldenRows, eval_strategy: 'steps' }),
    );
    await refuses(
      ['sft', '--config', recipe],
      /eval_strategy asks for evaluations, but .*rows\.json has no test split; name a file with eval_dataset_name/,
    );
  });
});
