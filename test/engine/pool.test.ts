/** Buffers that are used again. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { BufferPool } from '../../lib/engine/ort/pool';

const KB = 1024;

before(async () => {
  await useDevice('cpu');
});

test('a buffer that came back is used again, also for something shorter, but not for a small part of it', () => {
  const pool = new BufferPool();
  const buffer = pool.take(400 * KB);
  pool.give(buffer);
  assert.equal(pool.take(400 * KB), buffer);
  pool.give(buffer);
  assert.equal(pool.take(300 * KB), buffer);
  pool.give(buffer);
  assert.notEqual(pool.take(100 * KB), buffer);
});

test('of several buffers the shortest that is long enough is used', () => {
  const pool = new BufferPool();
  const buffers = [500, 410, 450].map((size) => pool.take(size * KB));
  for (const buffer of buffers) pool.give(buffer);
  assert.equal(pool.take(405 * KB), buffers[1]);
  assert.equal(pool.take(405 * KB), buffers[2]);
});

test('sizes that come once do not pile up: no more waits than fills up what was in use at once', () => {
  const pool = new BufferPool();
  for (let size = 100; size < 5000; size += 100) {
    const two = [pool.take(size * KB), pool.take(size * KB)];
    for (const buffer of two) pool.give(buffer);
    assert.ok(pool.idleBytes <= 2 * size * KB, `${pool.idleBytes} bytes wait after two of ${size} KB`);
  }
  assert.ok(pool.idleBuffers > 0);
});

test('a buffer that is not from the pool does not come into it', () => {
  const pool = new BufferPool();
  pool.give(new ArrayBuffer(400 * KB));
  assert.equal(pool.idleBuffers, 0);
});

test('a result in a longer buffer has its own length and values', () => {
  const compute = (size: number, value: number): Float32Array => tf.tidy(() => tf.neg(tf.fill([size], value)).dataSync() as Float32Array);
  compute(60000, 3);
  const shorter = compute(50000, 4);
  assert.equal(shorter.length, 50000);
  assert.ok(shorter.every((x) => x === -4));
});
