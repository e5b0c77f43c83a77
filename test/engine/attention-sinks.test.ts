/** Attention whose heads have sinks: one more score each, of which nothing is read. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import * as composed from '../../lib/engine/composed';
import { assertClose, random, two } from './tensors';

before(async () => {
  await engine.useDevice('cpu');
});

type Operands = [q: tf.Tensor2D, k: tf.Tensor2D, v: tf.Tensor2D, sinks: tf.Tensor1D];

/** One segment by plain operations: a softmax over the scores of what a token sees, and its head's sink. */
function ofSegment(
  [q, k, v, sinks]: Operands,
  { heads, kvHeads, scale, window = Number.POSITIVE_INFINITY }: engine.AttentionOptions,
): tf.Tensor2D {
  const tokens = q.shape[0];
  // the gradient of tfjs's split knows no single part
  const byHead = (x: tf.Tensor2D, head: number, of: number): tf.Tensor2D => (of === 1 ? x : two(tf.split(x, of, 1)[head]));
  const hidden = tf.buffer([tokens, tokens]);
  for (let row = 0; row < tokens; row++)
    for (let column = 0; column < tokens; column++) hidden.set(column > row || column <= row - window ? -1e30 : 0, row, column);
  const outputs = Array.from({ length: heads }, (_, head) => {
    const shared = Math.floor((head * kvHeads) / heads);
    const products = tf.mul(tf.matMul(byHead(q, head, heads), byHead(k, shared, kvHeads), false, true), scale);
    const sink = tf.tile(tf.reshape(tf.slice(sinks, [head], [1]), [1, 1]), [tokens, 1]);
    const weights = tf.softmax(tf.concat([tf.add(products, hidden.toTensor()), sink], 1));
    return tf.matMul(tf.slice(weights, [0, 0], [tokens, tokens]), byHead(v, shared, kvHeads));
  });
  return two(tf.concat(outputs, 1));
}

function valueAndGradients(compute: (...operands: Operands) => tf.Tensor2D, operands: Operands, direction: tf.Tensor): tf.Tensor[] {
  const along = (...given: tf.Tensor[]) => tf.sum(tf.mul(compute(...(given as Operands)), direction));
  return [compute(...operands), ...tf.grads(along)(operands)];
}

const LENGTHS = [150, 1, 40, 9];

for (const options of [
  { heads: 4, kvHeads: 2, scale: 0.5 },
  { heads: 3, kvHeads: 3, scale: 0.5, window: 20 },
  { heads: 4, kvHeads: 1, scale: 0.7, window: 3 },
])
  test(`with ${options.heads} heads, ${options.kvHeads} of keys${options.window ? `, in a window of ${options.window}` : ''}: value and gradients equal plain operations`, () =>
    tf.tidy(() => {
      const tokens = LENGTHS.reduce((sum, length) => sum + length);
      const [q, k, v] = [options.heads, options.kvHeads, options.kvHeads].map((heads) => two(random([tokens, 8 * heads])));
      const operands: Operands = [q, k, v, random([options.heads], 2) as tf.Tensor1D];
      const direction = random(q.shape);
      const segments = engine.makeSegments(LENGTHS);
      const plain = (...[q, k, v, sinks]: Operands): tf.Tensor2D => {
        const parts = [q, k, v].map((x) => tf.split(x, LENGTHS) as tf.Tensor2D[]);
        return two(
          tf.concat(
            LENGTHS.map((_, i) => ofSegment([parts[0][i], parts[1][i], parts[2][i], sinks], options)),
            0,
          ),
        );
      };
      const fused = (...[q, k, v, sinks]: Operands) => engine.attentionWithSinks(q, k, v, segments, options, sinks);
      const [found, expected] = [fused, plain].map((compute) => valueAndGradients(compute, operands, direction));
      for (const [i, name] of ['value', 'q', 'k', 'v', 'sinks'].entries())
        assertClose(found[i], expected[i], name === 'sinks' ? 5e-5 : 1e-5, name);
    }));

test("on tfjs's own CPU backend it is the same", async () => {
  const given = [32, 16, 16].map((width) => random([20, width]).dataSync<'float32'>());
  const output = (): Float32Array =>
    tf.tidy(() => {
      const [q, k, v] = given.map((data) => tf.tensor2d(data, [20, data.length / 20]));
      const options = { heads: 4, kvHeads: 2, scale: 0.4, window: 5 };
      return engine.attentionWithSinks(q, k, v, engine.makeSegments([12, 8]), options, tf.tensor1d([1, 0, -1, 2])).dataSync<'float32'>();
    });
  const here = output();
  await tf.setBackend('cpu');
  const there = output();
  await tf.setBackend('onnxruntime');
  for (const [i, value] of there.entries()) assert.ok(Math.abs(value - here[i]) < 2e-6, `element ${i}`);
});

for (const [sequences, added, window] of [
  [1, 1, undefined],
  [1, 3, undefined],
  [3, 1, 4],
] as const)
  test(`cachedAttention with sinks, ${sequences} sequences and ${added} new tokens${window ? ' in a window' : ''}, is that of plain operations`, () =>
    tf.tidy(() => {
      const options = { heads: 4, kvHeads: 2, scale: 0.4, window };
      const [q, k, v] = [4, 2, 2].map((heads) => two(random([sequences * added, heads * 8])));
      const cache = { keys: random([sequences, 2, 12, 8]) as tf.Tensor4D, values: random([sequences, 2, 12, 8]) as tf.Tensor4D };
      const lengths = tf.tensor1d([3, 7, 5].slice(0, sequences), 'int32');
      const sinks = tf.tensor1d([0.5, -1, 2, 0]);
      const { output } = engine.cachedAttention(q, k, v, cache, lengths, options, sinks);
      const expected = composed.cachedAttention(q, k, v, cache, lengths, options, sinks).output;
      const without = composed.cachedAttention(q, k, v, cache, lengths, options).output;
      assertClose(output, expected, 2e-6, 'output');
      assert.ok((tf.max(tf.abs(tf.sub(expected, without))).dataSync()[0] as number) > 0.05);
    }));
