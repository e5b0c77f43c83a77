import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { loadDataset } from '../../lib/data';
import { readParquetRows } from '../../lib/data/parquet-rows';
import { readJson } from '../../lib/files';
import { projectRoot } from '../../lib/project';
import { says } from './hub-place';

const fixtures = path.join(projectRoot, 'test/data/datasets');
const folder = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-tables-'));
after(() => fs.rmSync(folder, { recursive: true }));

function fileWith(name: string, content: string | Uint8Array): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, content);
  return file;
}

/** Pages that cannot be unpacked, and a column that is none. */
function twiceBroken(): Buffer {
  const bytes = fs.readFileSync(path.join(fixtures, 'rows-zstd.parquet')).fill(0, 100, 1500);
  bytes.write('flux', bytes.lastIndexOf('flag'));
  return bytes;
}

describe('Parquet', () => {
  const expected = readJson(path.join(fixtures, 'rows.json')) as Array<Record<string, unknown>>;

  for (const compression of ['snappy', 'zstd', 'gzip', 'none']) {
    test(`of ${compression} compression has the rows that Python wrote`, async () => {
      const { values, origins } = await readParquetRows(path.join(fixtures, `rows-${compression}.parquet`));
      assert.deepEqual(values, expected);
      assert.deepEqual((await readParquetRows(path.join(fixtures, `rows-${compression}.parquet`), 7)).values, expected.slice(0, 7));
      assert.deepEqual(origins[26], { source: path.join(fixtures, `rows-${compression}.parquet`), row: 27, unit: 'row' });
    });
  }

  test('becomes a dataset, whatever the file is called', async () => {
    const file = fileWith('rows.data', fs.readFileSync(path.join(fixtures, 'rows-zstd.parquet')));
    const dataset = await loadDataset(file, { split: 'train[10:50%]' });
    assert.deepEqual(
      [dataset.format, dataset.length],
      ['messages', 20].map((x) => (x === 20 ? 30 - 6 : x)),
    );
  });

  test('has texts as they are, and no bytes', async () => {
    const file = path.join(fixtures, 'texts.parquet');
    const image = { path: 'a.png' };
    assert.deepEqual((await readParquetRows(file)).values, [
      { text: '\ufeffA mark', image },
      { text: 'plain', picture: null, image },
      { text: '\ufeff', image },
    ]);
    const other = fs.readFileSync(file);
    other.set([0xff], other.indexOf('plain'));
    await assert.rejects(loadDataset(fileWith('latin.parquet', other)), says(/latin\.parquet cannot be read as Parquet \(.*not valid/));
  });

  test('that is broken is refused in one sentence', async () => {
    const whole = fs.readFileSync(path.join(fixtures, 'rows-snappy.parquet'));
    for (const [name, bytes] of [
      ['short.parquet', whole.subarray(0, 500)],
      ['cut.parquet', Buffer.concat([whole.subarray(0, 3000), whole.subarray(4000)])],
      ['zeros.parquet', Buffer.concat([whole.subarray(0, 2000), Buffer.alloc(2000), whole.subarray(4000)])],
      ['name-only.parquet', Buffer.from('PAR1')],
      ['twice.parquet', twiceBroken()],
    ] as const)
      await assert.rejects(
        loadDataset(fileWith(name, bytes)),
        says(new RegExp(`${name} cannot be read as Parquet \\(.*\\); get it again`)),
      );
  });
});

describe('a table of text', () => {
  test('has a row a line, with quotes and lines in cells, and nothing but texts', async () => {
    const text = 'instruction,input,output\r\n"Add, please.","1\n2",3\r\n\r\n"Say ""hi"".",,hi\r\n';
    const { rows } = await loadDataset(fileWith('table.csv', `\ufeff${text}`));
    assert.deepEqual(rows, [
      { instruction: 'Add, please.', input: '1\n2', output: '3' },
      { instruction: 'Say "hi".', input: '', output: 'hi' },
    ]);
    const tabs = await loadDataset(fileWith('table.tsv', 'prompt\tcompletion\nA, b\tC\n'));
    assert.deepEqual(tabs.rows, [{ prompt: 'A, b', completion: 'C' }]);
    const packed = await loadDataset(fileWith('table.csv.gz', gzipSync(text)));
    assert.equal(packed.length, 2);
    const json = await loadDataset(fileWith('json.csv', '[{"text": "JSON under such a name"}]'));
    assert.equal(json.length, 1);
  });

  test('may have lines of several ends, and keeps those in quotes', async () => {
    for (const text of [
      'prompt,completion\na,b\r\n"c\r\nd","e"", ""f"\r\ng,h\ri,it"s\r\n',
      'prompt,completion\r\na,b\n"c\r\nd","e"", ""f"\ng,h\r\ni,it"s',
    ])
      assert.deepEqual((await loadDataset(fileWith('ends.csv', text))).rows, [
        { prompt: 'a', completion: 'b' },
        { prompt: 'c\r\nd', completion: 'e", "f' },
        { prompt: 'g', completion: 'h' },
        { prompt: 'i', completion: 'it"s' },
      ]);
  });

  test('with rows that do not fit is refused, with the row', async () => {
    await assert.rejects(
      loadDataset(fileWith('few.csv', 'prompt,completion\na,b\nc\n')),
      says(/few\.csv row 2 is no row of the table: Too few fields/),
    );
    await assert.rejects(
      loadDataset(fileWith('many.csv', 'prompt,completion\na,b,c\n')),
      says(/many\.csv row 1 is no row of the table: Too many fields/),
    );
    await assert.rejects(
      loadDataset(fileWith('quote.csv', 'prompt,completion\na,"b\n')),
      says(/quote\.csv row 1 is no row of the table: /),
    );
    await assert.rejects(loadDataset(fileWith('head.csv', 'prompt,completion\n')), says(/head\.csv holds no rows below its header/));
    await assert.rejects(loadDataset(fileWith('empty.csv', '')), says(/empty\.csv is empty, but rows were expected/));
  });

  test('with a first line that tells Excel what parts the cells is read by it', async () => {
    const rows = [
      { prompt: 'a, b', completion: 'c\r\nd' },
      { prompt: 'e', completion: 'f' },
    ];
    for (const [sign, name] of [...[...';|^.'].map((sign) => [sign, 'sep.csv']), ['\t', 'sep.csv'], [';', 'sep.tsv']])
      for (const start of [`sep=${sign}\r\n`, `\uFEFFSEP=${sign}\n`]) {
        const text = `${start}prompt${sign}completion\r\n"a, b"${sign}"c\r\nd"\r\ne${sign}f\r\n`;
        assert.deepEqual((await loadDataset(fileWith(name, text))).rows, rows, JSON.stringify(start));
      }
    await assert.rejects(loadDataset(fileWith('sep.csv', 'sep=;\n')), says(/sep\.csv is empty, but rows were expected/));
    await assert.rejects(loadDataset(fileWith('sep.csv', 'sep=;\nprompt;completion\na;b;c\n')), says(/sep\.csv row 1 is no row/));
    assert.deepEqual((await loadDataset(fileWith('sep.csv', 'sep=,text\n1,a\n'))).rows, [{ text: 'a', extras: { 'sep=': '1' } }]);
  });

  test('that other signs part is read by the sign of its header', async () => {
    for (const sign of [';', '\t']) {
      const text = `prompt${sign}completion\r\n"Yes, it is${sign}"${sign}a, b\r\n`;
      const { rows } = await loadDataset(fileWith('excel.csv', text));
      assert.deepEqual(rows, [{ prompt: `Yes, it is${sign}`, completion: 'a, b' }]);
    }
    const { rows } = await loadDataset(fileWith('one.csv', 'text\na; b\n'));
    assert.deepEqual(rows, [{ text: 'a; b' }]);
  });
});

test('plain text may be in another column', async () => {
  const file = fileWith('other.jsonl', '{"content": "Once.", "text": "not this", "id": 1}\n{"content": "Upon."}\n');
  const { rows, notes } = await loadDataset(file, { textField: 'content' });
  assert.match(notes.join(), /Texts of the column content end with the EOS token, .* TRL adds none/);
  assert.deepEqual(rows, [{ text: 'Once.', extras: { id: 1 } }, { text: 'Upon.' }]);
  await assert.rejects(
    loadDataset(file, { textField: 'body' }),
    says(
      /line 1 has the columns "content", "text", "id", but no "body" to take texts from; name one of them as textField .*or leave it out\.$/,
    ),
  );
  const plain = fileWith('plain.jsonl', '{"text": "Hi"}\n');
  await assert.rejects(loadDataset(plain, { textField: 'texts' }), says(/but no "texts" to take texts from; the nearest is text\.$/));
  // as in TRL it counts for plain text alone
  const chat = fileWith('chat.jsonl', '{"messages": [{"role": "user", "content": "Hi"}], "text": "not this"}\n');
  assert.equal((await loadDataset(chat, { textField: 'content' })).format, 'messages');
});

test('a folder has splits, and parts of them', async () => {
  const place = path.join(folder, 'splits');
  fs.mkdirSync(path.join(place, 'data'), { recursive: true });
  const rows = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => JSON.stringify({ text: `${name} ${i}` })).join('\n');
  fs.writeFileSync(path.join(place, 'data/train-00000-of-00002.jsonl'), rows('a', 5));
  fs.writeFileSync(path.join(place, 'data/train-00001-of-00002.jsonl'), rows('b', 5));
  fs.writeFileSync(path.join(place, 'data/test-00000-of-00001.jsonl'), rows('c', 4));
  const texts = async (split?: string) => (await loadDataset(place, { split })).as('text').rows.map(({ text }) => text);
  assert.equal((await texts()).length, 10);
  assert.deepEqual(await texts('train[4:6]'), ['a 4', 'b 0']);
  assert.deepEqual(await texts('train[-1:]'), ['b 4']);
  assert.deepEqual(await texts('test[:50%]'), ['c 0', 'c 1']);
  await assert.rejects(texts('validation'), says(/The folder .*splits has no split validation; it has train, test\./));
  await assert.rejects(texts('train[x]'), says(/The split "train\[x\]" is not understood/));
  const dataset = await loadDataset(place);
  assert.equal(dataset.placeOf(7), `${path.join(place, 'data/train-00001-of-00002.jsonl')} line 3`);
  const named = await loadDataset(place, { dataFiles: 'data/test*' });
  assert.equal(named.length, 4);
});

test('columns of other names are made into rows that are known; of too many some can be chosen', async () => {
  const file = fileWith('math.jsonl', '{"question": "1 + 1?", "answer": "2", "id": 7}\n{"question": "2 + 2?", "answer": "4", "id": 8}\n');
  await assert.rejects(
    loadDataset(file),
    says(/no known format; .*textField or dataset_text_field.*the option map of loadDataset makes such rows/),
  );
  const map = ({ question, answer }: Record<string, unknown>, index: number) => ({ prompt: `${index}: ${question}`, completion: answer });
  const { rows } = await loadDataset(file, { map, split: 'train[1:]' });
  assert.deepEqual(rows, [{ prompt: '0: 2 + 2?', completion: '4' }]);
  await assert.rejects(loadDataset(file, { map: ({ id }) => ({ text: id }) }), says(/math\.jsonl line 1: "text" is the number 7/));
  const both = fileWith('both.jsonl', '{"prompt": "Q", "completion": "A", "messages": [{"role": "user", "content": "Hi"}], "id": 1}\n');
  assert.deepEqual((await loadDataset(both, { columns: ['prompt', 'completion'] })).rows, [{ prompt: 'Q', completion: 'A' }]);
  await assert.rejects(
    loadDataset(both, { columns: ['text'] }),
    says(/both\.jsonl line 1 has no column "text"; it has prompt, completion, messages, id\./),
  );
});

test('columns of one name in a table are told apart as pandas does', async () => {
  const { rows } = await loadDataset(fileWith('twice.csv', 'prompt,note,completion,note,note\nQ,1,A,2,3\n'));
  assert.deepEqual(rows, [{ prompt: 'Q', completion: 'A', extras: { note: '1', 'note.1': '2', 'note.2': '3' } }]);
});

test('a part of a split does not depend on the rows outside of it', async () => {
  const file = fileWith('part.jsonl', '{"id": 1}\n{"text": "a"}\n{"text": "b"}\n{"text": ""}\n{"text": 7}\n');
  const dataset = await loadDataset(file, { split: 'train[1:3]' });
  assert.deepEqual([...dataset], [{ text: 'a' }, { text: 'b' }]);
  assert.deepEqual([dataset.placeOf(1), dataset.notes], [`${file} line 3`, []]);
  assert.equal((await loadDataset(file, { split: 'train[3:3]' })).length, 0);
  for (const part of ['train[5:9]', 'train[5:]', 'train[:9%]', 'train[-9:-7]'])
    await assert.rejects(
      loadDataset(file, { split: part }),
      (error: Error) =>
        error.message === `The part ${part} of ${file} has no rows, as train has 5 rows; choose one that has, such as train[:5].`,
    );
  await assert.rejects(loadDataset(file, { split: 'train[1:]' }), says(/part\.jsonl line 5: "text" is the number 7/));
});

test('files that are named are those that are read, or it is said why not', async () => {
  const place = path.join(folder, 'named');
  fs.mkdirSync(place, { recursive: true });
  fs.writeFileSync(path.join(place, 'a.jsonl'), '{"text": "a"}');
  const file = fileWith('whole.jsonl', '{"text": "whole"}');
  assert.deepEqual((await loadDataset('json', { dataDir: place, dataFiles: 'a.jsonl' })).rows, [{ text: 'a' }]);
  for (const dataDir of [undefined, place])
    assert.equal((await loadDataset('json', { dataFiles: [path.join(place, 'a.jsonl'), file], dataDir })).length, 2);
  for (const choice of [{ dataFiles: 'a.jsonl' }, { dataDir: 'named' }])
    await assert.rejects(loadDataset(file, choice), says(/whole\.jsonl is a file, in which there are no others; leave out data_files/));
  await assert.rejects(
    loadDataset('squad', { dataFiles: file }),
    says(/no file or folder squad in .*, or name a dataset on the Hub with its owner, like org\/name/),
  );
});
