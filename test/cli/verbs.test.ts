import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { fitted, programHelp, verbHelp } from '../../lib/cli/help';
import { verbs } from '../../lib/cli/verbs';
import { projectRoot } from '../../lib/project';
import { families } from '../golden-families';
import { golden, goldenModel, goldenRows, program, put, refuses, tunebook, tunebookJson, workFolder } from './support';

interface Forward {
  input_ids: number[];
  loss: number;
  perplexity: number;
  token_nll: number[];
  argmax: number[];
  greedy: { prompt_ids: number[]; output_ids: number[] };
}

for (const family of families) {
  const model = path.join(golden, family, 'model');
  const forward = JSON.parse(readFileSync(path.join(golden, family, 'forward.json'), 'utf8')) as Forward;

  test(`score finds the losses that transformers found: ${family}`, async () => {
    const scored = await tunebookJson<Forward>(['score', '--model', model, '--input_ids', forward.input_ids.join()]);
    assert.equal(scored.token_nll.length, forward.input_ids.length - 1);
    for (const [i, expected] of forward.token_nll.entries()) assert.ok(Math.abs(scored.token_nll[i] - expected) < 1e-4, `token ${i + 1}`);
    assert.deepEqual(scored.argmax, forward.argmax);
    assert.ok(Math.abs(scored.loss - forward.loss) < 1e-4);
    assert.ok(Math.abs(scored.perplexity / forward.perplexity - 1) < 1e-4);
  });
}

describe('generate', () => {
  const forward = JSON.parse(readFileSync(path.join(golden, 'llama/forward.json'), 'utf8')) as Forward;
  const base = ['generate', '--model', goldenModel];
  test('says that what is for drawing does nothing where nothing is drawn', async () => {
    const asked = [...base, '--prompt', 'Once', '--max_new_tokens', '2', '--seed', '1'];
    assert.match(
      (await tunebook(asked)).stderr,
      /--seed has no effect: with temperature 0 the most likely token is taken; give --temperature/,
    );
    assert.doesNotMatch((await tunebook([...asked, '--temperature', '0.5'])).stderr, /no effect/);
  });

  test('refuses a template around ids, which are taken as they are', async () => {
    await refuses([...base, '--input_ids', '1,2', '--template', 'chat'], /^--template chat has no effect on --input_ids/);
  });

  test('continues as transformers does', async () => {
    const { prompt_ids: prompt, output_ids: all } = forward.greedy;
    const { ids } = await tunebookJson<{ ids: number[] }>([
      ...base,
      '--input_ids',
      prompt.join(),
      '--max_new_tokens',
      String(all.length - prompt.length),
      '--ignore_eos',
    ]);
    assert.deepEqual([...prompt, ...ids], all);
  });

  test('writes the text alone to standard output, and the same with --json', async () => {
    const words = [...base, '--prompt', 'The car', '--max_new_tokens', '8', '--temperature', '0.8', '--seed', '3'];
    const plain = await tunebook(words);
    assert.equal(plain.code, 0, plain.stderr);
    const { text } = await tunebookJson<{ text: string }>(words);
    assert.equal(plain.stdout, `${text}\n`);
  });

  test('answers several prompts', async () => {
    const { results } = await tunebookJson<{ results: Array<{ prompt: string; ids: number[] }> }>([
      ...base,
      '--prompt',
      'One',
      '--prompt',
      'Two',
      '--max_new_tokens',
      '3',
    ]);
    assert.deepEqual(
      results.map(({ prompt }) => prompt),
      ['One', 'Two'],
    );
  });
});

describe('evaluate', () => {
  test('reports loss, perplexity, accuracy and tokens over the completions', async () => {
    const found = await tunebookJson(['evaluate', '--model', goldenModel, '--data', goldenRows]);
    const { loss, perplexity, mean_token_accuracy: accuracy, num_tokens: tokens } = found as Record<string, number>;
    assert.ok(Math.abs(perplexity / Math.exp(loss) - 1) < 1e-6);
    assert.ok(loss > 5 && loss < 9 && accuracy >= 0 && accuracy <= 1 && tokens > 10_000);
  });

  test('takes prompt/completion rows as they are, as it takes every format', async (t) => {
    const folder = workFolder(t);
    const alpaca = put(folder, 'alpaca.json', [{ instruction: 'Say hello.', input: '', output: 'Hello.' }]);
    const prompt =
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nSay hello.\n\n### Response:\n';
    const pair = put(folder, 'pair.jsonl', `${JSON.stringify({ prompt, completion: 'Hello.' })}\n`);
    const text = put(folder, 'text.json', [{ text: `${prompt}Hello.` }]);
    const evaluate = (file: string, ...more: string[]) =>
      tunebookJson<{ loss: number; num_tokens: number }>(['evaluate', '--model', goldenModel, '--data', file, ...more]);
    const found = await evaluate(alpaca);
    assert.deepEqual(await evaluate(pair), found);
    assert.deepEqual(await evaluate(text), await evaluate(pair, '--completion_only_loss', 'false'));
  });

  test('scores all that the assistant says where it is asked to', async (t) => {
    const turn = (role: string, content: string) => ({ role, content });
    const [asked, answered] = [turn('user', 'Name a colour.'), turn('assistant', 'Red')];
    const data = put(workFolder(t), 'chat.json', [
      { messages: [asked, answered, turn('user', 'Another one.'), turn('assistant', 'Blue')] },
    ]);
    const model = path.join(projectRoot, 'data', 'base');
    const targets = async (...more: string[]) =>
      (await tunebookJson<{ num_target_tokens: number }>(['evaluate', '--model', model, '--data', data, ...more])).num_target_tokens;
    const last = await targets('--completion_only_loss', 'true');
    const both = await targets('--assistant_only_loss');
    assert.ok(last >= 2 && both >= last + 2 && both < (await targets()), `${last}, ${both}`);
  });
});

test('compare writes both answers to each question', async (t) => {
  const folder = workFolder(t);
  const questions = put(folder, 'questions.json', [{ instruction: 'What is the capital of France?', input: '', output: 'Paris.' }]);
  const output = path.join(folder, 'before_after.md');
  const found = await tunebookJson<{ base: Record<string, number>; questions: Array<{ question: string }> }>([
    'compare',
    '--base',
    goldenModel,
    '--tuned',
    goldenModel,
    '--questions',
    questions,
    '--output',
    output,
    '--max_new_tokens',
    '4',
  ]);
  assert.equal(found.questions[0].question, 'What is the capital of France?');
  assert.ok(found.base.perplexity > 1);
  const markdown = readFileSync(output, 'utf8');
  assert.match(markdown, /What is the capital of France\?/);
  assert.match(markdown, /Paris/);
});

test('compare reads questions from packed files, whatever bytes they begin with', async (t) => {
  const folder = workFolder(t);
  const packed = gzipSync('{"prompt": "What is the capital of France?", "completion": "Paris."}');
  // the name of what is packed comes first
  packed[3] = 8;
  const questions = path.join(folder, 'questions.jsonl.gz');
  writeFileSync(questions, Buffer.concat([packed.subarray(0, 10), Buffer.from('[1].jsonl\0'), packed.subarray(10)]));
  const words = ['compare', '--base', goldenModel, '--tuned', goldenModel, '--questions', questions, '--max_new_tokens', '1'];
  const found = await tunebookJson<{ questions: Array<{ question: string }> }>([...words, '--output', path.join(folder, 'o.md')]);
  assert.equal(found.questions[0].question, 'What is the capital of France?');
});

describe('--json', () => {
  const score = ['score', '--model', goldenModel, '--input_ids', '1,2,3'];

  test('is read as every switch is', async () => {
    for (const words of [['--json'], ['--json=true'], ['--json', 'true'], ['--json=True'], ['--json', 'false', '--json']]) {
      const { code, stdout } = await tunebook([...score, ...words]);
      assert.equal(code, 0);
      assert.equal(typeof JSON.parse(stdout).loss, 'number', words.join(' '));
    }
    for (const words of [['--json', 'false'], ['--json=False'], ['--json', '--json=false']]) {
      const { code, stdout } = await tunebook([...score, ...words]);
      assert.equal(code, 0);
      assert.match(stdout, /^loss /, words.join(' '));
    }
  });

  test('with a value that it cannot have is told in JSON', async () => {
    const { code, stdout } = await tunebook([...score, '--json=banana']);
    assert.equal(code, 1);
    assert.deepEqual(JSON.parse(stdout), { error: '--json is "banana", but must be true or false.' });
  });

  test('makes one object of help and version too', async () => {
    for (const words of [
      ['score', '--help', '--json'],
      ['score', '--json', '--help'],
      ['score', 'help', '--json'],
      ['--help', '--json'],
    ]) {
      const { code, stdout } = await tunebook(words);
      assert.equal(code, 0);
      assert.match(JSON.parse(stdout).help, /^tunebook/, words.join(' '));
    }
    const { stdout } = await tunebook(['--version', '--json']);
    assert.match(JSON.parse(stdout).version, /^\d+\.\d+\.\d+$/);
  });
});

describe('help', () => {
  for (const verb of ['sft', 'evaluate', 'score', 'generate', 'compare']) {
    test(`of ${verb} lists its flags`, async () => {
      const { code, stdout, stderr } = await tunebook([verb, '--help']);
      assert.equal(code, 0);
      assert.equal(stderr, '');
      assert.match(stdout, new RegExp(`^tunebook ${verb}: `));
      assert.match(stdout, /--json /);
      if (verb === 'sft') assert.match(stdout, /--gradient_accumulation_steps .*A whole number, at least 1; default 1\./);
    });
  }

  test('is no wider than the terminal, and goes on below what it explains', () => {
    for (const columns of [60, 80, 200]) {
      for (const text of [programHelp(), ...verbs.map(verbHelp)]) {
        const lines = fitted(text, columns).split('\n');
        for (const line of lines) assert.ok(line.length <= columns, line);
        assert.deepEqual(lines.join(' ').split(/\s+/), text.split(/\s+/));
      }
    }
    const flag = '  --threads N  Threads to compute with on the CPU.';
    assert.equal(fitted(flag, 45), '  --threads N  Threads to compute with on the\n               CPU.');
    assert.equal(fitted(flag, undefined), flag);
  });

  test('comes at once, because nothing heavy is loaded for it', (t) => {
    const telling = put(workFolder(t), 'telling.cjs', "process.on('exit', () => console.error(Object.keys(require.cache).join('\\n')));");
    const { stderr } = spawnSync(process.execPath, ['-r', telling, program, 'sft', '--help'], { encoding: 'utf8' });
    const loaded = stderr.split('\n');
    assert.ok(loaded.includes(program), stderr);
    assert.deepEqual(
      loaded.filter((file) => file.includes('node_modules')),
      [],
    );
  });

  test('--version says the version', async () => {
    const { stdout } = await tunebook(['--version']);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });
});
