/** Models by their Hub id on the command line. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { ID, withHub } from '../data/hub-place';
import { goldenModel, tunebook } from './support';

test('a model is looked up once: while the Hub is out of order, a verb takes it from the cache and says so once', async () => {
  const files = Object.fromEntries(readdirSync(goldenModel).map((name) => [name, readFileSync(path.join(goldenModel, name))]));
  await withHub(files, async ({ hub }) => {
    const score = () => tunebook(['score', '--model', ID, '--text', 'once upon', '--json'], { env: { HF_HUB_OFFLINE: undefined } });
    const first = await score();
    assert.equal(first.code, 0, first.stderr);
    hub.faults.answer = (response) => void response.writeHead(500).end('sorry');
    const second = await score();
    assert.equal(second.code, 0, second.stderr);
    assert.equal(second.stdout, first.stdout);
    assert.equal(second.stderr.match(/is taken from the cache/g)?.length, 1, second.stderr);
  });
});
