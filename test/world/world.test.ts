import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FACTS } from '../../scripts/pretrain/facts';
import { INSTRUCTIONS, makeInstructions } from '../../scripts/pretrain/instructions';
import { statement } from '../../scripts/pretrain/lessons';
import { PHRASES } from '../../scripts/pretrain/phrases';
import { makeRandom } from '../../scripts/pretrain/random';
import { expand, fill } from '../../scripts/pretrain/template';
import { generateWorld, WORLD } from '../../scripts/pretrain/world';

const instructions = makeInstructions(INSTRUCTIONS);
let text: string | undefined;
const wholeText = (): string => {
  text ??= generateWorld(WORLD).join('\n');
  return text;
};

test('the same seed writes the same world, another seed another one', () => {
  const some = { seed: 5, documents: 200 };
  assert.deepEqual(generateWorld(some), generateWorld(some));
  assert.notDeepEqual(generateWorld(some), generateWorld({ ...some, seed: 6 }));
});

test('the grammar chooses, nests and fills its slots, and names a slot that is missing', () => {
  const random = makeRandom(1);
  const made = new Set(Array.from({ length: 60 }, () => expand('[a|b[c|]] {s}', { s: 'x' }, random)));
  assert.deepEqual([...made].sort(), ['a x', 'b x', 'bc x']);
  assert.throws(() => fill('{nothing}', {}), /nothing/);
});

test('documents are clean English: no slot or choice is left over, no space is doubled', () => {
  for (const document of generateWorld({ seed: 3, documents: 2000 })) {
    assert.doesNotMatch(document, /[{}[\]|]|undefined| {2}|^\s|\s$| [.,?!]/, document);
    assert.match(document, /^["A-Z0-9]/, document);
  }
});

test('every fact has one id and every relation has phrases', () => {
  assert.equal(new Set(FACTS.map(({ id }) => id)).size, FACTS.length);
  for (const { relation } of FACTS) assert.ok(PHRASES[relation], relation);
});

test('no question has two answers', () => {
  const answers = new Map<string, string>();
  for (const { relation, slots } of FACTS) {
    const { ask, tasks } = PHRASES[relation];
    for (const [instruction, input, output] of [...ask.map(([question, answer]) => [question, '', answer] as const), ...tasks]) {
      const question = `${fill(instruction, slots)} ${fill(input, slots)}`;
      const answer = fill(output, slots);
      assert.equal(answers.get(question) ?? answer, answer, question);
      answers.set(question, answer);
    }
  }
});

test('no fact of a test row is in any training row', () => {
  const trained = new Set(instructions.train.map(({ fact }) => fact));
  for (const { fact, row } of instructions.test) assert.ok(!trained.has(fact), `${fact}: ${row.instruction}`);
});

test('no test row repeats a training row, whatever fact it came from', () => {
  const asked = new Set(instructions.train.map(({ row }) => `${row.instruction}\n${row.input}`));
  for (const { row } of instructions.test) assert.ok(!asked.has(`${row.instruction}\n${row.input}`), row.instruction);
});

test('there are at least 2,000 training rows, and every kind is in both parts, with and without input', () => {
  assert.ok(instructions.train.length >= 2000, `${instructions.train.length}`);
  assert.ok(instructions.test.length >= 200, `${instructions.test.length}`);
  const kinds = new Set(Object.values(PHRASES).map(({ kind }) => kind));
  for (const part of [instructions.train, instructions.test]) {
    assert.deepEqual(new Set(part.map(({ kind }) => kind)), kinds);
    assert.ok(part.some(({ row }) => row.input) && part.some(({ row }) => !row.input));
    assert.ok(part.every(({ row }) => row.instruction && row.output));
  }
});

test('every held-out fact is told in the text, many times', () => {
  const byId = new Map(FACTS.map((fact) => [fact.id, fact]));
  const world = wholeText().toLowerCase();
  for (const id of new Set(instructions.test.map(({ fact }) => fact))) {
    const fact = byId.get(id);
    assert.ok(fact, id);
    const random = makeRandom(0);
    const tellings = new Set(Array.from({ length: 40 }, () => statement(fact, random).toLowerCase()));
    const told = [...tellings].filter((sentence) => world.includes(sentence)).length;
    assert.ok(told >= 2, `${id} is told in ${told} ways`);
  }
});
