import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { resolveModel } from '../../lib/data';
import { hubSettings } from '../../lib/data/hub/settings';
import { ID, model, says, withHub } from './hub-place';

test('a token that can be none is refused without being shown, and without asking anybody', async () => {
  const broken: Array<[string, RegExp]> = [
    ['hf_SECRET\nmore', /more than one line/],
    ['hf_SECRET\r\nmore', /more than one line/],
    ['hf_SECRET more', /a space or another character/],
    ['hf_SECRET\u00e9', /a space or another character/],
    ['hf_SECRET\u0000', /a space or another character/],
  ];
  await withHub(model, async ({ hub, home, env }) => {
    const refused = async (place: string, fault: RegExp): Promise<void> =>
      assert.rejects(resolveModel(ID), (error: Error) => {
        assert.doesNotMatch(`${error.message} ${(error.cause as Error | undefined)?.message}`, /SECRET/);
        assert.ok(error.message.startsWith(`${place} holds `), error.message);
        return says(fault, /put the token there alone/)(error);
      });
    const file = path.join(home, 'token');
    for (const [token, fault] of broken) {
      fs.writeFileSync(file, token);
      await refused(file, fault);
      fs.rmSync(file);
      if (token.includes('\u0000')) continue; // no environment can hold it
      env('HF_TOKEN', token);
      await refused('HF_TOKEN', fault);
      env('HF_TOKEN', undefined);
    }
    assert.deepEqual(hub.seen, []);
  });
});

test('space around a token does no harm', async () => {
  await withHub(model, async ({ hub, env }) => {
    env('HF_TOKEN', ' hf_right\r\n');
    await resolveModel(ID);
    assert.equal(hub.seen[0].token, 'Bearer hf_right');
  });
});

test('a token file that is a folder or may not be read is named', async (t) => {
  await withHub(model, async ({ home }) => {
    const file = path.join(home, 'token');
    fs.mkdirSync(file);
    await assert.rejects(resolveModel(ID), says(/token is a folder, but a file was expected/));
    fs.rmdirSync(file);
    fs.writeFileSync(file, 'hf_right');
    const read = fs.readFileSync;
    t.mock.method(fs, 'readFileSync', (name: string, ...rest: []) => {
      // permissions do not hold for root, who may run this test
      if (name === file) throw Object.assign(new Error('permission denied'), { code: 'EACCES' });
      return read(name, ...rest);
    });
    await assert.rejects(resolveModel(ID), says(/token cannot be read: permission denied; change its permissions/));
  });
});

test('an HF_ENDPOINT that is no web address is refused with what one looks like', async () => {
  await withHub(model, async ({ env }) => {
    for (const wrong of ['huggingface.co', 'hf-mirror.com/', 'http://', 'localhost:8080', 'ftp://hub.example', 'http://a b']) {
      env('HF_ENDPOINT', wrong);
      await assert.rejects(
        resolveModel(ID),
        (error) =>
          says(/which is no web address; give a whole one like https:/)(error) && (error as Error).message.includes(JSON.stringify(wrong)),
      );
    }
    env('HF_ENDPOINT', 'http://hub.example/?key=SECRET');
    await assert.rejects(resolveModel(ID), (error) => says(/goes on with a query/)(error) && !/SECRET/.test((error as Error).message));
  });
});

test('a user or password in HF_ENDPOINT is refused without being shown', async () => {
  await withHub(model, async ({ env }) => {
    for (const wrong of [
      'http://user:SECRET@127.0.0.1:9',
      'https://SECRET@hub.example',
      'user:SECRET@hub.example',
      'http://u:SECRET@[bad',
    ]) {
      env('HF_ENDPOINT', wrong);
      await assert.rejects(resolveModel(ID), (error) => {
        assert.doesNotMatch(String((error as Error).stack), /SECRET/);
        return says(/HF_ENDPOINT holds a user or a password/, /HF_TOKEN/)(error);
      });
    }
  });
});

test('an HF_ENDPOINT with a path, space around it or slashes at its end is understood', async () => {
  for (const [named, endpoint] of [
    [undefined, 'https://huggingface.co'],
    [' ', 'https://huggingface.co'],
    [' https://hf-mirror.com/ ', 'https://hf-mirror.com'],
    ['http://127.0.0.1:8080/hub/@team//', 'http://127.0.0.1:8080/hub/@team'],
  ])
    assert.equal(hubSettings({ HF_ENDPOINT: named, HF_HOME: '/nowhere' }).endpoint, endpoint);
});

test('offline, where nobody is asked, a wrong address or token does no harm', async () => {
  await withHub(model, async ({ env }) => {
    const folder = await resolveModel(ID);
    env('HF_ENDPOINT', 'huggingface.co');
    env('HF_TOKEN', 'two\nlines');
    env('HF_HUB_OFFLINE', '1');
    assert.equal(await resolveModel(ID), folder);
  });
});
