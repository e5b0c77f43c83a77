import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { ConfigReader } from '../../lib/model/config';
import { RotaryEmbedding, readRope, ropeFrequencies, ropePositionLimit } from '../../lib/model/rope';
import { closeTo } from './support';

before(() => useDevice('cpu'));

const read = (config: Record<string, unknown>, headDim = 8, maxPositions = 2048, partialRotaryFactor?: number) =>
  readRope(new ConfigReader(config, 'config.json'), headDim, maxPositions, {
    partialRotaryFactor,
    ...(partialRotaryFactor !== undefined && { olderKeys: { theta: 'rotary_emb_base', partialRotaryFactor: 'rotary_pct' } }),
  });

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
  const neox = read({ rope_parameters: { rope_theta: 10000, partial_rotary_factor: 0.25 } }, 64, 2048, 0.5);
  assert.deepEqual(read({ rotary_pct: 0.25, rotary_emb_base: 10000 }, 64, 2048, 0.5), neox);
  assert.deepEqual(read({}, 64, 2048, 0.25), neox);
});

test('of spellings beside each other the one that transformers reads counts', () => {
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 512 };
  const fresh = { ...llama3, rope_theta: 500 };
  assert.deepEqual(read({ rope_parameters: fresh, rope_scaling: {} }), read({ rope_parameters: fresh }), 'an empty object is none');
  assert.deepEqual(read({ rope_parameters: {}, rope_theta: 7 }), read({ rope_theta: 7 }));
  const outer = read({ rope_parameters: fresh, original_max_position_embeddings: 64 });
  assert.equal(outer.originalMaxPositions, 64, 'the outer length of the pretraining wins');
  assert.equal(read({ rotary_emb_base: 77 }).theta, 10000, 'a key of GPT-NeoX alone');
  const neox = (config: Record<string, unknown>) => read(config, 64, 2048, 0.25).theta;
  assert.equal(neox({ rope_theta: 77 }), 10000, 'a key that GPT-NeoX does not know');
  assert.equal(neox({ rope_theta: 77, rotary_emb_base: 33 }), 33);
  assert.equal(neox({ rope_scaling: { type: 'linear', factor: 2 }, rope_theta: 77, rotary_emb_base: 33 }), 33);
  assert.equal(neox({ rope_parameters: { rope_theta: 77 }, rotary_emb_base: 33 }), 77);
});

test('dynamic angles are the plain ones up to the length of the pretraining, and slower beyond', () => {
  const dynamic = read({ rope_scaling: { type: 'dynamic', factor: 2 } });
  const plain = ropeFrequencies(read({}), 1);
  assert.deepEqual(ropeFrequencies(dynamic, 2048), plain);
  const beyond = ropeFrequencies(dynamic, 4096);
  assert.equal(beyond[0], 1);
  for (let i = 1; i < plain.length; i++) assert.ok(beyond[i] < plain[i]);
});

test('where an odd number of features turns, frequencies and pairs are those of transformers', () => {
  const frequencies = (scaling: Record<string, unknown>, length = 10, headDim = 20, partial_rotary_factor = 0.25) =>
    ropeFrequencies(read({ rope_parameters: { rope_theta: 10000, partial_rotary_factor, ...scaling } }, headDim, 128, 0.25), length);
  const llama3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 64 };
  for (const [found, expected] of [
    [frequencies({}, 10, 12), [1, 0.002154434332624078]],
    [frequencies({}, 10, 11, 0.85), [1, 0.1291549652814865, 0.01668100617825985, 0.002154434332624078, 0.00027825593133457005]],
    [frequencies({}), [1, 0.025118863210082054, 0.0006309573072940111]],
    [frequencies({ rope_type: 'linear', factor: 4 }), [0.25, 0.0062797158025205135, 0.00015773932682350278]],
    [frequencies({ rope_type: 'dynamic', factor: 2 }, 300), [1, 0.010523946024477482, 0.00011075344809796661]],
    [frequencies(llama3), [1, 0.0031398579012602568, 7.886966341175139e-5]],
  ] as const) {
    assert.equal(found.length, expected.length);
    for (const [i, frequency] of expected.entries()) assert.ok(Math.abs(found[i] / frequency - 1) < 2e-7, `${found[i]}, not ${frequency}`);
  }
});

test('heads whose features make no pairs are refused', () => {
  for (const [headDim, partial, shown] of [
    [11, 1, "11 of a head's 11 features"],
    [12, 1.5, "18 of a head's 12 features"],
    [3, 0.25, "0 of a head's 3 features"],
  ] as const) {
    assert.throws(
      () => read({}, headDim, 2048, partial),
      (error: Error) => error instanceof UserError && error.message.startsWith('config.json: RoPE turns') && error.message.includes(shown),
    );
  }
});

test('whole heads turn in families that know no part of a head, whatever the configuration says', () => {
  const whole = read({ rope_theta: 100 });
  assert.deepEqual(read({ rope_theta: 100, rotary_pct: 0.25 }), whole);
  assert.deepEqual(read({ rope_parameters: { rope_theta: 100, partial_rotary_factor: 0.5 } }), whole);
});

test('stretched models read longer texts', () => {
  assert.equal(ropePositionLimit(read({})), 2048);
  assert.equal(ropePositionLimit(read({ rope_scaling: { type: 'linear', factor: 4 } })), 8192);
  assert.equal(ropePositionLimit(read({ rope_scaling: { type: 'dynamic', factor: 2 } })), Infinity);
});
