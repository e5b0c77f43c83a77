import assert from 'node:assert/strict';
import fs from 'node:fs';
import type http from 'node:http';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { resolveModel } from '../../lib/data';
import { ID, model, says, withHub } from './hub-place';
import { COMMIT } from './hub-server';

/** What is written with console.warn until the test ends. */
function warnings(t: TestContext): string[] {
  const said: string[] = [];
  t.mock.method(console, 'warn', (text: string) => void said.push(text));
  return said;
}

test('where the Hub cannot be reached, the cache serves; without it, the address and the reason are named', async (t) => {
  await withHub(model, async ({ env }) => {
    const folder = await resolveModel(ID);
    env('HF_ENDPOINT', 'http://127.0.0.1:9');
    const warned = warnings(t);
    assert.equal(await resolveModel(ID), folder);
    assert.match(warned.join(), /cannot be reached \(.+\); tester\/tiny-model is taken from the cache/);
    await assert.rejects(
      resolveModel('tester/other'),
      says(/http:\/\/127\.0\.0\.1:9 cannot be reached \(.+\); check the network and HF_ENDPOINT/),
    );
  });
});

test('an overloaded server is asked again', async () => {
  await withHub(model, async ({ hub }) => {
    hub.faults.busy = 2;
    await resolveModel(ID);
  });
});

const status =
  (code: number) =>
  (response: http.ServerResponse): void =>
    void response.writeHead(code).end('sorry');

const outages: Array<[string, (response: http.ServerResponse) => void, RegExp]> = [
  ['with status 500', status(500), /out of order \(status 500\); try again later/],
  ['with status 503', status(503), /out of order \(status 503\); try again later/],
  ['that there were too many requests', status(429), /limits the number of requests \(status 429\); wait some minutes/],
  [
    "with another one's page",
    (response) => void response.end('<html>Sign in</html>'),
    /does not answer like the Hugging Face Hub .*; check/,
  ],
  ['with other JSON', (response) => void response.end('null'), /does not answer like the Hugging Face Hub .*; check/],
  [
    'with half an answer',
    (response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('{"sha": ', () => setTimeout(() => response.destroy(), 20));
    },
    /broke off its answer about tester\/tiny-model \(.+\); try again/,
  ],
];

for (const [what, answer, sentence] of outages) {
  test(`a Hub that answers ${what} does not keep the cache from serving`, async (t) => {
    await withHub(model, async ({ hub }) => {
      hub.faults.answer = answer;
      await assert.rejects(resolveModel(ID), says(sentence));
      hub.faults.answer = undefined;
      const folder = await resolveModel(ID);
      hub.faults.answer = answer;
      const warned = warnings(t);
      assert.equal(await resolveModel(ID), folder);
      assert.equal(warned.length, 1);
      assert.match(warned[0], new RegExp(`${sentence.source.split('; ')[0]}; tester/tiny-model is taken from the cache\\.$`));
    });
  });
}

test('an outage of the storage is told after the usual repetitions, and what has arrived does not pass for the model', async () => {
  await withHub(model, async ({ hub }) => {
    hub.faults.storage = status(503);
    for (let run = 0; run < 2; run++) {
      hub.seen.length = 0;
      await assert.rejects(resolveModel(ID), says(/out of order \(status 503\)/));
      assert.equal(hub.seen.filter(({ path }) => path.startsWith('/storage')).length, 4);
    }
  });
});

test('the answer to a refused download is not left open', async () => {
  await withHub(model, async ({ hub }) => {
    const closed = new Promise<void>((resolve) => {
      hub.faults.storage = (response) => {
        response.on('close', resolve);
        response.writeHead(403, { 'x-error-code': 'Denied' }).write('sorry, and more is to come');
      };
    });
    await assert.rejects(resolveModel(ID), says(/refused tester\/tiny-model \(status 403, Denied\)/));
    const late = new Promise<never>((_, reject) => setTimeout(() => reject(new Error('the answer is still open')), 3000).unref());
    await Promise.race([closed, late]);
  });
});

test('a redirect to what is no web address is told in one sentence without its secrets, and does not keep the cache from serving', async (t) => {
  await withHub(model, async ({ hub, env }) => {
    const folder = await resolveModel(ID);
    for (const [location, sentence] of [
      ['http://[bad?key=SECRET', /redirects to "http:\/\/\[bad", which is no web address; check HF_ENDPOINT/],
      ['file:///etc/passwd', /redirects to "file:\/\/\/etc\/passwd", which is no web address; check HF_ENDPOINT/],
      ['http://user:SECRET@127.0.0.1:9', /redirects to an address with a user or password, which is no/],
      ['/round', /redirects more than 10 times; check HF_ENDPOINT/],
    ] as const) {
      hub.faults.answer = (response) => void response.writeHead(302, { location }).end();
      await assert.rejects(
        resolveModel('tester/other'),
        (error) => says(sentence)(error) && !/SECRET/.test(String((error as Error).stack)),
      );
      const warned = warnings(t);
      assert.equal(await resolveModel(ID), folder);
      assert.equal(warned.length, 1);
      t.mock.restoreAll();
    }
    hub.faults.answer = undefined;
    hub.faults.storage = (response) => void response.writeHead(302, { location: 'http://' }).end();
    env('HF_HUB_CACHE', `${folder}-other`);
    await assert.rejects(resolveModel(ID), says(/redirects to "http:\/\/", which is no web address/));
  });
});

test('what the Hub refuses is told, whatever the cache holds', async (t) => {
  await withHub(model, async ({ hub }) => {
    await resolveModel(ID);
    const warned = warnings(t);
    for (const [code, sentence] of [
      [401, /neither a folder here nor a model/],
      [403, /is gated/],
      [404, /neither a folder here nor a model/],
    ] as const) {
      hub.faults.answer = status(code);
      await assert.rejects(resolveModel(ID), says(sentence));
    }
    assert.deepEqual(warned, []);
  });
});

test('a commit in the cache that has all that a model needs still serves when the Hub does not give it any more', async (t) => {
  await withHub(model, async ({ hub, repository }) => {
    const folder = await resolveModel(ID);
    fs.rmSync(path.join(repository, '.no_exist'), { recursive: true });
    hub.faults.gatedFor = 'hf_other';
    const warned = warnings(t);
    assert.equal(await resolveModel(ID, { revision: COMMIT }), folder);
    assert.match(warned.join(), /^http\S+ does not give tester\/tiny-model now; tester\/tiny-model is taken from the cache\.$/);
    fs.rmSync(path.join(folder, 'tokenizer.json'));
    await assert.rejects(resolveModel(ID, { revision: COMMIT }), says(/is gated/));
  });
});
