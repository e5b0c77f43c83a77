import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dataset } from '../../lib/data';
import { UserError } from '../../lib/errors';

const question = { role: 'user', content: 'Warm?', name: 'Ada' };
const call = { id: 'a1', type: 'function', function: { name: 'weather', arguments: { city: 'Bonn', unit: null } } };
const conversation = [
  question,
  { role: 'assistant', content: null, reasoning_content: 'I must look.', tool_calls: [call] },
  { role: 'tool', content: '21', tool_call_id: 'a1' },
  { role: 'assistant', content: 'Yes.', thinking: '21 is warm.', weight: 1 },
];

function refuses(message: unknown, pattern: RegExp): void {
  assert.throws(
    () => Dataset.fromRows([{ messages: [question, message] }]),
    (error) => error instanceof UserError && !error.message.includes('\n') && pattern.test(error.message),
  );
}

test('all fields of a message are kept: reasoning, names, tool calls and whatever else the chat template may read', async () => {
  const dataset = Dataset.fromRows([{ messages: conversation }]);
  assert.deepEqual(dataset.rows, [{ messages: conversation }]);
  assert.deepEqual(Dataset.fromDataFrame(await dataset.toDataFrame()).rows, dataset.rows);
  const [split] = Dataset.fromRows([{ prompt: conversation.slice(0, 3), completion: conversation.slice(3) }]).rows;
  assert.deepEqual(split, { messages: conversation, promptLength: 3 });
  const shared = [
    { from: 'human', value: 'Hi', name: 'Ada' },
    { from: 'gpt', value: 'Hello', reasoning_content: 'A greeting.' },
  ];
  assert.deepEqual(Dataset.fromRows([{ conversations: shared }]).rows, [
    {
      messages: [
        { role: 'user', content: 'Hi', name: 'Ada' },
        { role: 'assistant', content: 'Hello', reasoning_content: 'A greeting.' },
      ],
    },
  ]);
});

test('fields that are null, and a list of no tool calls, are left out of a message', () => {
  const answer = { role: 'assistant', content: 'Yes.', reasoning_content: null, tool_calls: [], function_call: null, name: undefined };
  assert.deepEqual(Dataset.fromRows([{ messages: [question, answer] }]).rows, [
    { messages: [question, { role: 'assistant', content: 'Yes.' }] },
  ]);
});

test('content may be missing only where tools are called, and such an answer is no empty one', () => {
  const { notes, rows } = Dataset.fromRows([{ messages: [question, { role: 'assistant', tool_calls: [call] }] }]);
  assert.deepEqual(notes, []);
  assert.deepEqual(rows, [{ messages: [question, { role: 'assistant', content: null, tool_calls: [call] }] }]);
  assert.match(
    Dataset.fromRows([{ messages: [question, { role: 'assistant', content: ' ' }] }]).notes[0],
    /1 row has an empty completion .*, so filter it out unless that is meant\.$/,
  );
  refuses({ role: 'assistant', content: null, reasoning_content: 'Hm.' }, /row 1: message 2 of "messages" has as content null/);
});

test('tool calls that are no list of objects, and fields too deep to walk through, are refused with their place', () => {
  refuses(
    { role: 'assistant', content: '', tool_calls: call },
    /message 2 of "messages" has as "tool_calls" an object, but a list of calls/,
  );
  refuses({ role: 'assistant', content: '', tool_calls: '[]' }, /has as "tool_calls" the text "\[\]", but a list of calls/);
  refuses({ role: 'assistant', content: '', tool_calls: ['weather'] }, /has as "tool_calls" a list with something else than objects/);
  let deep: unknown = 1;
  for (let i = 0; i < 600; i++) deep = [deep];
  refuses({ role: 'assistant', content: '', deep }, /message 2 of "messages": "deep" is nested more than 500 deep/);
});

test('a preview shows what a message has beside its content', () => {
  const text = Dataset.fromRows([{ messages: conversation.slice(0, 2) }]).toText();
  assert.match(
    text,
    /user name: Ada\n\s+user: Warm\?\n\s+assistant reasoning_content: I must look\.\n\s+assistant tool_calls: \[\{"id":"a1"/,
  );
  assert.doesNotMatch(text, /null\n/);
});
