import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { hostname } from 'node:os';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import type { CausalLM } from '../../lib/model';
import { SFTTrainer, type TrainerCallback } from '../../lib/train';
import { claimFolder } from '../../lib/train/run-folder';
import { lockFolder } from '../../lib/train/run-lock';
import { rows, short, temporaryFolder, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

test('while a run writes into a folder no other does, and then it is free', async (t) => {
  const outputDir = temporaryFolder(t);
  const [first, second] = [await tinyModel(t), await tinyModel(t)];
  const config = { ...short, outputDir, maxSteps: 2 };
  const make = (model: CausalLM, callbacks: TrainerCallback[]) =>
    new SFTTrainer({ model, trainDataset: rows.slice(0, 8), config, callbacks });
  let refused = 0;
  const beside: TrainerCallback = {
    onStepEnd: async () => {
      await assert.rejects(make(second, []).train(), {
        name: 'UserError',
        message: /^Another run writes into outputDir .* \(process \d+ on .*\); wait for its end, or name another folder\./,
      });
      refused++;
    },
  };
  await make(first, [beside]).train();
  assert.equal(refused, 2);
  assert.deepEqual(
    fs.readdirSync(outputDir).filter((name) => name.startsWith('.')),
    [],
  );
});

test('what a run left of a lock, killed while it took it away, goes with the next run', async (t) => {
  const outputDir = temporaryFolder(t);
  fs.writeFileSync(path.join(outputDir, '..lock.4920.0.partial'), `4920 ${hostname()}`);
  const model = await tinyModel(t);
  await new SFTTrainer({ model, trainDataset: rows.slice(0, 4), config: { ...short, outputDir, maxSteps: 1 } }).train();
  assert.ok(fs.existsSync(path.join(outputDir, 'run.json')));
  assert.deepEqual(
    fs.readdirSync(outputDir).filter((name) => name.startsWith('.')),
    [],
  );
});

test('a run that fails before it has made its folder ready leaves the folder free', (t) => {
  const outputDir = temporaryFolder(t);
  fs.writeFileSync(path.join(outputDir, 'run.json'), '{}');
  const refuse = (): never => {
    throw new Error('refused');
  };
  assert.throws(() => claimFolder(outputDir, { overwrite: true, needed: [], onNote: refuse }), /refused/);
  lockFolder(outputDir)();
});

test("a lock of a process that has ended is nobody's, of one that lives it holds", async (t) => {
  const folder = temporaryFolder(t);
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  fs.writeFileSync(path.join(folder, '.lock'), `${child.pid} ${hostname()}`);
  assert.throws(() => lockFolder(folder), new RegExp(`process ${child.pid} on `));
  const ended = new Promise((resolve) => child.on('close', resolve));
  child.kill('SIGKILL');
  await ended;
  lockFolder(folder)();
});

test('a lock of another machine holds as long as it is refreshed', (t) => {
  const folder = temporaryFolder(t);
  const lock = path.join(folder, '.lock');
  fs.writeFileSync(lock, '1 another-machine');
  assert.throws(() => lockFolder(folder), /process 1 on another-machine/);
  const longAgo = new Date(Date.now() - 3_600_000);
  fs.utimesSync(lock, longAgo, longAgo);
  lockFolder(folder)();
});

test('a lock whose maker was killed before it had written its name holds nobody up', (t) => {
  const folder = temporaryFolder(t);
  fs.writeFileSync(path.join(folder, '.lock'), '');
  lockFolder(folder)();
});
