import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { currentDevice, type DeviceName, useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';

test('auto is the CPU, and describes it', async () => {
  const device = await useDevice('auto');
  assert.equal(device.name, 'cpu');
  assert.match(device.description, /^.+, \d+ threads?, ONNX Runtime \d/);
  assert.deepEqual(await currentDevice(), device);
});

test('an unknown device is refused with the list of known ones', async () => {
  await assert.rejects(
    useDevice('gpu' as DeviceName),
    (error: Error) => error instanceof UserError && /'gpu'.*auto, cpu, webgpu, tfjs-node-gpu, tfjs-node/.test(error.message),
  );
});

for (const name of ['webgpu', 'tfjs-node', 'tfjs-node-gpu'] as const) {
  test(`${name} computes, or says in one sentence why it cannot and leaves the device in use as it was`, async (t) => {
    const before = await useDevice('cpu');
    try {
      const device = await useDevice(name);
      assert.equal(device.name, name);
      assert.deepEqual([...tf.tidy(() => tf.add(tf.tensor1d([1, 2]), 3).dataSync())], [4, 5]);
    } catch (error) {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, new RegExp(`^The device '${name}' needs .*[;,] (or )?use 'cpu'\\.$`));
      assert.ok(!error.message.includes('\n'));
      assert.deepEqual(await currentDevice(), before);
      assert.deepEqual([...tf.tidy(() => tf.add(tf.tensor1d([1, 2]), 3).dataSync())], [4, 5]);
      t.diagnostic(error.message);
    }
    await useDevice('cpu');
  });
}

test('computing leaves nothing in the home, cache and temporary folders: no device id, no usage events to upload', (t) => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'home-'));
  t.after(() => fs.rmSync(home, { recursive: true }));
  // Nothing else of the environment: ONNX Runtime is also silent where a variable tells of continuous integration.
  const environment: NodeJS.ProcessEnv = { PATH: process.env.PATH, SystemRoot: process.env.SystemRoot };
  for (const name of ['HOME', 'USERPROFILE', 'LOCALAPPDATA', 'XDG_CACHE_HOME', 'TMPDIR', 'TEMP', 'TMP']) environment[name] = home;
  const engine = JSON.stringify(path.join(__dirname, '../../lib/engine'));
  const program = `
    const tf = require('@tensorflow/tfjs-core');
    require(${engine}).useDevice('cpu').then(() => console.log(tf.add(tf.tensor1d([1, 2]), 3).dataSync().join()));`;
  assert.equal(execFileSync(process.execPath, ['-e', program], { env: environment, encoding: 'utf8', cwd: __dirname }), '4,5\n');
  assert.deepEqual(fs.readdirSync(home, { recursive: true }), []);
});
