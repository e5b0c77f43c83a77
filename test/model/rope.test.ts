import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { ConfigReader } from '../../lib/model/config';
import { RotaryEmbedding, readRope, ropeFrequencies, ropePositionLimit } from '../../lib/model/rope';
import { closeTo } from './support';

before(() => useDevice('cpu'));

const read = (config: Record<string, unknown>, headDim = 8, maxPositions = 2048, partial?: number) =>
  readRope(new ConfigReader(config, 'config.json'), headDim, maxPositions, partial);

test('the tables of angles grow with the longest text, and the old ones are freed', async () => {
  const embedding = new RotaryEmbedding(read({ rope_theta: 100 }));
  const tensors = tf.memory().numTensors;
  for (const positions of [[0, 5], [5, 1023, 1024, 3000], [7]]) {
    const [cos, sin] = tf.tidy(() => {
      const angles = embedding.angles(tf.tensor1d(positions, 'int32'), Math.max(...positions) + 1);
      return [angles.cos, angles.sin];
    });
    const expected = positions.flatMap((position) => [0, 1, 2, 3].map((i) => position * 100 ** (-i / 4)));
    closeTo(await cos.data(), expected.map(Math.cos), 2e-4);
    closeTo(await sin.data(), expected.map(Math.sin), 2e-4);
    tf.dispose([cos, sin]);
    assert.equal(tf.memory().numTensors, tensors + 2);
  }
  embedding.dispose();
  assert.equal(tf.memory().numTensors, tensors);
});

test('old and new keys mean the same', () => {
  const scaling = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 512 };
  const fresh = read({ rope_parameters: { ...scaling, rope_type: 'llama3', rope_theta: 500000 } });
  assert.deepEqual(read({ rope_theta: 500000, rope_scaling: { ...scaling, rope_type: 'llama3' } }), fresh);
  assert.deepEqual(read({ rope_theta: 500000, rope_scaling: { ...scaling, type: 'llama3' } }), fresh);
  const neox = read({ rope_parameters: { rope_theta: 10000, partial_rotary_factor: 0.25 } }, 64);
  assert.deepEqual(read({ rotary_pct: 0.25, rotary_emb_base: 10000 }, 64), neox);
  assert.deepEqual(read({}, 64, 2048, 0.25), neox);
});

test('dynamic angles are the plain ones up to the length of the pretraining, and slower beyond', () => {
  const dynamic = read({ rope_scaling: { type: 'dynamic', factor: 2 } });
  const plain = ropeFrequencies(read({}), 1);
  assert.deepEqual(ropeFrequencies(dynamic, 2048), plain);
  const beyond = ropeFrequencies(dynamic, 4096);
  assert.equal(beyond[0], 1);
  for (let i = 1; i < plain.length; i++) assert.ok(beyond[i] < plain[i]);
});

test('stretched models read longer texts', () => {
  assert.equal(ropePositionLimit(read({})), 2048);
  assert.equal(ropePositionLimit(read({ rope_scaling: { type: 'linear', factor: 4 } })), 8192);
  assert.equal(ropePositionLimit(read({ rope_scaling: { type: 'dynamic', factor: 2 } })), Infinity);
});
