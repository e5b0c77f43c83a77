import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { loadDataset } from '../../lib/data';
import { projectRoot } from '../../lib/project';
import { ID, type Place, says, withHub } from './hub-place';
import { COMMIT } from './hub-server';

const [parquet, another] = ['zstd', 'snappy'].map((name) =>
  fs.readFileSync(path.join(projectRoot, `test/data/datasets/rows-${name}.parquet`)),
);
const rows = (name: string, count: number): string =>
  Array.from({ length: count }, (_, i) => JSON.stringify({ text: `${name} ${i}` })).join('\n');
const card =
  '---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train*\n  - split: test\n    path: data/test.jsonl\n---\n';
const files = {
  'README.md': card,
  '.gitattributes': '',
  'data/train-00000-of-00002.parquet': parquet,
  'data/train-00001-of-00002.parquet': another,
  'data/test.jsonl': rows('test', 3),
  'load.py': 'import os',
};

const withDataset = (content: Record<string, string | Buffer>, run: (place: Place) => Promise<void>): Promise<void> =>
  withHub(content, run, 'dataset');

test("a split of the Hub's dataset is downloaded into the shared cache, once, and nothing else", async () => {
  await withDataset(files, async ({ hub, repository }) => {
    const progress: string[] = [];
    const options = { split: 'train', onProgress: ({ file }: { file: string }) => progress.push(file) };
    const dataset = await loadDataset(ID, options);
    assert.deepEqual([dataset.format, dataset.length], ['messages', 120]);
    const snapshot = path.join(repository, 'snapshots', COMMIT);
    assert.deepEqual(fs.readdirSync(snapshot).sort(), ['README.md', 'data']);
    assert.deepEqual(fs.readdirSync(path.join(snapshot, 'data')).length, 2);
    assert.equal(fs.readFileSync(path.join(repository, 'refs/main'), 'utf8'), COMMIT);
    assert.ok(progress.includes('data/train-00001-of-00002.parquet'));
    assert.equal(dataset.placeOf(60), `${path.join(snapshot, 'data/train-00001-of-00002.parquet')} row 1`);
    hub.seen.length = 0;
    assert.equal((await loadDataset(ID, options)).length, 120);
    assert.deepEqual(
      hub.seen.map(({ path: asked }) => asked),
      [`/api/datasets/${ID}/revision/main`],
    );
    const part = await loadDataset(ID, { split: 'test[:2]' });
    assert.deepEqual([...part], [{ text: 'test 0' }, { text: 'test 1' }]);
    assert.ok(!hub.seen.some(({ path: asked }) => asked.includes('load.py')));
  });
});

test('of a part whose end is said no more files are downloaded than it takes', async () => {
  for (const [split, length, downloaded] of [
    ['train[:60]', 60, 1],
    ['train[10:30]', 20, 1],
    ['train[:0]', 0, 1],
    ['train[:61]', 61, 2],
    ['train[-5:]', 5, 2],
    ['train[:50%]', 60, 2],
    ['train', 120, 2],
  ] as const) {
    await withDataset(files, async ({ repository }) => {
      assert.equal((await loadDataset(ID, { split })).length, length, split);
      assert.equal(fs.readdirSync(path.join(repository, 'snapshots', COMMIT, 'data')).length, downloaded, split);
    });
  }
});

test('a token goes to the Hub, and not to where it keeps large files', async () => {
  await withDataset(files, async ({ hub, env }) => {
    hub.faults.gatedFor = 'hf_good';
    await assert.rejects(loadDataset(ID), says(/tester\/tiny-model is gated: .*\/datasets\/tester\/tiny-model, then set HF_TOKEN/));
    env('HF_TOKEN', 'hf_good');
    assert.equal((await loadDataset(ID)).length, 120);
    for (const { path: asked, token } of hub.seen) if (asked.startsWith('/storage/')) assert.equal(token, undefined);
  });
});

test('a download that breaks goes on where it stopped; content that is not what the Hub says is thrown away', async () => {
  await withDataset(files, async ({ hub }) => {
    hub.faults.breaks = 2;
    assert.equal((await loadDataset(ID)).length, 120);
    assert.ok(hub.seen.some(({ range }) => range !== undefined));
  });
  await withDataset(files, async ({ hub, repository }) => {
    const other = Buffer.from(parquet);
    other[100] ^= 1;
    hub.faults.replaced.set('data/train-00000-of-00002.parquet', other);
    await assert.rejects(loadDataset(ID), says(/arrived damaged: its hash is/));
    assert.ok(!fs.existsSync(path.join(repository, 'snapshots', COMMIT, 'data/train-00000-of-00002.parquet')));
  });
});

test('without the Hub the cache serves, if it has all of the split', async () => {
  await withDataset(files, async ({ hub, env, repository, cache }) => {
    env('HF_HUB_OFFLINE', '1');
    await assert.rejects(loadDataset(ID), says(/The dataset tester\/tiny-model is not in the cache .* and HF_HUB_OFFLINE forbids/));
    env('HF_HUB_OFFLINE', undefined);
    await loadDataset(ID);
    env('HF_HUB_OFFLINE', '1');
    hub.seen.length = 0;
    assert.equal((await loadDataset(ID)).length, 120);
    assert.deepEqual(hub.seen, []);
    await assert.rejects(loadDataset(ID, { split: 'test' }), says(/data\/test\.jsonl of the dataset .* is not in the cache/));
    assert.equal((await loadDataset(ID, { dataFiles: 'data/train-00000*' })).length, 60, 'a part that is asked for');
    fs.rmSync(path.join(repository, 'snapshots', COMMIT, 'data/train-00001-of-00002.parquet'));
    await assert.rejects(
      loadDataset(ID),
      says(/data\/train-00001-of-00002\.parquet of the dataset tester\/tiny-model is not in the cache/),
    );
    assert.ok(fs.existsSync(cache));
  });
  await withDataset(files, async ({ hub, env }) => {
    await loadDataset(ID);
    env('HF_ENDPOINT', 'http://127.0.0.1:1');
    await assert.rejects(
      loadDataset('data/rows'),
      says(/There is no file or folder data\/rows in .*, and http:\/\/127\.0\.0\.1:1 cannot be reached/),
    );
    assert.equal((await loadDataset(ID)).length, 120, 'the Hub cannot be reached');
    assert.ok(hub.endpoint);
  });
});

test('without the Hub a part of a split is never taken for the whole', async () => {
  const parts = { 'a.jsonl': rows('a', 2), 'b.jsonl': rows('b', 2) };
  await withDataset(parts, async ({ env }) => {
    assert.equal((await loadDataset(ID, { dataFiles: 'a.jsonl' })).length, 2);
    env('HF_HUB_OFFLINE', '1');
    assert.equal((await loadDataset(ID, { dataFiles: 'a.jsonl' })).length, 2);
    await assert.rejects(loadDataset(ID), says(/b\.jsonl of the dataset tester\/tiny-model is not in the cache/));
  });
  await withDataset({ ...parts, 'README.md': '# Card' }, async ({ env, hub }) => {
    hub.faults.replaced.set('b.jsonl', Buffer.from(rows('c', 2)));
    await assert.rejects(loadDataset(ID), says(/b\.jsonl of tester\/tiny-model arrived damaged/));
    env('HF_HUB_OFFLINE', '1');
    await assert.rejects(loadDataset(ID), says(/The dataset tester\/tiny-model is not in the cache/));
  });
});

test('what is not there is said: a dataset, a revision, a split, data at all', async () => {
  await withDataset(files, async () => {
    await assert.rejects(
      loadDataset('tester/other'),
      says(/tester\/other is neither a file or folder here nor a dataset at .*check the spelling/),
    );
    await assert.rejects(loadDataset(ID, { revision: 'v9' }), says(/has no revision "v9"; see .*\/datasets\/tester\/tiny-model\/tree/));
    await assert.rejects(
      loadDataset(ID, { split: 'validation' }),
      says(/The dataset tester\/tiny-model has no split validation; it has train, test\./),
    );
    await assert.rejects(loadDataset(ID, { config: 'de' }), says(/has no configuration de; it has default\./));
    for (const name of ['./nowhere', 'no/where.jsonl', 'no/where/at/all']) await assert.rejects(loadDataset(name), says(/does not exist/));
  });
  await withDataset({ 'load.py': 'import os' }, async () => {
    await assert.rejects(loadDataset(ID), says(/is made by a program \(load\.py\), which is never run/));
  });
});

test('a file whose name would leave the folder is not fetched', async () => {
  for (const name of ['data/../../../x.jsonl', 'a\\b.jsonl', '/train.jsonl'])
    await withDataset({ [name]: rows('x', 1) }, async ({ home }) => {
      await assert.rejects(loadDataset(ID), says(/would leave the dataset's folder; do not use this dataset|holds no JSON|no split/));
      assert.ok(!fs.existsSync(path.join(home, 'x.jsonl')));
    });
});
