import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import type { AlpacaExample } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { compareModels, exactMatch, perplexity, scoreAnswer } from '../../lib/evaluate';
import { type CausalLM, generateBatch, loadModel, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { alpacaPrompt } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';
import { families } from '../golden-families';

const golden = path.join(projectRoot, 'test', 'golden');
const read = <T>(...names: string[]): T => JSON.parse(fs.readFileSync(path.join(golden, ...names), 'utf8')) as T;
const rows = read<AlpacaExample[]>('rows.json');

before(async () => {
  await useDevice('cpu');
});

async function tinyModel(t: TestContext, family = 'llama'): Promise<CausalLM> {
  const model = await loadModel(path.join(golden, family, 'model'));
  t.after(() => model.dispose());
  return model;
}

describe('perplexity', () => {
  for (const family of families) {
    test(`is exp of the mean loss of the completions' tokens (${family})`, async (t) => {
      const model = await tinyModel(t, family);
      const found = await perplexity(model, rows.slice(0, 5));
      let [nll, targets, correct, tokens] = [0, 0, 0, 0];
      for (const row of rows.slice(0, 5)) {
        const prompt = model.tokenizer.encode(alpacaPrompt(row), { addSpecialTokens: true });
        const ids = model.tokenizer.encode(alpacaPrompt(row) + row.output + model.tokenizer.eosToken, { addSpecialTokens: true });
        const scores = await tokenNll(model, ids);
        for (let i = prompt.length; i < ids.length; i++) {
          nll += scores.nll[i - 1];
          if (scores.argmax[i - 1] === ids[i]) correct++;
          targets++;
        }
        tokens += ids.length;
      }
      assert.ok(Math.abs(found.loss - nll / targets) < 1e-5, `${found.loss} and ${nll / targets}`);
      assert.ok(Math.abs(found.perplexity - Math.exp(nll / targets)) < 1e-2);
      assert.equal(found.meanTokenAccuracy, correct / targets);
      assert.equal(found.numTargets, targets);
      assert.equal(found.numTokens, tokens);
    });
  }

  test('of plain text is that of all its tokens, and does not depend on the token budget', async (t) => {
    const model = await tinyModel(t);
    const texts = ['The car sped quickly.', 'A job that a computer can do better than a human being.', 'One more text.'];
    const [alone, together] = [await perplexity(model, texts, { tokensPerMicroBatch: 1 }), await perplexity(model, texts)];
    assert.ok(Math.abs(alone.loss - together.loss) < 1e-6);
    assert.equal(together.numTargets, together.numTokens - texts.length, 'all but the first of each');
    assert.deepEqual(await perplexity(model, texts[0]), await perplexity(model, [{ text: texts[0] }]));
  });

  test('of a text does not depend on those beside it, though longer ones stretch their positions (dynamic RoPE)', async (t) => {
    const model = await loadModel(path.join(projectRoot, 'test/model/fixtures/llama-dynamic'));
    t.after(() => model.dispose());
    const texts = ['ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'A'.repeat(50)];
    const [first, second, both] = [await perplexity(model, texts[0]), await perplexity(model, texts[1]), await perplexity(model, texts)];
    const total = first.loss * first.numTargets + second.loss * second.numTargets;
    assert.ok(Math.abs(both.loss * both.numTargets - total) < 1e-3, `${both.loss * both.numTargets} instead of ${total}`);
  });

  test('keeps no tensors', async (t) => {
    const model = await tinyModel(t);
    await perplexity(model, rows.slice(0, 2));
    const before = tf.memory().numTensors;
    await perplexity(model, rows.slice(0, 7));
    assert.equal(tf.memory().numTensors, before);
  });

  test('of nothing is refused', async (t) => {
    await assert.rejects(
      perplexity(await tinyModel(t), []),
      (error: unknown) => error instanceof UserError && /no examples/.test(error.message),
    );
  });
});

describe('answers', () => {
  test('match exactly or not, and share words', () => {
    assert.deepEqual(scoreAnswer(' Paris\n', 'Paris'), { exactMatch: 1, f1: 1 });
    assert.deepEqual(scoreAnswer('The capital is Paris.', 'capital is Paris'), { exactMatch: 0, f1: 1 });
    assert.deepEqual(scoreAnswer('It is Rome', 'It is Paris'), { exactMatch: 0, f1: 2 / 3 });
    assert.deepEqual(scoreAnswer('', 'Paris'), { exactMatch: 0, f1: 0 });
    assert.deepEqual(scoreAnswer('-5', '5').exactMatch, 0);
    // SQuAD's own script counts these words whole: no article is in them
    assert.deepEqual(scoreAnswer('Un año', 'Un ño').f1, 0.5);
    assert.deepEqual(scoreAnswer('ćaća', 'ć'), { exactMatch: 0, f1: 0 });
    assert.deepEqual(scoreAnswer('À the table', 'à table').f1, 1);
  });

  test('come in the order of the questions, however they are batched', async (t) => {
    const model = await tinyModel(t);
    const asked = rows.slice(0, 5);
    const options = { maxNewTokens: 6 };
    const [together, single] = [
      await exactMatch(model, asked, { ...options, batchSize: 5 }),
      await exactMatch(model, asked, { ...options, batchSize: 1 }),
    ];
    assert.deepEqual(together, single);
    assert.deepEqual(
      together.answers.map(({ reference }) => reference),
      asked.map(({ output }) => output.trim()),
    );
  });

  test('to a conversation belong to the question that was put, whatever follows the answer', async (t) => {
    const model = await loadModel(path.join(projectRoot, 'data', 'base'));
    t.after(() => model.dispose());
    const say = (role: string, content: string) => ({ role, content });
    const [first, second] = [
      [say('user', 'What is 2 + 2?'), say('assistant', '4')],
      [say('user', 'And 3 + 3?'), say('assistant', '6')],
    ];
    const rows = [
      { messages: [...first, ...second] },
      { messages: [...first, say('user', 'Thanks.')] },
      { messages: [...first, ...second], promptLength: 1 },
    ];
    const found = await exactMatch(model, rows, { maxNewTokens: 1 });
    assert.match(inspect(found), /^3 answers: exact match \d+\.\d%, word F1 \d+\.\d%; \.answers has each$/);
    assert.deepEqual(
      found.answers.map(({ question, reference }) => [question, reference]),
      [
        ['And 3 + 3?', '6'],
        ['What is 2 + 2?', '4'],
        ['What is 2 + 2?', '4'],
      ],
    );
  });

  test('to a conversation continue the tokens that it is trained with: nothing stands around what the template wrote', async (t) => {
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-answers-'));
    t.after(() => fs.rmSync(folder, { recursive: true }));
    fs.cpSync(path.join(golden, 'llama', 'model'), folder, { recursive: true });
    const file = path.join(folder, 'tokenizer.json');
    const bos = { SpecialToken: { id: '<|endoftext|>', type_id: 0 } };
    const surroundings = {
      type: 'TemplateProcessing',
      single: [bos, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<|endoftext|>': { id: '<|endoftext|>', ids: [0], tokens: ['<|endoftext|>'] } },
    };
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(fs.readFileSync(file, 'utf8')), post_processor: surroundings }));
    fs.writeFileSync(path.join(folder, 'chat_template.jinja'), '{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}');
    const model = await loadModel(folder);
    t.after(() => model.dispose());
    assert.deepEqual(model.tokenizer.encode('', { addSpecialTokens: true }), [0]);
    const messages = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ];
    const [{ prompt, answer }] = (await exactMatch(model, [{ messages }], { maxNewTokens: 8 })).answers;
    const [{ text }] = await generateBatch(model, [model.tokenizer.encode(prompt)], { maxNewTokens: 8 });
    assert.equal(answer, text.trim());
  });

  test('are asked of rows as a file may have them, and of no others', async (t) => {
    const model = await tinyModel(t);
    // what JSON.parse gives has no type to hold it to
    const read = (...rows: unknown[]) => rows as AlpacaExample[];
    const [{ question, reference }] = (await exactMatch(model, read({ instruction: 'Say hello.', input: null, output: 'Hello' }))).answers;
    assert.deepEqual([question, reference], ['Say hello.', 'Hello']);
    const unknown = read(rows[0], { question: 'Say hello.' });
    const refused = { name: 'UserError', message: /row 2 has the column "question", which is no known format/ };
    await assert.rejects(exactMatch(model, unknown), refused);
    await assert.rejects(compareModels({ base: model, tuned: model, questions: unknown }), refused);
  });

  test('are not begun where a prompt is too long, and its row is named', async (t) => {
    const model = await tinyModel(t);
    let answered = false;
    const onToken = () => {
      answered = true;
    };
    const asked = [rows[0], { instruction: 'word '.repeat(3000), output: 'Hello' }, rows[1]];
    await assert.rejects(exactMatch(model, asked, { maxNewTokens: 2, batchSize: 1, onToken }), {
      name: 'UserError',
      message: /^row 2: A text of \d+ tokens is longer than the \d+ that the model can read/,
    });
    assert.equal(answered, false);
  });

  test('are told piece by piece with the index of their row', async (t) => {
    const model = await tinyModel(t);
    const pieces = ['', '', '', ''];
    const onToken = (piece: string, index: number) => {
      pieces[index] += piece;
    };
    const { answers } = await exactMatch(model, rows.slice(0, 4), { maxNewTokens: 6, batchSize: 2, onToken });
    assert.deepEqual(
      answers.map(({ answer }) => answer),
      pieces.map((text) => text.trim()),
    );
  });

  test('in batches of no whole number are refused, as is a length that is none', async (t) => {
    const model = await tinyModel(t);
    for (const value of [0, -1, 1.5, Number.NaN]) {
      const refusal = (name: string) => ({ name: 'UserError', message: `${name} is ${value}; expected a whole number of at least 1.` });
      await assert.rejects(exactMatch(model, rows, { batchSize: value }), refusal('batchSize'));
      await assert.rejects(perplexity(model, rows, { maxLength: value }), refusal('maxLength'));
      await assert.rejects(perplexity(model, rows, { tokensPerMicroBatch: value }), refusal('tokensPerMicroBatch'));
    }
    await assert.rejects(
      exactMatch(model, rows, { batchSize: null as unknown as number }),
      /^UserError: batchSize is null; expected a whole/,
    );
  });

  test('to rows without a reference are not scored, and not part of the means', async (t) => {
    const model = await tinyModel(t);
    const unanswered = [{ text: 'Once upon a time' }, { instruction: 'Say hello.', output: '' }];
    const options = { maxNewTokens: 6 };
    const [{ answer }] = (await exactMatch(model, rows.slice(0, 1), options)).answers;
    assert.notEqual(answer, '');
    const { exactMatch: share, f1, answers } = await exactMatch(model, [...unanswered, { ...rows[0], output: answer }], options);
    assert.deepEqual([share, f1], [1, 1]);
    assert.deepEqual(
      answers.map((each) => [each.exactMatch, each.f1]),
      [
        [undefined, undefined],
        [undefined, undefined],
        [1, 1],
      ],
    );
    const none = await exactMatch(model, unanswered, options);
    assert.deepEqual([none.exactMatch, none.f1], [undefined, undefined]);
  });
});

describe('compareModels', () => {
  test('writes both answers to each question, and scores where there is a reference', async (t) => {
    const [base, tuned] = [await tinyModel(t), await tinyModel(t)];
    const questions = [{ instruction: 'Name the capital of France.', input: 'One *word*.', output: 'Paris' }];
    await new SFTTrainer({
      model: tuned,
      trainDataset: questions,
      config: { maxSteps: 25, learningRate: 1e-2, lrSchedulerType: 'constant', disableTqdm: true },
    }).train();
    const folder = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-compare-'));
    t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
    const output = path.join(folder, 'before_after.md');
    const found = await compareModels({ base, tuned, questions, output, maxNewTokens: 8, names: { base: 'base', tuned: 'tuned' } });
    assert.equal(inspect(found), '1 question: exact match 0.0% before, 100.0% after; .markdown has both answers to each');
    assert.equal(found.questions[0].tuned.text, 'Paris');
    assert.equal(found.tuned?.exactMatch, 1);
    assert.equal(found.base?.exactMatch, 0);
    assert.ok((found.tuned?.referenceLoss ?? 1) < 0.1 && (found.base?.referenceLoss ?? 0) > 5);
    const text = fs.readFileSync(output, 'utf8');
    assert.equal(text, found.markdown);
    for (const part of [
      'Before: `base`',
      '| exact match | 0.0% | 100.0% |',
      '\n\nExact match: the share of answers that are the reference letter by letter. Word F1: how many',
      '> Name the capital of France.',
      '> One \\*word\\*.',
      'After (exact match yes, word F1 100.0%, loss of the reference 0.',
    ]) {
      assert.ok(text.includes(part), `${part} in\n${text}`);
    }
  });

  test('writes texts so that they show as they are, whatever Markdown would make of them', async (t) => {
    const model = await tinyModel(t);
    const question = '- one\n2. two\n[x](y) &lt; $z$ ~~w~~\n===\nif:\n    code';
    const { markdown } = await compareModels({ base: model, tuned: model, questions: [question], maxNewTokens: 1 });
    assert.ok(
      markdown.includes(
        [
          '> \\- one  ',
          '> 2\\. two  ',
          '> \\[x\\](y) \\&lt; \\$z\\$ \\~\\~w\\~\\~  ',
          '> \\===  ',
          '> if:  ',
          '> \u00a0\u00a0\u00a0\u00a0code\n',
        ].join('\n'),
      ),
      markdown,
    );
  });

  test('asks plain questions as instructions, without scores', async (t) => {
    const model = await tinyModel(t);
    const found = await compareModels({ base: model, tuned: model, questions: ['Say hello.'], maxNewTokens: 4 });
    assert.equal(found.base, undefined);
    assert.equal(found.questions[0].base.text, found.questions[0].tuned.text);
    assert.doesNotMatch(found.markdown, /exact match/);
    assert.match(found.markdown, /## 1\n\n> Say hello\.\n\nBefore:\n\n> /);
  });

  test('scores references together as each alone', async (t) => {
    const model = await tinyModel(t);
    const questions = [...rows.slice(0, 3), { instruction: 'Say hello.', output: '' }, rows[3]];
    const together = (await compareModels({ base: model, tuned: model, questions, maxNewTokens: 1 })).questions;
    for (const [i, row] of questions.entries()) {
      const { loss, numTargets } = row.output ? await perplexity(model, [row]) : { loss: undefined, numTargets: undefined };
      const { referenceLoss, referenceTokens } = together[i].base;
      assert.equal(referenceTokens, numTargets);
      assert.ok(loss === undefined ? referenceLoss === undefined : Math.abs((referenceLoss ?? 0) - loss) < 1e-5 * loss);
    }
  });

  test('names the question whose reference is too long before anything is answered', async (t) => {
    const model = await tinyModel(t);
    const questions = [{ instruction: 'Say hello.', output: '' }, rows[0], { instruction: 'Tell all.', output: 'word '.repeat(3000) }];
    await assert.rejects(compareModels({ base: model, tuned: model, questions }), {
      name: 'UserError',
      message: /^questions row 3 has \d+ tokens, but the model reads at most/,
    });
  });

  test('names the conversation that has no answer', async (t) => {
    const model = await tinyModel(t);
    const questions = [{ messages: [{ role: 'user', content: 'Hi' }] }];
    const refused = { name: 'UserError', message: /^(questions )?row 1: A conversation without an assistant turn/ };
    await assert.rejects(compareModels({ base: model, tuned: model, questions }), refused);
    await assert.rejects(exactMatch(model, questions), refused);
  });

  test('into a file that cannot be written is refused before anything is answered', async (t) => {
    const model = await tinyModel(t);
    let answered = false;
    const onToken = () => {
      answered = true;
    };
    await assert.rejects(
      compareModels({ base: model, tuned: model, questions: ['Say hello.'], output: golden, maxNewTokens: 2, onToken }),
      {
        name: 'UserError',
        message: /could not be saved: it is a folder/,
      },
    );
    assert.equal(answered, false);
  });

  test('without a question is refused', async (t) => {
    const model = await tinyModel(t);
    await assert.rejects(compareModels({ base: model, tuned: model, questions: [] }), UserError);
  });
});
