import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { copyOfModel, goldenModel, goldenRows, put, refuses, tunebook, tunebookJson, workFolder } from './support';

const row = { prompt: 'What is the capital of France?', completion: 'Paris.' };
const sftOn = (data: string, ...more: string[]): string[] => [
  'sft',
  '--model',
  goldenModel,
  '--data',
  data,
  '--output_dir',
  path.join(path.dirname(data), 'out'),
  ...more,
];
const score = (model: string): string[] => ['score', '--model', model, '--input_ids', '1,2,3'];

describe('a missing path is named', () => {
  test('of a dataset', async (t) => {
    const file = path.join(workFolder(t), 'rows.json');
    await refuses(sftOn(file), /rows\.json does not exist; check the path/);
    await refuses(['evaluate', '--model', goldenModel, '--data', file], /rows\.json does not exist; check the path/);
  });
  test('of a model', async (t) => {
    await refuses(score(path.join(workFolder(t), 'model')), /There is no folder .+model; check the path/);
  });
  test('of a model that could be on the Hub', async () => {
    await refuses(
      score('org/no-such-model'),
      /^There is no folder org\/no-such-model in .+, and on the Hugging Face Hub: .+HF_HUB_OFFLINE/,
    );
  });
  test('of a recipe', async (t) => {
    await refuses(['sft', '--config', path.join(workFolder(t), 'recipe.yaml')], /recipe\.yaml does not exist; check the path/);
  });
  test('of questions', async (t) => {
    const questions = path.join(workFolder(t), 'questions.json');
    await refuses(['compare', '--base', goldenModel, '--tuned', goldenModel, '--questions', questions], /questions\.json does not exist/);
  });
});

describe('a path that the system refuses is named, with what is wrong with it', {
  skip: process.platform === 'win32' && 'Windows refuses other paths',
}, () => {
  const compare = (output: string): string[] => [
    'compare',
    '--base',
    goldenModel,
    '--tuned',
    goldenModel,
    '--questions',
    goldenRows,
    '--output',
    output,
  ];

  test('a link that leads to itself', async (t) => {
    const loop = path.join(workFolder(t), 'loop');
    symlinkSync('loop', loop);
    await refuses(sftOn(loop), /loop is a link that leads back to itself/);
    await refuses(compare(loop), /loop is a link that leads back to itself/);
    await refuses(['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', loop], /loop is a link that leads back to itself/);
  });
  test('a name that is too long', async (t) => {
    const long = path.join(workFolder(t), 'x'.repeat(300));
    await refuses(sftOn(long), /x\.\.\.x+ is a longer name than the system allows; choose a shorter one\.$/);
    await refuses(compare(long), /is a longer name than the system allows/);
  });
  test('a NUL character', async (t) => {
    const recipe = put(workFolder(t), 'recipe.yaml', `model_name_or_path: ${goldenModel}\ndataset_name: "rows\\0.json"\n`);
    await refuses(['sft', '--config', recipe], /^"rows\\u0000\.json" cannot be a path, because it contains a NUL character; remove it\.$/);
  });
  const mayReadAll =
    process.platform === 'win32' ? 'folders have no such modes on Windows' : process.getuid?.() === 0 && 'root may read everything';
  test('no permission', { skip: mayReadAll }, async (t) => {
    const folder = workFolder(t);
    const closed = path.join(folder, 'closed');
    mkdirSync(closed, { mode: 0 });
    await refuses(sftOn(closed), /closed cannot be read: permission denied; change its permissions\.$/);
    await refuses(sftOn(path.join(closed, 'rows')), /rows cannot be read: permission denied; change its permissions\.$/);
    await refuses(compare(path.join(closed, 'out.md')), /out\.md could not be saved: no permission to write there/);
    await refuses(
      ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', closed],
      /closed cannot be read: permission denied/,
    );
  });
});

describe('an empty file is named', () => {
  test('as a dataset', async (t) => {
    await refuses(sftOn(put(workFolder(t), 'rows.json', '')), /rows\.json is empty, but rows were expected/);
  });
  test('as a dataset without a row', async (t) => {
    await refuses(sftOn(put(workFolder(t), 'rows.json', [])), /rows\.json holds no rows/);
  });
  test('as a recipe', async (t) => {
    await refuses(
      ['sft', '--config', put(workFolder(t), 'recipe.yaml', '# nothing\n')],
      /recipe\.yaml is empty, but a recipe was expected/,
    );
  });
});

describe('broken JSON and YAML are shown with line and column', () => {
  test('in a JSON array', async (t) => {
    const file = put(workFolder(t), 'rows.json', '[\n  {"prompt": "a", "completion": "b"},\n  {"prompt": "a" "completion": "b"}\n]\n');
    await refuses(sftOn(file), /rows\.json is not valid JSON: line 3, column 18: expected "," or "}"/);
  });
  test('in JSONL', async (t) => {
    const file = put(workFolder(t), 'rows.jsonl', `${JSON.stringify(row)}\n{"prompt": "a", \n`);
    await refuses(sftOn(file), /rows\.jsonl is not valid JSON: line 2, column 17/);
  });
  test('in a recipe', async (t) => {
    const file = put(workFolder(t), 'recipe.yaml', 'model_name_or_path: base\ndataset_name: "rows.json\nseed: 1\n');
    await refuses(['sft', '--config', file], /recipe\.yaml is not valid YAML: line \d, column \d+: .+; correct it there\.$/);
  });
});

test('a row of another format in the middle is shown with its number and what was expected', async (t) => {
  const folder = workFolder(t);
  const file = put(folder, 'rows.json', [row, row, { instruction: 'Say hello.', output: 'Hello.' }, row]);
  await refuses(
    sftOn(file),
    /rows\.json row 3 has the columns "instruction", "output" \(Alpaca\), but the rows before it are prompt\/completion: expected "prompt" and "completion"/,
  );
  assert.ok(!existsSync(path.join(folder, 'out')), 'nothing was written');
});

test('an example whose completion max_length cuts away entirely is shown with its row', async (t) => {
  const file = put(workFolder(t), 'rows.json', [row, { prompt: 'long '.repeat(40), completion: 'short' }]);
  await refuses(sftOn(file, '--max_length', '16'), /rows\.json row 2.+max_length 16.+completion is cut away entirely.+raise max_length/);
});

describe('an unknown or misspelt name brings the nearest known one', () => {
  test('of a key in a recipe, with its line', async (t) => {
    const file = put(workFolder(t), 'recipe.yaml', `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\nlearning_rat: 1e-4\n`);
    await refuses(['sft', '--config', file], /recipe\.yaml line 3: learning_rat is not a known setting; the nearest is learning_rate\.$/);
  });
  test('of a setting on the command line', async () => {
    await refuses(
      sftOn(goldenRows, '--num_train_epoch', '1'),
      /num_train_epoch is not a known setting; the nearest is num_train_epochs\.$/,
    );
  });
  test('of a flag', async () => {
    await refuses(['score', '--modle', goldenModel], /--modle is not a flag of tunebook score; the nearest is --model\.$/);
  });
  test('of a flag, or where they are listed if none is near', async () => {
    await refuses(['score', '--frobnicate', '1'], /--frobnicate is not a flag of tunebook score; tunebook score --help lists them all\.$/);
  });
  test('of a verb', async () => {
    await refuses(['evalaute'], /"evalaute" is no verb of tunebook; the nearest is evaluate/);
    await refuses(
      ['frobnicate'],
      /"frobnicate" is no verb of tunebook; there are sft, evaluate, score, generate, chat, compare, merge and export\.$/,
    );
  });
});

describe('a value out of range comes with the range', () => {
  test('in a recipe, with its line', async (t) => {
    const file = put(
      workFolder(t),
      'recipe.yaml',
      `model_name_or_path: ${goldenModel}\ndataset_name: ${goldenRows}\nlearning_rate: -1e-4\n`,
    );
    await refuses(['sft', '--config', file], /recipe\.yaml line 3: learning_rate is .*-?\S+, but must be a number, at least 0/);
  });
  test('on the command line', async () => {
    await refuses(sftOn(goldenRows, '--warmup_ratio', '2'), /warmup_ratio is "2", but must be a number, at least 0 and at most 1/);
    await refuses(
      ['generate', '--model', goldenModel, '--prompt', 'Hi', '--top_p=0'],
      /--top_p is "0", but must be a number, above 0 and at most 1/,
    );
  });
  test('where the value is missing', async () => {
    await refuses(['score', '--model'], /--model needs a value: --model DIR_OR_ID/);
    await refuses(sftOn(goldenRows, '--learning_rate'), /--learning_rate needs a value: a number, at least 0\./);
    await refuses(sftOn(goldenRows, '--dataset_test_split'), /--dataset_test_split needs a value: a text\./);
  });
});

interface SafetensorsHeader {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

/** Rewrites the header of a checkpoint's weights. */
function changeHeader(model: string, change: (header: SafetensorsHeader) => void): void {
  const file = path.join(model, 'model.safetensors');
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as SafetensorsHeader;
  change(header);
  const text = Buffer.from(JSON.stringify(header));
  const start = Buffer.alloc(8);
  start.writeBigUInt64LE(BigInt(text.length));
  put(model, 'model.safetensors', Buffer.concat([start, text, bytes.subarray(8 + length)]));
}

const NORM = 'model.layers.0.input_layernorm.weight';

describe('a damaged checkpoint is refused', () => {
  test('without weights', async (t) => {
    const model = copyOfModel(workFolder(t));
    rmSync(path.join(model, 'model.safetensors'));
    await refuses(
      score(model),
      /model holds a config\.json but no weights: neither model\.safetensors nor model\.safetensors\.index\.json is there/,
    );
  });
  test('with a missing tensor', async (t) => {
    const model = copyOfModel(workFolder(t));
    changeHeader(model, (header) => {
      header['some.rotary_emb.inv_freq'] = header[NORM];
      delete header[NORM];
    });
    await refuses(score(model), /the tensor "model\.layers\.0\.input_layernorm\.weight" is missing from the weights/);
  });
  test('with an extra tensor', async (t) => {
    const model = copyOfModel(workFolder(t));
    changeHeader(model, (header) => {
      header['model.extra.weight'] = { dtype: 'F32', shape: [0], data_offsets: [0, 0] };
    });
    await refuses(score(model), /holds the tensor "model\.extra\.weight", which the model of config\.json does not have/);
  });
  test('with a wrongly shaped tensor', async (t) => {
    const model = copyOfModel(workFolder(t));
    changeHeader(model, (header) => {
      header[NORM].shape = [2, header[NORM].shape[0] / 2];
    });
    await refuses(
      score(model),
      /the tensor "model\.layers\.0\.input_layernorm\.weight" has shape \[2,32\], but config\.json asks for \[64\]/,
    );
  });
  test('with a truncated file', async (t) => {
    const model = copyOfModel(workFolder(t));
    truncateSync(path.join(model, 'model.safetensors'), 200_000);
    await refuses(
      score(model),
      /model\.safetensors is truncated: ".+" should reach to byte \d+, but the file has 200000; download or save it again\.$/,
    );
  });
  test('with a header that claims more bytes than the file has', async (t) => {
    const model = copyOfModel(workFolder(t));
    const file = path.join(model, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes.writeBigUInt64LE(1n << 40n);
    put(model, 'model.safetensors', bytes);
    await refuses(score(model), /the header claims 1099511627776 bytes, but the file has \d+/);
  });
  test('with a shard name that leaves the folder', async (t) => {
    const folder = workFolder(t);
    const model = copyOfModel(folder);
    put(folder, 'outside.safetensors', readFileSync(path.join(model, 'model.safetensors')));
    rmSync(path.join(model, 'model.safetensors'));
    put(model, 'model.safetensors.index.json', { weight_map: { [NORM]: '../outside.safetensors' } });
    await refuses(score(model), /names the shard "\.\.\/outside\.safetensors"; a shard must be a \.safetensors file in the same folder/);
  });
});

test('a token id outside the vocabulary is shown with its place', async () => {
  await refuses(
    ['score', '--model', goldenModel, '--input_ids', '1,2,1024'],
    /Token id 1024 at place 3 is outside the model's vocabulary, which has the ids 0 to 1023/,
  );
  await refuses(
    ['score', '--model', goldenModel, '--input_ids', '1,-2'],
    /--input_ids is "1,-2", but must be whole numbers separated by commas/,
  );
});

test('a tokenizer that makes ids beyond the vocabulary is refused with the row', async (t) => {
  const folder = workFolder(t);
  const model = copyOfModel(folder);
  const tokenizer = JSON.parse(readFileSync(path.join(model, 'tokenizer.json'), 'utf8')) as { added_tokens: object[] };
  tokenizer.added_tokens.push({
    id: 1500,
    content: '<other>',
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  put(model, 'tokenizer.json', tokenizer);
  const rows = put(folder, 'rows.json', [row, { prompt: 'Say <other>:', completion: 'No.' }]);
  await refuses(['sft', '--model', model, '--data', rows, '--output_dir', path.join(folder, 'out')], /rows\.json row 2.+1500.+1024/);
});

/** Every file under a folder with its content. */
function contents(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map(({ parentPath, name }) => [path.join(parentPath, name), readFileSync(path.join(parentPath, name), 'latin1')]),
  );
}

describe('a full disk', { skip: process.platform === 'win32' && 'Windows has no limit for the size of files' }, () => {
  const steps = ['--max_steps', '1', '--save_strategy', 'no', '--overwrite_output_dir', '--train_sampling_strategy', 'sequential'];

  test('while the trained model is saved leaves the one that was there before', async (t) => {
    const folder = workFolder(t);
    const out = path.join(folder, 'out');
    await tunebookJson(['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out, ...steps]);
    const before = contents(out);
    await refuses(
      ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out, '--learning_rate', '1', ...steps],
      /^The disk is full: .*out.* could not be saved; nothing was lost/,
      { fileSizeLimit: 400 },
    );
    const after = contents(out);
    assert.deepEqual(Object.keys(after).sort(), Object.keys(before).sort(), 'nothing half-written is left behind');
    for (const name of ['model.safetensors', 'config.json', 'tokenizer.json'])
      assert.ok(after[path.join(out, name)] === before[path.join(out, name)], name);
    await tunebookJson(score(out));
  });

  test('while a checkpoint is saved leaves the earlier checkpoints, from which the run goes on', async (t) => {
    const out = path.join(workFolder(t), 'out');
    const words = [
      'sft',
      '--model',
      goldenModel,
      '--data',
      goldenRows,
      '--output_dir',
      out,
      '--max_steps',
      '3',
      '--save_steps',
      '2',
      '--resume_from_checkpoint',
    ];
    await refuses(words, /^The disk is full: \S*[/\\]checkpoint-2 could not be saved/, { fileSizeLimit: 400 });
    assert.deepEqual(
      readdirSync(out).filter((name) => name.includes('checkpoint')),
      [],
    );
    const summary = await tunebookJson<{ global_step: number }>(words);
    assert.equal(summary.global_step, 3);
  });
});

describe('an output folder that holds something else is left alone', () => {
  test('by sft', async (t) => {
    const folder = workFolder(t);
    const out = path.join(folder, 'out');
    mkdirSync(out);
    put(out, 'thesis.txt', 'years of work');
    put(out, 'config.json', { theme: 'dark' });
    const before = contents(out);
    await refuses(
      ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out, '--max_steps', '1'],
      /out (already )?holds something else \(/,
    );
    assert.deepEqual(contents(out), before);
  });
  test('also when it is a file', async (t) => {
    const out = put(workFolder(t), 'out', 'a file');
    await refuses(['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', out, '--max_steps', '1'], /out is a file/);
    assert.equal(readFileSync(out, 'utf8'), 'a file');
  });
  test('also when a folder above it is a file', async (t) => {
    const out = put(workFolder(t), 'out', 'a file');
    for (const below of [path.join(out, 'run'), path.join(out, 'deep', 'run')])
      await refuses(
        ['sft', '--model', goldenModel, '--data', goldenRows, '--output_dir', below],
        /out is a file, so no model can be saved there/,
      );
    assert.equal(readFileSync(out, 'utf8'), 'a file');
  });
});

test('sft sees before it loads anything that a run is unfinished, or that there is none to continue', async (t) => {
  const out = workFolder(t);
  put(out, 'run.json', { tool: 'tunebook', finished: false });
  mkdirSync(path.join(out, 'checkpoint-2'));
  put(path.join(out, 'checkpoint-2'), 'trainer_state.json', {});
  const words = ['sft', '--model', path.join(out, 'no-model'), '--data', path.join(out, 'no-rows.json'), '--output_dir', out];
  await refuses(words, /^output_dir \S+ holds an unfinished run with checkpoint-2; continue it with resume_from_checkpoint: true, /);
  const checkpoint = path.join(out, 'checkpoint-3');
  await refuses([...words, '--resume_from_checkpoint', checkpoint], /checkpoint-3 is not a complete checkpoint/);
  for (const more of [['--resume_from_checkpoint'], ['--overwrite_output_dir']])
    await refuses([...words, ...more], /no-rows\.json does not exist; check the path/);
});

test('compare sees before it asks that its output cannot be written', async (t) => {
  const folder = workFolder(t);
  await refuses(
    ['compare', '--base', goldenModel, '--tuned', goldenModel, '--questions', goldenRows, '--output', folder],
    /could not be saved: it is a folder/,
  );
});

test('compare names the question of a list that is no text', async (t) => {
  const questions = put(workFolder(t), 'questions.json', ['Who?', 3]);
  await refuses(
    ['compare', '--base', goldenModel, '--tuned', goldenModel, '--questions', questions],
    /questions\.json: question 2 is 3, but a text was expected; correct it or remove it\.$/,
  );
});

test('compare never replaces its questions', async (t) => {
  const folder = workFolder(t);
  const questions = put(folder, 'questions.txt', 'What is the capital of France?\n');
  const words = ['compare', '--base', goldenModel, '--tuned', goldenModel, '--questions', questions, '--output'];
  await refuses(
    [...words, questions],
    /^--output .+questions\.txt is the file of the questions, which it would replace; name another file\.$/,
  );
  symlinkSync('questions.txt', path.join(folder, 'link.md'));
  await refuses([...words, path.join(folder, 'link.md')], /link\.md is the file of the questions/);
  assert.equal(readFileSync(questions, 'utf8'), 'What is the capital of France?\n');
});

test('a sentence of the library speaks of flags', async () => {
  await refuses(
    ['generate', '--model', goldenModel, '--prompt', 'Hi', '--max_new_tokens', '9999'],
    /lower --max_new_tokens to \d+ or shorten the prompt/,
  );
});

test('a path stays as it was written, also if it has the name of an option', async (t) => {
  const folder = path.join(workFolder(t), 'maxLength');
  mkdirSync(folder);
  const evaluate = (model: string): string[] => ['evaluate', '--model', model, '--data', goldenRows];
  await refuses(evaluate(path.join(folder, 'm')), /There is no folder .+\/maxLength\/m; check the path/);
  await refuses(evaluate('./maxLength'), /There is no folder .*maxLength; check the path/, { cwd: folder });
});

describe('a value that begins with dashes', () => {
  const generate = (...words: string[]): string[] => ['generate', '--model', goldenModel, ...words];
  test('is asked for behind an equals sign', async () => {
    await refuses(generate('--prompt', '-- a list'), /^"-- a list" is no flag; .+ behind an equals sign: --prompt="-- a list"\.$/);
    await refuses(
      generate('--prompt', '--froob'),
      /^--froob is not a flag of .+, and as the value of --prompt it is written --prompt=--froob\.$/,
    );
  });
  test('is taken there', async () => {
    const { prompt } = await tunebookJson(generate('--prompt=-- a list', '--max_new_tokens', '1'));
    assert.equal(prompt, '-- a list');
  });
});

test('with --json the sentence is also one object on standard output', async () => {
  const { code, stdout, stderr } = await tunebook(['score', '--json', '--model', goldenModel]);
  assert.equal(code, 1);
  const { error } = JSON.parse(stdout) as { error: string };
  assert.match(error, /needs either --text TEXT or --input_ids 1,2,3/);
  assert.equal(stderr, `${error}\n`);
});
