import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Dataset, mixDatasets, type TextExample } from '../../lib/data';
import { UserError } from '../../lib/errors';

const numbers = (n: number, name = 'n') =>
  Dataset.fromRows(
    Array.from({ length: n }, (_, i) => ({ text: `${name}${i}` })),
    name,
  ).as('text');
const texts = (dataset: Dataset) => dataset.as('text').rows.map((row) => row.text);

test('split is decided by the seed alone, and loses no row', () => {
  const all = numbers(100);
  const { train, test: held } = all.split({ test: 0.1, seed: 3 });
  assert.deepEqual([train.length, held.length], [90, 10]);
  assert.deepEqual([...texts(train), ...texts(held)].sort(), texts(all).sort());
  assert.deepEqual(texts(all.split({ test: 0.1, seed: 3 }).test), texts(held));
  assert.notDeepEqual(texts(all.split({ test: 0.1, seed: 4 }).test), texts(held));
});

test('a seed that is no whole number from 0 up is refused', () => {
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => numbers(10).split({ test: 2, seed }), UserError, String(seed));
    assert.throws(() => numbers(10).shuffle(seed), UserError, String(seed));
  }
});

test('split takes a number of rows as well as a fraction', () => {
  assert.equal(numbers(10).split({ test: 3 }).test.length, 3);
});

test('split rounds a fraction up, as datasets does', () => {
  assert.equal(numbers(34).split({ test: 0.1 }).test.length, 4);
  assert.equal(numbers(10).split({ test: 0.001 }).test.length, 1);
  assert.equal(numbers(10).split({ test: 0.2 }).test.length, 2);
});

test('split refuses what would leave a side empty', () => {
  for (const part of [0, -1, 10, 11, 2.5, Number.NaN, 0.95])
    assert.throws(() => numbers(10).split({ test: part }), UserError, String(part));
});

test('shuffle is a permutation that the seed alone decides', () => {
  const all = numbers(50);
  assert.deepEqual(texts(all.shuffle(1)), texts(all.shuffle(1)));
  assert.notDeepEqual(texts(all.shuffle(1)), texts(all.shuffle(2)));
  assert.deepEqual(texts(all.shuffle(1)).sort(), texts(all).sort());
});

test('rows remember where they were read, through every verb', () => {
  const picked = numbers(20, 'file.json')
    .shuffle(5)
    .filter((row) => row.text !== 'file.json3')
    .map((row): TextExample => ({ text: `${row.text}!` }))
    .take(4);
  for (const [index, row] of picked.rows.entries()) {
    const number = Number(row.text.slice('file.json'.length, -1)) + 1;
    assert.equal(picked.placeOf(index), `file.json row ${number}`);
  }
});

test('a count that is a text, as JavaScript may give it, is shown as one', () => {
  const all = numbers(10);
  const five = '5' as unknown as number;
  assert.throws(() => all.take(five), { name: 'UserError', message: 'take("5") needs a whole number from 0 up.' });
  assert.throws(() => all.skip(five), { name: 'UserError', message: /^skip\("5"\) needs/ });
  assert.throws(() => all.shuffle(five), { name: 'UserError', message: 'The seed "5" must be a whole number from 0 up.' });
  assert.throws(() => all.split({ test: five }), { name: 'UserError', message: /^split\(\{ test: "5" \}\)/ });
});

test('verbs leave the dataset as it was', () => {
  const all = numbers(5);
  all.shuffle(1);
  all.map(() => ({ text: 'x' }));
  assert.deepEqual(texts(all), ['n0', 'n1', 'n2', 'n3', 'n4']);
  assert.equal([...all].length, 5);
});

test('map to another format is told by the rows', () => {
  assert.equal(numbers(2).map((row) => ({ prompt: row.text, completion: 'x' })).format, 'prompt_completion');
});

test('asking for rows as another format than theirs is refused', () => {
  assert.throws(
    () => numbers(2, 'a.json').as('alpaca'),
    (error) => error instanceof UserError && /a\.json row 1 is of format text, but alpaca/.test(error.message),
  );
});

test('mixing without weights takes every row once', () => {
  const mixed = mixDatasets([numbers(5, 'a'), numbers(3, 'b')], { seed: 1 });
  assert.deepEqual(texts(mixed).sort(), ['a0', 'a1', 'a2', 'a3', 'a4', 'b0', 'b1', 'b2']);
  assert.deepEqual(texts(mixed), texts(mixDatasets([numbers(5, 'a'), numbers(3, 'b')], { seed: 1 })));
});

test('mixing with weights keeps the shares without repeating a row', () => {
  const mixed = mixDatasets([numbers(1000, 'a'), numbers(100, 'b')], { weights: [0.8, 0.2] });
  assert.equal(texts(mixed).filter((text) => text.startsWith('a')).length, 400);
  assert.equal(new Set(texts(mixed)).size, 500);
  assert.match(mixed.placeOf(0), /^[ab] row \d+$/);
});

test('a dataset of which a mixture has no row is named', () => {
  const mixed = mixDatasets([numbers(2, 'a'), numbers(3, 'b')], { weights: [0.99, 0.01] });
  assert.deepEqual(texts(mixed).sort(), ['a0', 'a1']);
  assert.deepEqual(mixed.notes, [
    'Nothing of dataset 2 of 2 was taken: its share is less than half a row (it has 3); give it a larger weight.',
  ]);
});

test('weights that do not fit the datasets are refused', () => {
  assert.throws(() => mixDatasets([numbers(2)], { weights: [1, 1] }), UserError);
  assert.throws(() => mixDatasets([numbers(2)], { weights: [0] }), UserError);
});

test('a preview shows the first rows as a table with its text escaped', () => {
  const dataset = Dataset.fromRows([
    { instruction: 'Use <b> & co', output: 'line 1\nline 2' },
    { instruction: 'x'.repeat(1000), output: 'y' },
    { instruction: 'third', output: 'z' },
  ]);
  const html = dataset.toHtml(2);
  assert.match(html, /<th[^>]*>instruction<\/th><th[^>]*>input<\/th><th[^>]*>output<\/th>/);
  assert.match(html, /Use &lt;b&gt; &amp; co/);
  assert.match(html, /line 1<br>line 2/);
  assert.ok(!html.includes('x'.repeat(500)), 'long cells are clipped');
  assert.match(html, /2 of 3 rows/);
  assert.match(dataset.toText(1), /instruction: Use <b> & co\n[\s\S]*1 of 3 rows/);
});

test('a preview cuts between characters and shows escape sequences without obeying them', () => {
  const dataset = Dataset.fromRows([
    { prompt: `${'x'.repeat(299)}😀tail`, completion: '\u001b[31mred\u001b[0m\u001b]0;title\u0007\r\ttab\nnext' },
  ]);
  for (const shown of [dataset.toText(), dataset.toHtml()]) {
    assert.ok(shown.isWellFormed());
    assert.match(shown, /x …/);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
    assert.doesNotMatch(shown, /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
  }
  assert.match(dataset.toText(), /␛\[31mred␛\[0m␛\]0;title␇␍\ttab\n {4}next/);
});

test('a dataset goes into a danfojs DataFrame and comes back the same', async () => {
  const rows = [
    { instruction: 'Add.', input: '1 2', output: '3', extras: { level: 'easy' } },
    { instruction: 'Greet.', input: '', output: 'Hi "you",\n<&>', extras: { level: 'hard' } },
  ];
  const frame = await new Dataset(rows).toDataFrame();
  assert.deepEqual(frame.shape, [2, 4]);
  assert.deepEqual(Dataset.fromDataFrame(frame).rows, rows);
  const messages = [
    {
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello' },
      ],
    },
  ];
  assert.deepEqual(Dataset.fromDataFrame(await new Dataset(messages).toDataFrame()).rows, messages);
});

test('rows that were read once are read again as they are, through a DataFrame, too', async () => {
  const [user, assistant] = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  const divided = {
    prompt: [user],
    completion: [assistant],
    tools: [{ type: 'function' }],
    chat_template_kwargs: { enable_thinking: false },
    id: 7,
  };
  for (const values of [
    [divided],
    [{ messages: [user, assistant] }, { messages: [user, assistant, user, assistant], promptLength: 3 }],
    [{ conversations: [user, assistant], chat_template_kwargs: { a: 1 } }],
    [{ instruction: 'Add.', input: '', output: '3', level: 'easy' }],
    [{ text: 'one', prompt: 'two' }],
  ]) {
    const { rows } = Dataset.fromRows(values);
    assert.deepEqual(Dataset.fromRows([...rows]).rows, rows);
    assert.deepEqual(Dataset.fromDataFrame(await new Dataset(rows).toDataFrame()).rows, rows);
  }
  assert.deepEqual(Dataset.fromRows([divided]).rows[0], {
    messages: [user, assistant],
    promptLength: 1,
    tools: divided.tools,
    chatTemplateKwargs: divided.chat_template_kwargs,
    extras: { id: 7 },
  });
});

test('a promptLength that divides no conversation is refused with row, value and remedy', () => {
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  for (const promptLength of [2, -1, 0.5, '1']) {
    assert.throws(() => Dataset.fromRows([{ messages }, { messages, promptLength }]), {
      name: 'UserError',
      message: /^rows row 2: "promptLength" is the \w+ "?-?[\d.]+"?, but a whole number from 0 to 1 was expected/,
    });
  }
});

test('numbers in the text columns of a DataFrame are read as text', () => {
  const frame = { columns: ['prompt', 'completion'], values: [['1 + 1', 2]] };
  assert.deepEqual(Dataset.fromDataFrame(frame).rows, [{ prompt: '1 + 1', completion: '2' }]);
});

test('a cell of a DataFrame that danfojs left empty (NaN) is missing, not a text', async () => {
  const { concat, DataFrame } = await import('danfojs-node');
  const withInput = new DataFrame([['Add.', '1 2', '3']], { columns: ['instruction', 'input', 'output'] });
  const without = new DataFrame([['Greet.', 'Hi']], { columns: ['instruction', 'output'] });
  assert.deepEqual(Dataset.fromDataFrame(concat({ dfList: [withInput, without], axis: 0 }) as typeof without).rows, [
    { instruction: 'Add.', input: '1 2', output: '3' },
    { instruction: 'Greet.', input: '', output: 'Hi' },
  ]);
  assert.throws(() => Dataset.fromDataFrame({ columns: ['prompt', 'completion'], values: [['1 + 1', Number.NaN]] }), {
    message: /^DataFrame row 1: "completion" is null, but a text was expected/,
  });
});
