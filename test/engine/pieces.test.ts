/** Large matrices in pieces: the same numbers as of the whole, in less memory. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { before, beforeEach, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import * as composed from '../../lib/engine/composed';
import { piecesOf } from '../../lib/engine/ort/pieces';
import { createRandom } from '../../lib/random';
import { GradientSums } from '../../lib/train/gradients';

const random = createRandom(5);
const numbers = (size: number): Float32Array => Float32Array.from({ length: size }, () => random.normal());

before(async () => {
  await engine.useDevice('cpu');
});
beforeEach(() => engine.varyingSizes({}));

/** The largest difference, in units of the largest number. */
function distance(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length);
  const largest = b.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return b.reduce((most, x, i) => Math.max(most, Math.abs(x - a[i])), 0) / largest;
}

test('pieces are of one size but the last, follow each other, and are not too many', () => {
  for (const rows of [1, 16, 2048, 2049, 5003, 32000, 49152, 50257, 50304, 151936, 256000]) {
    const pieces = piecesOf(rows);
    const { size } = pieces[0];
    const last = pieces[pieces.length - 1];
    assert.ok(pieces.length <= 64 && last.size > 0 && last.size <= size);
    assert.equal(last.first + last.size, rows);
    for (const [index, piece] of pieces.slice(0, -1).entries()) assert.deepEqual(piece, { first: index * size, size, isLast: false });
    assert.ok(last.isLast && last.first === size * (pieces.length - 1));
    assert.ok(pieces.length === 1 || size % 16 === 0);
  }
  assert.deepEqual(piecesOf(2048), [{ first: 0, size: 2048, isLast: true }]);
  assert.equal(piecesOf(2049).length, 2);
});

const VOCABULARY = 5003;
const FEATURES = 8;

interface Operations {
  tokenLoss: typeof engine.tokenLoss;
  embedding: typeof engine.embedding;
}

/** Gradients of a matrix that is both embedding and output head, summed over rows of tokens. */
function summedGradients({ tokenLoss, embedding }: Operations, weights: Float32Array, rows: number[][], isTied: boolean): Float32Array {
  const weight = engine.ownedVariable<tf.Rank.R2>(weights.slice(), [VOCABULARY, FEATURES]);
  const other = tf.tensor2d(weights.slice(0, 40 * FEATURES), [40, FEATURES]);
  const sums = new GradientSums();
  for (const ids of rows) {
    engine.varyingSizes({ tokens: ids.length });
    const { value, grads } = tf.variableGrads(() => {
      const tokens = tf.tensor1d(ids, 'int32');
      const hidden = isTied ? embedding(weight, tokens) : embedding(other as tf.Tensor2D, tf.mod(tokens, tf.scalar(40, 'int32')));
      return tf.sum(tokenLoss(tf.tanh(hidden) as tf.Tensor2D, weight, tf.reverse(tokens) as tf.Tensor1D).nll) as tf.Scalar;
    });
    value.dispose();
    sums.add('weight', grads[weight.name]);
    engine.computeRecorded();
  }
  const [[, sum]] = sums.entries();
  const result = sum.dataSync<'float32'>().slice();
  sums.dispose();
  tf.dispose([weight, other]);
  return result;
}

for (const isTied of [true, false]) {
  test(`gradients of ${isTied ? 'an output head that is the embedding too' : 'an output head'} add up to those of plain operations`, () => {
    const weights = numbers(VOCABULARY * FEATURES);
    // the first and last of a piece, some twice, and nothing of the middle piece in the second row
    const rows = [
      [0, 1679, 1680, 3359, 3360, 5002, 1680],
      [7, 5002, 7, 4000, 12],
      [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ];
    const before = tf.memory().numTensors;
    const found = summedGradients(engine, weights, rows, isTied);
    assert.equal(tf.memory().numTensors, before);
    const plain: Operations = { tokenLoss: composed.tokenLoss, embedding: (weight, ids) => tf.gather(weight, ids) as tf.Tensor2D };
    assert.ok(distance(found, summedGradients(plain, weights, rows, isTied)) < 1e-6);
  });
}

test('a loss that was read before its gradient is recorded has the same gradient', () => {
  const [hidden, weight] = [
    tf.tensor2d(numbers(5 * FEATURES), [5, FEATURES]),
    tf.tensor2d(numbers(VOCABULARY * FEATURES), [VOCABULARY, FEATURES]),
  ];
  const targets = tf.tensor1d([0, 5002, 1680, 1679, 44], 'int32');
  const gradient = (read: boolean): Float32Array =>
    tf.tidy(() => {
      const loss = (x: tf.Tensor): tf.Tensor => {
        const { nll } = engine.tokenLoss(x as tf.Tensor2D, weight, targets);
        if (read) nll.dataSync();
        return tf.sum(nll);
      };
      return tf.grad(loss)(hidden).dataSync<'float32'>().slice();
    });
  assert.ok(distance(gradient(true), gradient(false)) < 1e-6);
  tf.dispose([hidden, weight, targets]);
});

test('a target outside of the vocabulary is refused, by the call if it is known and else when the loss is read', () => {
  tf.tidy(() => {
    const [hidden, weight] = [tf.ones([2, FEATURES]) as tf.Tensor2D, tf.ones([VOCABULARY, FEATURES]) as tf.Tensor2D];
    const known = (id: number): tf.Tensor1D => tf.tensor1d([0, id], 'int32');
    assert.throws(() => engine.tokenLoss(hidden, weight, known(VOCABULARY)), /the target 5003 is not in \[0, 5002\]/);
    assert.throws(() => engine.tokenLoss(hidden, weight, known(-1)), /the target -1 is not in/);
    const { nll } = engine.tokenLoss(hidden, weight, tf.add(known(5000), tf.scalar(3, 'int32')));
    assert.throws(() => nll.dataSync());
  });
});

/** Megabytes that the process took at most during the work; undefined where that cannot be known. */
function peakOf(work: () => void): number | undefined {
  if (process.platform !== 'linux') return undefined;
  const megabytes = (field: string): number =>
    Number(readFileSync('/proc/self/status', 'utf8').match(new RegExp(`${field}:\\s+(\\d+) kB`))?.[1]) / 1e3;
  const before = megabytes('VmRSS');
  writeFileSync('/proc/self/clear_refs', '5');
  work();
  return megabytes('VmHWM') - before;
}

const NO_PEAK = 'only Linux counts the peak of memory afresh on request';

test('the logits of a whole vocabulary never lie in memory at once', (t) => {
  const [vocabulary, tokens] = [49152, 512];
  const [hidden, weight] = [tf.tensor2d(numbers(tokens * 16), [tokens, 16]), tf.tensor2d(numbers(vocabulary * 16), [vocabulary, 16])];
  const targets = tf.zeros([tokens], 'int32') as tf.Tensor1D;
  const taken = peakOf(() => tf.tidy(() => engine.tokenLoss(hidden, weight, targets).nll.dataSync()));
  tf.dispose([hidden, weight, targets]);
  if (taken === undefined) return t.skip(NO_PEAK);
  const all = (4 * vocabulary * tokens) / 1e6;
  assert.ok(taken < all / 2, `${taken} MB were taken, all logits have ${all}`);
});

test('the gradient of an output head goes onto its sum without a matrix of its size in between', (t) => {
  const [vocabulary, features, tokens] = [49152, 512, 32];
  const weight = engine.ownedVariable<tf.Rank.R2>(new Float32Array(vocabulary * features).fill(0.01), [vocabulary, features]);
  const hidden = tf.tensor2d(numbers(tokens * features), [tokens, features]);
  const targets = tf.zeros([tokens], 'int32') as tf.Tensor1D;
  const sums = new GradientSums();
  const taken = peakOf(() => {
    const { value, grads } = tf.variableGrads(() => tf.sum(engine.tokenLoss(hidden, weight, targets).nll) as tf.Scalar);
    value.dispose();
    sums.add('weight', grads[weight.name]);
    engine.computeRecorded();
  });
  sums.dispose();
  tf.dispose([weight, hidden, targets]);
  if (taken === undefined) return t.skip(NO_PEAK);
  const sum = (4 * vocabulary * features) / 1e6;
  assert.ok(taken < 1.5 * sum, `${taken} MB were taken, the sum has ${sum}`);
});
