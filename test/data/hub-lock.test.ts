import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { resolveModel } from '../../lib/data';
import { withLock } from '../../lib/data/hub/lock';
import { Interrupted, Interruption } from '../../lib/interruption';
import { ID, model, says, weights, withHub } from './hub-place';
import { sha256 } from './hub-server';

const DAYS = new Date(Date.now() - 2 * 24 * 3600 * 1000);
const soon = { timeout: 25_000 };

/** A process that lives as long as the test. */
function neighbour(t: TestContext): ChildProcess {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  t.after(() => child.kill());
  return child;
}

/** What is written with console.warn until the test ends. */
function warnings(t: TestContext): string[] {
  const said: string[] = [];
  t.mock.method(console, 'warn', (text: string) => void said.push(text));
  return said;
}

/** Leaves a lock for the weights, and gives its path. */
function leaveLock(repository: string, content: string, time?: Date): string {
  const lock = path.join(repository, 'blobs', `${sha256(weights)}.lock`);
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  fs.writeFileSync(lock, content);
  if (time) fs.utimesSync(lock, time, time);
  return lock;
}

function leftovers(repository: string): string[] {
  return fs.readdirSync(path.join(repository, 'blobs')).filter((name) => name.includes('.lock'));
}

/** Runs with a folder for locks alone. */
async function withFolder(run: (blob: string) => Promise<void>): Promise<void> {
  const folder = fs.mkdtempSync(path.join(tmpdir(), 'lock-'));
  try {
    await run(path.join(folder, 'blob'));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

test('a lock that a killed process has left does not stop a download', soon, async () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  for (const content of [`${pid} ${hostname()} some-id`, String(pid)]) {
    await withHub(model, async ({ repository }) => {
      leaveLock(repository, content);
      await resolveModel(ID);
      assert.deepEqual(leftovers(repository), []);
    });
  }
});

test('an old lock does not stop a download, whoever has its number now and whatever it holds', soon, async (t) => {
  const warned = warnings(t);
  const alive = neighbour(t).pid;
  for (const content of [
    String(alive),
    `${alive} ${hostname()} some-id`,
    '1',
    '1 elsewhere some-id',
    'abc',
    'NaN',
    '',
    '0',
    '-1',
    '1e999',
  ]) {
    await withHub(model, async ({ repository }) => {
      leaveLock(repository, content, DAYS);
      await resolveModel(ID);
      assert.deepEqual(leftovers(repository), [], JSON.stringify(content));
    });
  }
  await withHub(model, async ({ repository }) => {
    const lock = path.join(repository, 'blobs', `${sha256(weights)}.lock`);
    fs.mkdirSync(lock, { recursive: true });
    fs.utimesSync(lock, DAYS, DAYS);
    await resolveModel(ID);
    assert.deepEqual(leftovers(repository), []);
  });
  assert.deepEqual(warned, []);
});

test('a takeover that was cut off does not stop the next', soon, async (t) => {
  await withHub(model, async ({ repository }) => {
    const lock = leaveLock(repository, String(neighbour(t).pid), DAYS);
    fs.writeFileSync(`${lock}.takeover`, '');
    fs.utimesSync(`${lock}.takeover`, DAYS, DAYS);
    await resolveModel(ID);
    assert.deepEqual(leftovers(repository), []);
  });
});

test('a lock whose time lies ahead is taken over when it has been watched for half a minute', soon, async (t) => {
  await withFolder(async (blob) => {
    const ahead = new Date(Date.now() + 3600 * 1000);
    fs.writeFileSync(`${blob}.lock`, '1 elsewhere some-id');
    fs.utimesSync(`${blob}.lock`, ahead, ahead);
    warnings(t);
    const { now } = performance;
    let later = 0;
    t.mock.method(performance, 'now', () => now.call(performance) + later);
    let isHeld = false;
    const work = withLock(blob, 'x', new Interruption(), async () => void (isHeld = true));
    await sleep(300);
    later = 29_000;
    await sleep(300);
    assert.ok(!isHeld);
    later = 31_000;
    await work;
  });
});

test("a lock that is refreshed is waited for, which is told once, and a notebook's stop button ends it", soon, async (t) => {
  const kernel = globalThis as { __tslab__?: unknown };
  kernel.__tslab__ = { require: () => ({ newDisplay: () => ({ text() {} }) }) };
  t.after(() => delete kernel.__tslab__);
  const warned = warnings(t);
  await withHub(model, async ({ repository, hub }) => {
    const content = `${neighbour(t).pid} ${hostname()} some-id`;
    const lock = leaveLock(repository, content);
    const refreshes = setInterval(() => fs.utimesSync(lock, new Date(), new Date()), 500);
    const stop = setTimeout(() => process.emit('SIGINT'), 6500);
    try {
      await assert.rejects(resolveModel(ID), Interrupted);
    } finally {
      clearInterval(refreshes);
      clearTimeout(stop);
    }
    assert.equal(warned.length, 1);
    assert.match(
      warned[0],
      /^model\.safetensors of tester\/tiny-model is locked by another download \(.*\.lock\); waiting until .* 30 s\.$/,
    );
    assert.equal(fs.readFileSync(lock, 'utf8'), content);
    assert.ok(!hub.seen.some(({ path }) => path.startsWith('/storage')));
  });
});

test('where the place of the cache is a file, that is said', soon, async () => {
  await withHub(model, async ({ repository }) => {
    fs.mkdirSync(repository, { recursive: true });
    fs.writeFileSync(path.join(repository, 'blobs'), '');
    await assert.rejects(resolveModel(ID), says(/blobs could not be saved: a part of this path is a file, not a folder/));
  });
});

test('a lock is refreshed while its holder works', soon, async () => {
  await withFolder(async (blob) => {
    await withLock(blob, 'x', new Interruption(), async (check) => {
      fs.utimesSync(`${blob}.lock`, DAYS, DAYS);
      await sleep(2000);
      assert.ok(Date.now() - fs.statSync(`${blob}.lock`).mtimeMs < 1900);
      check();
    });
    assert.ok(!fs.existsSync(`${blob}.lock`));
  });
});

test('who finds that another has taken over its lock leaves that alone, waits, and begins again', soon, async () => {
  await withFolder(async (blob) => {
    const lock = `${blob}.lock`;
    let runs = 0;
    await withLock(blob, 'x', new Interruption(), async (check) => {
      runs++;
      if (runs > 1) {
        assert.notEqual(fs.readFileSync(lock, 'utf8'), '1 elsewhere some-id');
        return;
      }
      fs.rmSync(lock);
      fs.writeFileSync(lock, '1 elsewhere some-id');
      setTimeout(() => fs.rmSync(lock), 2500);
      await sleep(1500);
      check();
      assert.fail('the lock is another one');
    });
    assert.equal(runs, 2);
  });
});

test('of many processes that find an abandoned lock at once, one at a time holds it', { timeout: 60_000 }, async () => {
  await withFolder(async (blob) => {
    const code = `
      const { withLock } = require(${JSON.stringify(path.join(__dirname, '../../lib/data/hub/lock.js'))});
      const { Interruption } = require(${JSON.stringify(path.join(__dirname, '../../lib/interruption.js'))});
      const fs = require('node:fs');
      const blob = ${JSON.stringify(blob)};
      const work = async () => {
        fs.mkdirSync(blob + '.inside'); // fails where another is inside
        await new Promise((resolve) => setTimeout(resolve, 20));
        fs.rmdirSync(blob + '.inside');
      };
      const rounds = async () => {
        for (let round = 0; round < 10; round++) {
          await withLock(blob, 'x', new Interruption(), work);
          // leaves a lock that all others find abandoned
          try { fs.writeFileSync(blob + '.lock', '1 elsewhere ' + round, { flag: 'wx' }); fs.utimesSync(blob + '.lock', 1e9, 1e9); } catch {}
        }
      };
      process.stdin.once('data', () => rounds().then(() => process.exit(0)));
      console.log('ready');`;
    const children = Array.from({ length: 6 }, () => spawn(process.execPath, ['-e', code], { stdio: ['pipe', 'pipe', 'inherit'] }));
    await Promise.all(children.map((child) => once(child.stdout, 'data')));
    const ends = children.map((child) => once(child, 'exit'));
    for (const child of children) child.stdin.write('go');
    assert.deepEqual(
      (await Promise.all(ends)).map(([exit]) => exit),
      children.map(() => 0),
    );
  });
});
