import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { Dataset } from '../../lib/data';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, tokenizeExample } from '../../lib/text';
import { tokenizerConfigFile } from '../../scripts/pretrain/tokenizer-files';

const base = path.join(projectRoot, 'data', 'base');
const turn = (role: string, content: string) => ({ role, content });

test('the shipped tokenizer_config.json is the one that the pretraining writes', () => {
  assert.equal(readFileSync(path.join(base, 'tokenizer_config.json'), 'utf8'), tokenizerConfigFile());
});

test('a conversation of one turn gives the tokens and the mask of the same Alpaca row', async () => {
  const tokenizer = await loadTokenizer(base);
  const rows = JSON.parse(readFileSync(path.join(projectRoot, 'data', 'instructions.json'), 'utf8')) as Array<Record<string, string>>;
  const plain = [...rows.filter(({ input }) => !input).slice(0, 40), { instruction: "It's\n\n é 😀 ", output: ' two\nlines ' }];
  assert.equal(plain.length, 41);
  for (const { instruction, output } of plain) {
    const [alpaca] = Dataset.fromRows([{ instruction, output }]).rows;
    const [question, answer] = [turn('user', instruction), turn('assistant', output)];
    const expected = tokenizeExample(alpaca, tokenizer);
    for (const [row, options] of [
      [{ messages: [question, answer] }, { assistantOnlyLoss: true }],
      [{ messages: [question, answer] }, { completionOnlyLoss: true }],
      [{ prompt: [question], completion: [answer] }, {}],
      [
        {
          conversations: [
            { from: 'human', value: instruction },
            { from: 'gpt', value: output },
          ],
        },
        { assistantOnlyLoss: true },
      ],
    ] as const)
      assert.deepEqual(tokenizeExample(Dataset.fromRows([row]).rows[0], tokenizer, options), expected, instruction);
  }
});

test('a system message stands in place of the first sentences, and every answer is learned with its end of text', async () => {
  const tokenizer = await loadTokenizer(base);
  const messages = [
    turn('system', 'Be brief.'),
    turn('user', 'Hi'),
    turn('assistant', 'Hello'),
    turn('user', 'Bye'),
    turn('assistant', 'So long'),
  ];
  const whole =
    'Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello<|endoftext|>\n\n### Instruction:\nBye\n\n### Response:\nSo long<|endoftext|>';
  assert.equal(tokenizer.applyChatTemplate(messages), whole);
  assert.equal(
    tokenizer.applyChatTemplate(messages.slice(0, 4), { addGenerationPrompt: true }),
    whole.slice(0, -'So long<|endoftext|>'.length),
  );
  const made = tokenizeExample({ messages }, tokenizer, { assistantOnlyLoss: true });
  const learned = [...made.inputIds].filter((_, i) => made.lossMask[i]);
  assert.equal(tokenizer.decode(learned, { skipSpecialTokens: false }), 'Hello<|endoftext|>So long<|endoftext|>');
  assert.throws(() => tokenizer.applyChatTemplate([turn('tool', '4')]), /not of tool/);
});
