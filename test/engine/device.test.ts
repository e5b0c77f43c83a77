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

test('threads are as many as asked for, and results stay the same', async () => {
  const sums = () => tf.tidy(() => tf.matMul(tf.ones([300, 300]), tf.range(0, 90000, 1).reshape([300, 300])).dataSync());
  await useDevice('cpu');
  const expected = sums();
  const kept = tf.tidy(() => tf.square(tf.range(0, 5, 1)));
  const { description } = await useDevice('cpu', { threads: 1 });
  assert.match(description, /, 1 thread, /);
  assert.deepEqual(sums(), expected);
  assert.deepEqual([...kept.dataSync()], [0, 1, 4, 9, 16]);
  kept.dispose();
  assert.match((await useDevice('cpu', { threads: 3 })).description, /, 3 threads, /);
  assert.deepEqual(sums(), expected);
  assert.match((await useDevice('cpu')).description, new RegExp(`, ${os.availableParallelism()} threads?, `));
});

for (const threads of [0, 1.5, Number.NaN, 5000]) {
  test(`${threads} threads are refused`, async () => {
    await assert.rejects(
      useDevice('cpu', { threads }),
      (error: Error) => error instanceof UserError && /^threads is .+1 to 1024/.test(error.message),
    );
  });
}

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

const elsewhere = "Object.defineProperty(process, 'arch', { value: 'mips' });";
const unloadable = `
  const { _load: load } = require('node:module');
  require('node:module')._load = (request, ...rest) => {
    if (!request.endsWith('onnxruntime_binding.node')) return load(request, ...rest);
    throw Object.assign(new Error('a library is missing'), { code: 'ERR_DLOPEN_FAILED' });
  };`;
for (const [what, preparation, sentence] of [
  ['has no build', elsewhere, /^UserError: ONNX Runtime, .+ has no build for \w+ on mips; it runs on .+\.$/],
  ['cannot be loaded', unloadable, /^UserError: ONNX Runtime, .+ could not be loaded \(a library is missing\); .+\.$/],
] as const) {
  test(`where ONNX Runtime ${what}, the library can be imported, and a sentence says so when it should compute`, () => {
    const program = `${preparation}
      require(${JSON.stringify(path.join(__dirname, '../../lib'))}).useDevice().catch(({ name, message }) => process.stdout.write(name + ': ' + message));`;
    const said = execFileSync(process.execPath, ['-e', program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    assert.match(said, sentence);
  });
}
