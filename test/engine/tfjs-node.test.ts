/** libtensorflow as a device. CONTRIBUTING.md says how to compile a package's native part where it cannot be downloaded. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { currentDevice, useDevice } from '../../lib/engine';
import { findTfjsNode, type TfjsNodeName } from '../../lib/engine/tfjs-node';
import { messageOf } from '../../lib/errors';
import { loadModel, tokenNll } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { families } from '../golden-families';
import { assertGolden, goldenRun } from './golden-run';

/** Why a device cannot be used here; undefined if its package is there, which must then work. */
function missing(name: TfjsNodeName): string | undefined {
  try {
    findTfjsNode(name);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

// a process loads one of the two packages
const device = missing('tfjs-node') && !missing('tfjs-node-gpu') ? 'tfjs-node-gpu' : 'tfjs-node';
const skip = missing(device) ?? false;

for (const family of families) {
  test(`${family} on libtensorflow: token losses and the first training steps are those of the reference`, { skip }, async () => {
    const { description } = await useDevice(device);
    assert.match(description, /libtensorflow \d+\.\d+\.\d+ through @tensorflow\/tfjs-node/);
    const before = tf.memory().numTensors;
    assertGolden(family, await goldenRun(family));
    assert.equal(tf.memory().numTensors, before, 'tensors left behind');
  });
}

test('a model moves to libtensorflow and back to the CPU', { skip }, async () => {
  await useDevice('cpu');
  const model = await loadModel(path.join(projectRoot, 'test', 'golden', 'llama', 'model'));
  const score = async () => [...(await tokenNll(model, [5, 6, 7, 8])).nll];
  const expected = await score();
  for (const name of [device, 'cpu'] as const) {
    await useDevice(name);
    for (const [i, nll] of (await score()).entries()) assert.ok(Math.abs(nll - expected[i]) < 1e-4, `${name}: ${nll}, not ${expected[i]}`);
  }
  model.dispose();
});

test('a device that is still being chosen is the current one', { skip }, async () => {
  await useDevice('cpu');
  const chosen = useDevice(device);
  assert.equal((await currentDevice()).name, device);
  await chosen;
});

/** A folder of node_modules with a package under `@tensorflow/tfjs-node` whose native part is a stub; removed when the test ends. */
function installation(t: TestContext, manifest: { name: string; version: string }, native = true): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-tfjs-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const write = (name: string, content: string) => {
    const file = path.join(folder, 'node_modules', '@tensorflow', name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
  };
  write('tfjs-node/package.json', JSON.stringify(manifest));
  write('tfjs-node/index.js', STUB);
  if (native) write('tfjs-node/lib/napi-v8/tfjs_binding.node', '');
  for (const name of ['tfjs', 'tfjs-core']) write(`${name}/index.js`, `throw new Error('a second copy of ${name}')`);
  return folder;
}

/** Registers a backend as tfjs-node does, and calls what Node 23 took out of `util`. */
const STUB = `
  const tf = require('@tensorflow/tfjs');
  const { isNullOrUndefined } = require('util');
  require('@tensorflow/tfjs-core');
  class Backend extends tf.KernelBackend {
    binding = { TF_Version: isNullOrUndefined(null) ? '2.9.1' : '' };
    isUsingGpuDevice = false;
  }
  tf.registerBackend('tensorflow', () => new Backend());`;

/** What useDevice('tfjs-node') says in a process of its own that works in `folder`: a description, or an error. */
function askedIn(folder: string): string {
  const program = `require(${JSON.stringify(path.join(projectRoot, 'build', 'lib', 'engine'))}).useDevice('tfjs-node')
    .then(({ description }) => console.log(description), ({ message }) => console.log(message))`;
  const { NODE_PATH: _, ...env } = process.env;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], { cwd: folder, env, encoding: 'utf8' });
  assert.equal(stderr, '');
  return stdout.trim();
}

test('a package in the working directory is loaded with our copy of tfjs, on every version of Node', (t) => {
  const folder = installation(t, { name: '@tensorflow/tfjs-node', version: tf.version_core });
  assert.match(askedIn(folder), new RegExp(`, libtensorflow 2\\.9\\.1 through @tensorflow/tfjs-node ${tf.version_core}$`));
});

test("another package under the real one's name is passed over", (t) => {
  const folder = installation(t, { name: '@tensorflow/tfjs', version: tf.version_core });
  assert.match(askedIn(folder), /it is not installed; install it in a folder outside/);
});

test('a package without its native part, or for another version of tfjs, is refused with the remedy', (t) => {
  const incomplete = installation(t, { name: '@tensorflow/tfjs-node', version: tf.version_core }, false);
  assert.match(askedIn(incomplete), /tfjs-node lacks its native part; run 'npm rebuild .*' in .*tunebook-tfjs-\w+, or use 'cpu'\.$/);
  const old = installation(t, { name: '@tensorflow/tfjs-node', version: '3.21.0' });
  assert.match(askedIn(old), /tfjs-node has version 3\.21\.0; install it in/);
});
