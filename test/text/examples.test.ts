import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { Dataset } from '../../lib/data';
import { projectRoot } from '../../lib/project';
import { alpacaPrompt, explainNoTarget, formatExample, loadTokenizer, tokenizeExample } from '../../lib/text';
import { families } from '../golden-families';

const read = (name: string) => JSON.parse(fs.readFileSync(path.join(projectRoot, 'test', name), 'utf8'));
const goldenTokenizer = () => loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

test('the Alpaca prompt is that of the Stanford release, with and without input', () => {
  assert.equal(
    alpacaPrompt({ instruction: 'Add.', input: '1 2' }),
    'Below is an instruction that describes a task, paired with an input that provides further context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n',
  );
  assert.equal(
    alpacaPrompt({ instruction: 'Greet.', input: '' }),
    'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### Instruction:\nGreet.\n\n### Response:\n',
  );
});

test('the first prepared example of every golden run is reproduced', async () => {
  for (const family of families) {
    const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden', family, 'model'));
    for (const run of ['sft', 'sft_cosine_wd', 'sft_full_loss']) {
      const { config, first_example: expected } = read(`golden/${family}/${run}.json`);
      const made = tokenizeExample(read('golden/rows.json')[0], tokenizer, {
        maxLength: config.max_length,
        completionOnlyLoss: config.completion_only_loss,
      });
      assert.deepEqual([...made.inputIds], expected.input_ids);
    }
  }
});

test('the number of tokens seen is that of the golden log', async () => {
  const tokenizer = await goldenTokenizer();
  const { config, log } = read('golden/llama/sft.json');
  const lengths = read('golden/rows.json').map(
    (row: never) => tokenizeExample(row, tokenizer, { maxLength: config.max_length }).inputIds.length,
  );
  const perStep = config.per_device_train_batch_size * config.gradient_accumulation_steps;
  for (const record of log) {
    if (record.num_tokens === undefined || record.loss === undefined) continue;
    const seen = lengths.slice(0, record.step * perStep).reduce((sum: number, length: number) => sum + length, 0);
    assert.equal(seen, record.num_tokens, `step ${record.step}`);
  }
});

interface PreparedByTrl {
  name: string;
  tokenizer: string;
  chatTemplate: string | null;
  completionOnlyLoss: boolean | null;
  maxLength: number;
  rows: unknown[];
  prepared: Array<{ input_ids: number[]; labels: number[] }>;
}

for (const run of read('text/trl-prepared.json') as PreparedByTrl[]) {
  test(`examples are prepared as TRL does: ${run.name}`, async () => {
    const tokenizer = await loadTokenizer(path.join(projectRoot, 'test', run.tokenizer));
    const options = {
      maxLength: run.maxLength,
      chatTemplate: run.chatTemplate ?? undefined,
      completionOnlyLoss: run.completionOnlyLoss ?? undefined,
    };
    const made = Dataset.fromRows(run.rows)
      .rows.map((row) => tokenizeExample(row, tokenizer, options))
      .filter(({ lossMask }) => lossMask.includes(1));
    const labelled = made.map(({ inputIds, lossMask }) => ({
      input_ids: [...inputIds],
      labels: [...inputIds].map((id, i) => (lossMask[i] ? id : -100)),
    }));
    assert.deepEqual(labelled, run.prepared);
  });
}

test('EOS ends the completion once, also where the row already ends with it', async () => {
  const tokenizer = await goldenTokenizer();
  const plain = tokenizeExample({ prompt: 'Q', completion: 'A' }, tokenizer);
  const ended = tokenizeExample({ prompt: 'Q', completion: 'A<|endoftext|>' }, tokenizer);
  assert.deepEqual(plain, ended);
  assert.equal(plain.inputIds.at(-1), tokenizer.eosId);
  assert.equal(plain.lossMask.at(-1), 1);
});

test('a completion that max_length cuts away entirely is detected and explained with the row', async () => {
  const tokenizer = await goldenTokenizer();
  const made = tokenizeExample({ prompt: 'word '.repeat(50), completion: 'answer' }, tokenizer, { maxLength: 20 });
  assert.ok(made.truncated);
  assert.ok(!made.lossMask.includes(1));
  const said = explainNoTarget(made, 'data.jsonl line 7');
  assert.match(said, /^data\.jsonl line 7: the prompt alone fills max_length 20 \(the example has \d+ tokens\).*raise max_length/);
});

test('a cut completion still trains on what is left of it', async () => {
  const tokenizer = await goldenTokenizer();
  const made = tokenizeExample({ prompt: 'Q', completion: 'word '.repeat(50) }, tokenizer, { maxLength: 20 });
  assert.deepEqual([made.truncated, made.lossMask.includes(1), made.inputIds.length], [true, true, 20]);
  assert.notEqual(made.inputIds.at(-1), tokenizer.eosId);
});

test('no maxLength is no limit, however it is written, and one that is no length is refused', async () => {
  const tokenizer = await goldenTokenizer();
  const made = (maxLength?: number | null) =>
    tokenizeExample({ prompt: 'Q', completion: 'A' }, tokenizer, { maxLength: maxLength as number });
  assert.deepEqual(made(null), made());
  for (const value of [0, -1, 1.5, Number.NaN])
    assert.throws(() => made(value), { name: 'UserError', message: `maxLength is ${value}; expected a whole number of at least 1.` });
});

test('with completionOnlyLoss the last assistant turn of a conversation is the completion', async () => {
  const tokenizer = await goldenTokenizer();
  const messages = ['Hi', 'Hello', 'Bye', 'So long'].map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));
  const made = tokenizeExample({ messages }, tokenizer, { chatTemplate: CHATML, completionOnlyLoss: true });
  const learned = [...made.inputIds].filter((_, i) => made.lossMask[i]);
  assert.equal(tokenizer.decode(learned, { skipSpecialTokens: false }), 'So long<|im_end|>\n');
});

test('with assistantOnlyLoss every assistant turn and nothing else carries loss', async () => {
  const tokenizer = await goldenTokenizer();
  const messages = ['Hi', 'Hello', 'Bye', 'So long'].map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));
  const made = tokenizeExample({ messages }, tokenizer, { chatTemplate: CHATML, assistantOnlyLoss: true });
  const learned = [...made.inputIds].filter((_, i) => made.lossMask[i]);
  assert.equal(tokenizer.decode(learned, { skipSpecialTokens: false }), 'Hello<|im_end|>\nSo long<|im_end|>\n');
});

test('with assistantOnlyLoss, turns in the prompt of a row carry loss only without completionOnlyLoss, as in TRL', async () => {
  const tokenizer = await goldenTokenizer();
  const messages = ['Hi', 'Hello', 'Bye', 'So long'].map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));
  const blocks = CHATML.replace(
    "m.content + '<|im_end|>\n' }}",
    "'' }}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}",
  );
  const learned = (row: { promptLength?: number }, completionOnlyLoss: boolean | undefined, chatTemplate: string) => {
    const made = tokenizeExample({ messages, ...row }, tokenizer, { chatTemplate, assistantOnlyLoss: true, completionOnlyLoss });
    return tokenizer.decode(
      [...made.inputIds].filter((_, i) => made.lossMask[i]),
      { skipSpecialTokens: false },
    );
  };
  for (const completionOnlyLoss of [undefined, true]) {
    assert.equal(learned({ promptLength: 3 }, completionOnlyLoss, CHATML), 'So long<|im_end|>\n');
    assert.equal(learned({ promptLength: 3 }, completionOnlyLoss, blocks), 'So long<|im_end|>');
  }
  for (const [row, completionOnlyLoss] of [
    [{ promptLength: 3 }, false],
    [{}, undefined],
    [{}, true],
  ] as const) {
    assert.equal(learned(row, completionOnlyLoss, CHATML), 'Hello<|im_end|>\nSo long<|im_end|>\n');
    assert.equal(learned(row, completionOnlyLoss, blocks), 'Hi<|im_end|>Hello<|im_end|>Bye<|im_end|>So long<|im_end|>');
  }
});

test('a template of one’s own replaces the built-in ones and keeps the boundary', async () => {
  const tokenizer = await goldenTokenizer();
  const template = (row: object) => ({
    prompt: `Q: ${(row as { instruction: string }).instruction}\nA:\n`,
    completion: (row as { output: string }).output,
  });
  const row = { instruction: 'Who?', output: 'Me' };
  assert.deepEqual(formatExample(row, tokenizer, { template }), { prompt: 'Q: Who?\nA:\n', completion: 'Me' });
  const made = tokenizeExample(row, tokenizer, { template });
  const learned = [...made.inputIds].filter((_, i) => made.lossMask[i]);
  assert.equal(tokenizer.decode(learned), 'Me');
});

test('a token that spans the boundary of prompt and completion is noticed', async () => {
  const tokenizer = await goldenTokenizer();
  assert.equal(tokenizeExample({ prompt: 'Once', completion: 'upon' }, tokenizer).boundaryMismatch, false);
  const spanning = tokenizeExample({ prompt: 'foo ', completion: 'the' }, tokenizer);
  assert.equal(spanning.boundaryMismatch, true);
});

test('an example formatted for generation gives the chat prompt with an open assistant turn', async () => {
  const tokenizer = await goldenTokenizer();
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  assert.deepEqual(formatExample({ messages }, tokenizer, { chatTemplate: CHATML }), {
    prompt: '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    completion: 'Hello<|im_end|>\n',
  });
});

test('messages behind the last assistant turn are no part of the answer', async () => {
  const tokenizer = await goldenTokenizer();
  const messages = ['Hi', 'Hello', 'Bye'].map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));
  assert.equal(formatExample({ messages }, tokenizer, { chatTemplate: CHATML }).completion, 'Hello<|im_end|>\n');
  assert.equal(
    formatExample({ messages, promptLength: 1 }, tokenizer, { chatTemplate: CHATML }).completion.endsWith('Bye<|im_end|>\n'),
    true,
  );
});
