import assert from 'node:assert/strict';
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
