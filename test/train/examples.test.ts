import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dataset } from '../../lib/data';
import { UserError } from '../../lib/errors';
import { prepareExamples } from '../../lib/train';
import { tinyModel } from './support';

const CHATML =
  "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const conversation = {
  messages: [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ],
};

test('assistant_only_loss refuses rows that are no conversations, and names the first of them', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const refuses = (row: object, pattern: RegExp, template?: () => { prompt: string; completion: string }) =>
    assert.throws(
      () => prepareExamples(Dataset.fromRows([row], 'data.json'), tokenizer, { assistantOnlyLoss: true, chatTemplate: CHATML, template }),
      (error: unknown) => error instanceof UserError && pattern.test(error.message) && !error.message.includes('\n'),
    );
  const remedy = 'but assistant_only_loss is true, .*; set it to false, or give conversations';
  refuses({ text: 'Some text' }, new RegExp(`^data\\.json row 1 is of format text, ${remedy}`));
  refuses({ prompt: 'Q', completion: 'A' }, new RegExp(`^data\\.json row 1 is of format prompt_completion, ${remedy}`));
  refuses({ instruction: 'Q', output: 'A' }, new RegExp(`^data\\.json row 1 is of format alpaca, ${remedy}`));
  refuses(conversation, /^data\.json row 1 is written by a template.*leave the template out/, () => ({ prompt: 'Q', completion: 'A' }));
  assert.equal(prepareExamples([conversation], tokenizer, { assistantOnlyLoss: true, chatTemplate: CHATML }).items.length, 1);
});

test('completion_only_loss on conversations learns the last assistant turn, unlike TRL, and that is said', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const said = (row: typeof conversation & { promptLength?: number }, completionOnlyLoss: boolean | null, assistantOnlyLoss = false) =>
    prepareExamples([row], tokenizer, { completionOnlyLoss, assistantOnlyLoss, chatTemplate: CHATML }).notes.join();
  assert.match(said(conversation, true), /^completion_only_loss is true: of 1 of 1 examples.*only the last assistant turn.*TRL/);
  for (const quiet of [
    said(conversation, null),
    said(conversation, false),
    said(conversation, true, true),
    said({ ...conversation, promptLength: 1 }, true),
  ])
    assert.equal(quiet, '');
});

test('a chat template that opens reasoning where the answer has none is told, as its prompt is not how the conversation begins', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const notes = (chatTemplate: string, content = 'A long answer of many more words than that') => {
    const values = { prompt: conversation.messages.slice(0, 1), completion: [{ role: 'assistant', content }] };
    return prepareExamples(Dataset.fromRows([values]).rows, tokenizer, { chatTemplate }).notes;
  };
  assert.deepEqual(notes(CHATML), []);
  const opens = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif");
  const [note, ...others] = notes(opens);
  assert.match(note, /^In 1 of 1 examples \(first: row 1\) the chat template begins the conversation otherwise than it writes the prompt/);
  assert.deepEqual(others, []);
  assert.throws(() => notes(opens, 'A'), /row 1: the prompt alone is written with as many tokens as the whole.*write the answer as/);
});

test('generation blocks without the end of a turn are told, as the model may not learn to stop', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const notes = (said: string) => {
    const chatTemplate = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}${said}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}`;
    return prepareExamples([conversation], tokenizer, { chatTemplate, assistantOnlyLoss: true }).notes;
  };
  assert.deepEqual(notes('{% generation %}{{ m.content }}<|im_end|>\n{% endgeneration %}'), []);
  const [note, ...others] = notes('{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>\n');
  assert.match(note, /do not have what ends a turn of the assistant, .* may not learn to stop; put the end into them\.$/);
  assert.deepEqual(others, []);
});

test('an empty text among others is left out with a note, or packed as TRL packs it; alone it is refused', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const rows = Dataset.fromRows([{ text: 'A line of text.' }, { text: '' }, { text: 'Another line.' }], 'data.jsonl');
  const { items, notes } = prepareExamples(rows, tokenizer);
  assert.equal(items.length, 2);
  assert.deepEqual(notes, ['1 example has no text (first: data.jsonl row 2), from which there is nothing to learn, and was left out.']);
  const packed = prepareExamples(rows, tokenizer, { packing: true, maxLength: 64 });
  // TRL 1.13 packs them so: the longest first
  assert.deepEqual(
    packed.items.map((item) => item.map(({ inputIds }) => inputIds.length)),
    [
      [items[0], items[1]]
        .map(([{ inputIds }]) => inputIds.length)
        .sort((a, b) => b - a)
        .concat(1),
    ],
  );
  for (const packing of [false, true]) {
    assert.throws(() => prepareExamples([{ text: '' }], tokenizer, { packing, maxLength: 64 }), {
      name: 'UserError',
      message: /^row 1: no token of this example carries loss/,
    });
  }
});

test('an example whose completion is cut away is refused, however short max_length is', async (t) => {
  const { tokenizer } = await tinyModel(t);
  for (const row of [{ prompt: 'What is it?', completion: 'Tea.' }, { text: 'Some text' }]) {
    assert.throws(() => prepareExamples([{ text: 'other text' }, row], tokenizer, { maxLength: 1 }), UserError);
    assert.throws(() => prepareExamples([row], tokenizer, { maxLength: 1 }), {
      name: 'UserError',
      message: /^row 1: the prompt alone fills max_length 1/,
    });
  }
});

test('examples with nothing left to learn are left out where that is asked for, as TRL leaves them out', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const [long, short] = [
    { prompt: 'Tea. '.repeat(40), completion: 'Yes.' },
    { prompt: 'What is it?', completion: 'Tea.' },
  ];
  const options = { maxLength: 32, dropFullyMasked: true };
  const { items, notes } = prepareExamples([short, long, { text: '' }, short, long], tokenizer, options);
  assert.deepEqual(items, prepareExamples([short, short], tokenizer, options).items);
  assert.deepEqual(notes.slice(1), [
    '1 example has no text (first: row 3), from which there is nothing to learn, and was left out.',
    '2 of 5 examples have nothing left to learn within max_length (first: row 2) and were left out.',
  ]);
  assert.throws(() => prepareExamples([long, long], tokenizer, options), /^UserError: row 1: the prompt alone fills max_length 32/);
  assert.throws(
    () => prepareExamples([short, long], tokenizer, { ...options, dropFullyMasked: false }),
    /remove the row; drop_fully_masked: true leaves such rows out, as TRL does\.$/,
  );
  assert.equal(
    prepareExamples([short, long], tokenizer, options).notes.at(-1),
    '1 of 2 examples has nothing left to learn within max_length (first: row 2) and was left out.',
  );
  // packed they may be tokens among others; a row of nothing else is left out
  assert.equal(prepareExamples([short, long], tokenizer, { ...options, packing: true }).items.flat().length, 1);
});

test('an example of which a chat template writes no token is left out of a packed row, too', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const unwritten = { messages: conversation.messages.map(({ role }) => ({ role, content: '' })) };
  const options = {
    dropFullyMasked: true,
    maxLength: 32,
    packing: true,
    chatTemplate: '{% for m in messages %}{{ m.content }}{% endfor %}',
  };
  const { items } = prepareExamples([unwritten, conversation], tokenizer, options);
  assert.deepEqual(items, prepareExamples([conversation], tokenizer, options).items);
});

test('rows that are longer than the model reads are counted, with the number to set', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const long = { prompt: 'What is it?', completion: 'Tea. '.repeat(40) };
  const rows = Dataset.fromRows([{ prompt: 'What is it?', completion: 'Tea.' }, long, long], 'data.jsonl');
  const message =
    /^data\.jsonl row 2 \(and 1 more like it\) has 167 tokens, but the model reads at most 32; set max_length: 32, which cuts off the end, or/;
  for (const maxLength of [null, 64]) assert.throws(() => prepareExamples(rows, tokenizer, { maxLength, positionLimit: 32 }), { message });
  assert.match(prepareExamples(rows, tokenizer, { maxLength: 32, positionLimit: 32 }).notes.join(), /^2 of 3 examples were longer/);
});

test('who has no room for a completion is told no length that the model does not read', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const long = { prompt: 'Tea. '.repeat(40), completion: 'Yes.' };
  const refuses = (maxLength: number, message: RegExp): void =>
    assert.throws(() => prepareExamples([long, long, { text: 'Tea.' }], tokenizer, { maxLength, positionLimit: 32 }), { message });
  refuses(
    32,
    /^row 1 \(and 1 more like it\): the prompt alone fills max_length 32 .*; the model reads at most 32, so shorten or remove the row\.$/,
  );
  refuses(16, /; raise max_length \(the model reads up to 32\), or shorten or remove the row\.$/);
});

test('conversations without an assistant turn are named, whether they are refused or learned as a whole', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const rows = Dataset.fromRows([conversation, { messages: [{ role: 'user', content: 'Hi' }] }], 'data.json');
  const prepare = (options: object) => prepareExamples(rows, tokenizer, { chatTemplate: CHATML, ...options });
  assert.deepEqual(prepare({}).notes, [
    '1 of 2 examples is a conversation without an assistant turn (first: data.json row 2); all that it says is learned, so add answers or filter it out unless that is meant.',
  ]);
  assert.throws(() => prepare({ completionOnlyLoss: true }), { message: /^data\.json row 2: A conversation without an assistant turn/ });
});

test('a token over the end of a prompt is said with the first row and a remedy', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const rows = Dataset.fromRows([{ prompt: 'The capital is ', completion: 'Paris.' }], 'data.json');
  assert.match(
    prepareExamples(rows, tokenizer).notes.join(),
    /examples \(first: data\.json row 1\) a token spans .* begin the completion with it\.$/,
  );
});

test('rows of the wrong shape are refused with their number, whoever made them', async (t) => {
  const { tokenizer } = await tinyModel(t);
  const good = { prompt: 'Q', completion: 'A' };
  for (const [row, pattern] of [
    [{ question: 'q', answer: 'a' }, /^row 2 has the columns "question", "answer", which is no known format/],
    [{ prompt: 'p' }, /^row 2 has the column "prompt", which is no known format/],
    [{ prompt: 'p', completion: null }, /^row 2: "completion" is null, but a text was expected/],
    [{ messages: 'x' }, /^row 2: "messages" is the text "x"/],
    [{ text: 5 }, /^row 2: "text" is the number 5/],
    [{ instruction: 'x', output: null }, /^row 2: "output" is null/],
    [null, /^row 2 is null, but an object with named columns was expected/],
    ['text', /^row 2 is the text "text"/],
  ] as const) {
    const rows = [good, row] as unknown as Array<typeof good>;
    assert.throws(() => prepareExamples(rows, tokenizer), { name: 'UserError', message: pattern });
    assert.throws(() => prepareExamples(new Dataset(rows), tokenizer), { name: 'UserError', message: pattern });
  }
  const template = () => good;
  const own = [{ question: 'q' }] as unknown as Array<typeof good>;
  assert.equal(prepareExamples(own, tokenizer, { template }).items.length, 1, 'a template takes rows of any shape');
  const divided = [{ prompt: [conversation.messages[0]], completion: [conversation.messages[1]] }] as unknown as Array<typeof good>;
  assert.deepEqual(
    prepareExamples(divided, tokenizer, { chatTemplate: CHATML }),
    prepareExamples([{ ...conversation, promptLength: 1 }], tokenizer, { chatTemplate: CHATML }),
  );
});
