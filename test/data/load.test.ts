import assert from 'node:assert/strict';
import { constants } from 'node:buffer';
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';

import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { Dataset, loadDataset } from '../../lib/data';

import { UserError } from '../../lib/errors';

const folder = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-load-'));
after(() => fs.rmSync(folder, { recursive: true }));
let count = 0;

function fileWith(content: string | Uint8Array, name = `data-${count++}.json`): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  return file;
}

async function refuses(file: string, ...patterns: RegExp[]): Promise<void> {
  await assert.rejects(loadDataset(file), (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(!error.message.includes('\n'), 'one sentence, one line');
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  });
}

const alpaca = { instruction: 'Add.', input: '1 2', output: '3' };
const lines = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).join('\n');

test('an Alpaca file is recognized as JSON array and as JSONL, whatever its name', async () => {
  for (const content of [
    JSON.stringify([alpaca, alpaca]),
    JSON.stringify([alpaca, alpaca], null, 2),
    lines([alpaca, alpaca]),
    `\ufeff${lines([alpaca, alpaca])}\r\n\r\n`,
  ]) {
    const dataset = await loadDataset(fileWith(content));
    assert.deepEqual([dataset.format, dataset.length], ['alpaca', 2]);
    assert.deepEqual(dataset.rows[1], alpaca);
  }
});

test('a missing or null input of an Alpaca row is an empty one', async () => {
  const dataset = await loadDataset(
    fileWith(
      JSON.stringify([
        { instruction: 'Greet.', output: 'Hi' },
        { instruction: 'Greet.', input: null, output: 'Hi' },
      ]),
    ),
  );
  assert.deepEqual(dataset.rows, [
    { instruction: 'Greet.', input: '', output: 'Hi' },
    { instruction: 'Greet.', input: '', output: 'Hi' },
  ]);
});

test('prompt/completion, messages and plain text are recognized', async () => {
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  for (const [row, format] of [
    [{ prompt: 'Q', completion: 'A' }, 'prompt_completion'],
    [{ messages }, 'messages'],
    [{ text: 'Once upon a time' }, 'text'],
  ] as const) {
    const dataset = await loadDataset(fileWith(lines([row]), `${format}.jsonl`));
    assert.equal(dataset.format, format);
    assert.deepEqual(dataset.rows, [row]);
  }
});

test('a column that is null counts as missing, as tables write it', async () => {
  const dataset = await loadDataset(
    fileWith(
      lines([
        { text: 'one', prompt: null, completion: null, messages: null },
        { text: 'two', prompt: null, completion: null, messages: null },
      ]),
    ),
  );
  assert.equal(dataset.format, 'text');
  const mixed = lines([
    { text: 'one', prompt: null, completion: null },
    { text: null, prompt: 'Q', completion: 'A' },
  ]);
  await refuses(fileWith(mixed), /line 2 has .+ \(prompt\/completion\), but the rows before it are plain text/);
  await refuses(fileWith(lines([{ text: 'one' }, { text: null }])), /line 2: "text" is null, but a text was expected/);
});

test('an extra that is nested very deep is refused, not met later by an exhausted stack', async () => {
  const nested = (depth: number) => `[{"text":"one","more":${'['.repeat(depth)}${']'.repeat(depth)}}]`;
  await refuses(fileWith(nested(100_000)), /row 1: "more" is nested more than 500 deep; flatten the column or remove it/);
  assert.equal((await loadDataset(fileWith(nested(500)))).length, 1);
});

describe('a file that is longer than any text can be', () => {
  test('is read line by line if it is JSONL', async (t) => {
    const rows = [alpaca, { ...alpaca, output: 'ä€😀'.repeat(500_000) }, { ...alpaca, output: '4' }];
    const file = fileWith(`\ufeff\n${lines(rows)}\n`, 'large.jsonl');
    const { size } = fs.statSync(file);
    const { statSync } = fs;
    t.mock.method(fs, 'statSync', (...given: Parameters<typeof statSync>) => Object.assign(statSync(...given) ?? {}, { size: 2 ** 30 }));
    t.mock.method(fs, 'readFileSync', () => assert.fail('not as a whole'));
    const dataset = await loadDataset(file);
    assert.ok(size > 1 << 22, 'more than are read at a time');
    assert.deepEqual(dataset.rows, rows);
    assert.match(dataset.placeOf(2), /large\.jsonl line 4$/);
  });

  test('is refused in one sentence if it is a JSON array', async (t) => {
    const file = fileWith(`[${JSON.stringify(alpaca)},\n`, 'large.json');
    fs.truncateSync(file, constants.MAX_STRING_LENGTH + 1);
    t.after(() => fs.rmSync(file));
    await refuses(
      file,
      /large\.json is too large to be read as one text \(more than 512 MB\); split it, or, if it holds rows, write it as JSONL\.$/,
    );
  });
});

test('ShareGPT conversations become messages', async () => {
  const conversations = [
    { from: 'system', value: 'Be brief.' },
    { from: 'human', value: 'Hi' },
    { from: 'gpt', value: 'Hello' },
  ];
  const dataset = await loadDataset(fileWith(JSON.stringify([{ id: 'x1', conversations }])));
  assert.equal(dataset.format, 'messages');
  assert.deepEqual(dataset.rows[0], {
    messages: [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
    ],
    extras: { id: 'x1' },
  });
});

test('a prompt and a completion made of messages keep their boundary', async () => {
  const [user, assistant] = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  const dataset = await loadDataset(fileWith(JSON.stringify([{ prompt: [user], completion: [assistant] }])));
  assert.deepEqual(dataset.rows[0], { messages: [user, assistant], promptLength: 1 });
});

test('columns that training does not use are kept as extras', async () => {
  const dataset = await loadDataset(fileWith(JSON.stringify([{ ...alpaca, category: 'sums' }])));
  assert.deepEqual(dataset.rows[0].extras, { category: 'sums' });
  assert.equal(dataset.filter((row) => row.extras?.category === 'sums').length, 1);
});

const conversation = {
  messages: [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ],
};

test('tools and chat_template_kwargs of a conversation are read, tools as JSON text, too', async () => {
  const tools = [{ type: 'function' }];
  const rows = [
    { ...conversation, tools, chat_template_kwargs: { enable_thinking: false } },
    { ...conversation, tools: JSON.stringify(tools), id: 7 },
    { ...conversation, tools: null, chat_template_kwargs: null },
  ];
  const dataset = await loadDataset(fileWith(JSON.stringify(rows)));
  assert.deepEqual(dataset.rows, [
    { ...conversation, tools, chatTemplateKwargs: { enable_thinking: false } },
    { ...conversation, tools, extras: { id: 7 } },
    conversation,
  ]);
  assert.deepEqual(Dataset.fromDataFrame(await dataset.take(1).toDataFrame()).rows, dataset.rows.slice(0, 1));
  const plain = await loadDataset(fileWith(JSON.stringify([{ prompt: 'Q', completion: 'A', tools: 'a hammer' }])));
  assert.deepEqual(plain.rows, [{ prompt: 'Q', completion: 'A', extras: { tools: 'a hammer' } }]);
});

test('tools and chat_template_kwargs of another type are refused with row, value and remedy', async () => {
  const refusesRow = (columns: object, ...patterns: RegExp[]) =>
    refuses(fileWith(JSON.stringify([{ ...conversation, ...columns }])), /row 1: /, ...patterns);
  await refusesRow({ tools: 7 }, /"tools" is the number 7, but a list of JSON schemas was expected; correct the row/);
  await refusesRow({ tools: '{"type": "function"}' }, /"tools" is an object, but a list of JSON schemas/);
  await refusesRow({ tools: '[{' }, /"tools" is the text "\[\{", which is not valid JSON/);
  await refusesRow({ tools: [{}, 'get_weather'] }, /tool 2 of "tools" is the text "get_weather", but a JSON schema/);
  await refusesRow({ chat_template_kwargs: [1] }, /"chat_template_kwargs" is a list, but an object/);
  await refusesRow({ chat_template_kwargs: { tools: [] } }, /must not have tools \(give them as the column "tools"\)/);
  await refusesRow({ chat_template_kwargs: { add_generation_prompt: true } }, /must not have add_generation_prompt \(training sets it\)/);
});

test('a missing path, a folder and an empty file are each refused in one sentence', async () => {
  await refuses(path.join(folder, 'nowhere.json'), /nowhere\.json does not exist/);
  const empty = path.join(folder, 'empty');
  fs.mkdirSync(empty);
  await refuses(empty, /The folder .*empty holds no JSON, Parquet or CSV file; it is empty/);
  await refuses(fileWith('  \n'), /is empty/);
  await refuses(fileWith('[]'), /holds no rows/);
});

test('a file of another kind is named as what it is, with what makes rows of it', async () => {
  const bytes = (text: string) => Buffer.from(text, 'latin1');
  for (const [content, name, ...patterns] of [
    ['Once upon a time.\n', 'story.txt', /is plain text, .*\{"text": "\.\.\."\}/],
    [bytes('ARROW1\0\0'), 'data.arrow', /is an Arrow file, /],
    [bytes('PK\x03\x04\x14'), 'data.xlsx', /is a ZIP archive \(or an Excel workbook/],
    ['version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n', 'lfs.jsonl', /is a pointer of Git LFS .*; run git lfs pull/],
    ['version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n', 'lfs.csv', /is a pointer of Git LFS .*; run git lfs pull/],
    ['prompt,completion\n', 'text.parquet', /is no Parquet file, whatever its name says/],
    ['\n<!DOCTYPE html><html></html>', 'page.json', /is a page of HTML, .*"resolve" in place of "blob"/],
    [Buffer.from(`\ufeff${lines([alpaca])}`, 'utf16le'), 'wide.txt', /is written in UTF-16, .*; save it as UTF-8/],
  ] as const) {
    await refuses(fileWith(content, name), ...patterns);
  }
  assert.equal((await loadDataset(fileWith(lines([alpaca]), 'rows.txt'))).length, 1, 'JSON is read under any name');
});

test('rows are read from what is packed with gzip', async () => {
  const { rows } = await loadDataset(fileWith(gzipSync(lines([alpaca, alpaca])), 'data.jsonl.gz'));
  assert.deepEqual(rows, [alpaca, alpaca]);
  await refuses(
    fileWith(gzipSync(lines([alpaca])).subarray(0, 30), 'data.jsonl.gz'),
    /data\.jsonl\.gz cannot be unpacked \(.*\); unpack it yourself/,
  );
});

test('rows are read from a pipe', { skip: process.platform === 'win32' && 'Windows has no such pipes' }, async (t) => {
  const pipe = path.join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const writer = spawn('sh', ['-c', `printf '%s' '${lines([alpaca, alpaca])}' > ${pipe}`]);
  t.after(() => writer.kill());
  assert.equal((await loadDataset(pipe)).length, 2);
});

test('broken JSON is reported with line and column', async () => {
  await refuses(fileWith('[\n {"instruction": "a", "output": "b"},\n {"instruction": "c" "output": "d"}\n]'), /line 3, column 22/);
  await refuses(fileWith(JSON.stringify([alpaca]).slice(0, -5)), /line 1, column \d+.*the text ends/);
});

test('broken JSONL is reported with its line in the file', async () => {
  await refuses(
    fileWith(`${lines([alpaca])}\n\n{"instruction": "a", "output" "b"}\n`, 'broken.jsonl'),
    /broken\.jsonl is not valid JSON: line 3, column 31/,
  );
});

test('a row of another format in the middle is named with its number and what was expected', async () => {
  const rows = [alpaca, alpaca, { prompt: 'Q', completion: 'A' }, alpaca];
  await refuses(
    fileWith(JSON.stringify(rows), 'mixed.json'),
    /mixed\.json row 3 has the columns "prompt", "completion" \(prompt\/completion\)/,
    /the rows before it are Alpaca: expected "instruction" and "output"/,
  );
  await refuses(fileWith(`\n${lines(rows)}`, 'mixed.jsonl'), /mixed\.jsonl line 4 has/);
});

test('a row that is no object, or lacks a column, is named with its number', async () => {
  await refuses(fileWith(JSON.stringify([alpaca, 'text'])), /row 2 is the text "text", but Alpaca columns/);
  await refuses(
    fileWith(JSON.stringify([alpaca, { instruction: 'x', answer: 'y' }])),
    /row 2 has the columns "instruction", "answer", but the rows before it are Alpaca/,
  );
});

test('a row that the option map makes of a column that is not there is refused with the remedy', async () => {
  const file = fileWith(lines([{ question: 'a', answer: 'b' }]));
  await assert.rejects(loadDataset(file, { map: ({ frage, answer }) => ({ prompt: frage, completion: answer }) }), {
    message: `${file} line 1: "prompt" is undefined, but a text was expected; take it from a column that the row has.`,
  });
});

test('an unknown format is refused with the list of known ones', async () => {
  await refuses(
    fileWith(JSON.stringify([{ question: 'Q', answer: 'A' }])),
    /row 1 has the columns "question", "answer", which is no known format/,
    /Alpaca:.*prompt\/completion:.*chat messages:.*ShareGPT conversations:.*plain text/,
  );
});

test('a field that is no text is named with its row, column and value', async () => {
  await refuses(fileWith(JSON.stringify([alpaca, { ...alpaca, output: 42 }])), /row 2: "output" is the number 42, but a text was expected/);
  await refuses(fileWith(JSON.stringify([{ ...alpaca, output: null }])), /row 1: "output" is null/);
  await refuses(fileWith(JSON.stringify([{ messages: [] }])), /row 1: "messages" is an empty list/);
  await refuses(
    fileWith(JSON.stringify([{ messages: [{ role: 'user', content: 7 }] }])),
    /row 1: message 1 of "messages" has as content the number 7/,
  );
  await refuses(
    fileWith(JSON.stringify([{ conversations: [{ from: 'narrator', value: 'x' }] }])),
    /row 1: message 1 of "conversations" is spoken by the text "narrator"/,
  );
  await refuses(
    fileWith(JSON.stringify([{ messages: [{ content: 'x' }] }])),
    /row 1: message 1 of "messages" does not say by its role who speaks, but one of/,
  );
  for (const from of ['constructor', '__proto__'])
    await refuses(
      fileWith(JSON.stringify([{ conversations: [{ from, value: 'x' }] }])),
      /is spoken by the text "(constructor|__proto__)", but/,
    );
  const [row] = (await loadDataset(fileWith(JSON.stringify([{ messages: [{ role: 'constructor', content: 'x' }] }])))).rows;
  assert.deepEqual(row, { messages: [{ role: 'constructor', content: 'x' }] });
});

test('half of a character is refused with its row and column, wherever in a row training reads it', async () => {
  const half = JSON.parse('"an emoji \\ud83d cut"');
  const say = (content: string, more = {}) => ({ messages: [{ role: 'user', content }], ...more });
  for (const [column, good, bad] of [
    ['text', { text: 'an emoji 😀' }, { text: half }],
    ['output', alpaca, { ...alpaca, output: half }],
    ['messages', say('Hi'), say(half)],
    ['tools', say('Hi'), say('Hi', { tools: [{ name: half }] })],
  ] as const) {
    await refuses(
      fileWith(lines([good, bad])),
      new RegExp(`line 2: "${column}" has \\\\ud83d, which is half of a character .*; correct the row or remove it\\.$`),
    );
  }
  assert.equal((await loadDataset(fileWith(lines([{ text: 'x', id: half }])))).length, 1, 'extras are not read');
});

test('one JSON object that is no row list is refused', async () => {
  await refuses(fileWith(JSON.stringify({ data: [alpaca] }, null, 1)), /holds one JSON value, but an array of rows was expected/);
});

test('empty outputs are accepted and said', async () => {
  const dataset = await loadDataset(fileWith(JSON.stringify([alpaca, { ...alpaca, output: ' ' }])));
  assert.equal(dataset.length, 2);
  assert.match(dataset.notes.join(), /1 row has an empty completion \(first: .* row 2\)/);
});
