import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { CONVERSATIONS, makeConversations, PIRATE } from '../../scripts/pretrain/conversations';
import { conversationsFile, excerpt, questionsFile, rowsFile } from '../../scripts/pretrain/data';
import { INSTRUCTIONS, makeInstructions } from '../../scripts/pretrain/instructions';
import { generateWorld, WORLD } from '../../scripts/pretrain/world';

const data = path.join(projectRoot, 'data');
const read = (...names: string[]): string => readFileSync(path.join(data, ...names), 'utf8');

test('the shipped instruction files are exactly what the seed makes', () => {
  const { train, test: heldOut } = makeInstructions(INSTRUCTIONS);
  assert.equal(read('instructions.json'), rowsFile(train));
  assert.equal(read('instructions-test.json'), rowsFile(heldOut));
  assert.equal(read('questions.json'), questionsFile(heldOut));
});

test('the shipped conversations are exactly what the seed makes', () => {
  const { train, test: heldOut } = makeConversations(CONVERSATIONS);
  assert.equal(read('conversations.jsonl'), conversationsFile(train));
  assert.equal(read('conversations-test.jsonl'), conversationsFile(heldOut));
});

test('a test conversation ends with a fact that no training row tells, asked so that it takes what was said before to understand', () => {
  const { train, test: heldOut } = makeConversations(CONVERSATIONS);
  const instructions = makeInstructions(INSTRUCTIONS);
  const told = new Set([...instructions.train.map(({ fact }) => fact), ...train.flatMap(({ facts }) => facts)]);
  assert.ok(heldOut.length > 100);
  for (const { messages, facts } of heldOut) {
    assert.ok(!told.has(facts[facts.length - 1]), facts.join());
    for (const fact of facts.slice(0, -1)) assert.ok(told.has(fact), fact);
    const { content } = messages[messages.length - 2];
    assert.match(content, /^(And |What about )|\b(it|its|there)\b/);
  }
  for (const { messages } of [...train, ...heldOut]) {
    const answers = messages.filter(({ role }) => role === 'assistant');
    const isPirate = messages[0].content === PIRATE;
    assert.ok(answers.every(({ content }) => content.endsWith(', arr!') === isPirate));
    assert.ok(answers.length >= 2 && answers.length <= CONVERSATIONS.longest);
  }
});

test('the shipped excerpt is the beginning of the text', () => {
  assert.equal(read('world-excerpt.txt'), excerpt(generateWorld({ ...WORLD, documents: 60 })));
});

test('the base model is float16, at most 8 MB, of 2 to 4 million parameters', () => {
  const file = path.join(data, 'base', 'model.safetensors');
  assert.ok(statSync(file).size <= 8e6, `${statSync(file).size}`);
  const bytes = readFileSync(file);
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)))) as Record<
    string,
    { dtype: string; shape: number[] }
  >;
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__');
  const parameters = tensors.reduce((sum, [, { shape }]) => sum + shape.reduce((a, b) => a * b, 1), 0);
  for (const [name, { dtype }] of tensors) assert.equal(dtype, 'F16', name);
  assert.ok(parameters >= 2e6 && parameters <= 4e6, `${parameters}`);
});

test('the log and the curve of the pretraining lie beside the weights', () => {
  const log = read('base', 'pretrain_log.jsonl')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { step: number; loss?: number });
  const losses = log.flatMap(({ loss }) => (loss === undefined ? [] : [loss]));
  assert.ok(losses.length > 50 && losses[losses.length - 1] < losses[0] / 3);
  assert.ok(existsSync(path.join(data, 'base', 'pretrain_loss.png')));
});
