/** Models by their Hub id on the command line. */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { ID, withHub } from '../data/hub-place';
import { golden, goldenModel, put, tunebook, workFolder } from './support';

const filesOf = (folder: string) => Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(path.join(folder, name))]));

test('an adapter may lie on the Hub, and so may the base model that it names', async (t) => {
  const folder = workFolder(t);
  const trained = path.join(golden, 'llama/lora_trained');
  const config = JSON.parse(readFileSync(path.join(trained, 'adapter_config.json'), 'utf8')) as object;
  const score = async (model: string) => {
    const { code, stdout, stderr } = await tunebook(['score', '--model', model, '--text', 'once upon', '--json'], {
      env: { HF_HUB_OFFLINE: undefined },
    });
    assert.equal(code, 0, stderr);
    return stdout;
  };
  cpSync(trained, folder, { recursive: true });
  put(folder, 'adapter_config.json', { ...config, base_model_name_or_path: goldenModel });
  const expected = await score(folder);
  await withHub(filesOf(folder), async () => assert.equal(await score(ID), expected));
  put(folder, 'adapter_config.json', { ...config, base_model_name_or_path: ID });
  await withHub(filesOf(goldenModel), async () => assert.equal(await score(folder), expected));
});

test('a model is looked up once: while the Hub is out of order, a verb takes it from the cache and says so once', async () => {
  await withHub(filesOf(goldenModel), async ({ hub }) => {
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
