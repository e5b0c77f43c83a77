import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRandom, restoreRandom, shuffled } from '../../lib/random';

test('the stream of xoshiro128** is that of the reference implementation', () => {
  // state 1, 2, 3, 4 by the C code at https://prng.di.unimi.it/xoshiro128starstar.c
  const random = restoreRandom([1, 2, 3, 4]);
  const words = Array.from({ length: 4 }, () => random.next() * 2 ** 32);
  assert.deepEqual(words, [11520, 0, 5927040, 70819200]);
});

test('a stream goes on exactly where its saved state was taken', () => {
  const random = createRandom(42);
  for (let i = 0; i < 10; i++) random.next();
  const copy = restoreRandom(JSON.parse(JSON.stringify(random.state())));
  assert.deepEqual(
    Array.from({ length: 20 }, () => copy.next()),
    Array.from({ length: 20 }, () => random.next()),
  );
});

test('different seeds give different streams, negative and large ones too', () => {
  const firsts = [0, 1, -1, 2 ** 32, 2 ** 40 + 1, 123456789].map((seed) => createRandom(seed).next());
  assert.equal(new Set(firsts).size, firsts.length);
  assert.ok(firsts.every((first) => first >= 0 && first < 1));
});

test('whole numbers are in range and equally likely', () => {
  const random = createRandom(7);
  const counts = new Array(6).fill(0);
  for (let i = 0; i < 60_000; i++) counts[random.int(6)]++;
  assert.ok(
    counts.every((count) => Math.abs(count - 10_000) < 400),
    String(counts),
  );
});

test('normal draws have mean 0 and variance 1', () => {
  const random = createRandom(9);
  const draws = Array.from({ length: 50_000 }, () => random.normal());
  const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
  const variance = draws.reduce((sum, x) => sum + x * x, 0) / draws.length;
  assert.ok(Math.abs(mean) < 0.02 && Math.abs(variance - 1) < 0.03, `${mean} ${variance}`);
});

test('a shuffle keeps every element', () => {
  const list = Array.from({ length: 30 }, (_, i) => i);
  assert.deepEqual(
    shuffled(list, createRandom(1)).sort((a, b) => a - b),
    list,
  );
});
