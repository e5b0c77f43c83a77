/** Hidden states of some tokens only: what nobody reads of the last layer is left out, and changes nothing. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { embedding, useDevice } from '../../lib/engine';
import { type CausalLM, disposeBatch, loadModel, makeBatch, type TokenBatch } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { families } from '../golden-families';
import { closeTo, fixtures } from './support';

before(async () => {
  await useDevice('cpu');
});

/**
 * The mean of the states, each times a number of its own, and its gradients by parameter. (The sum of their squares would be no use: the
 * final normalization keeps it what it is.)
 */
async function weightedMean(model: CausalLM, hiddenStates: () => tf.Tensor2D) {
  const parameters = [...model.parameters.values()].filter(({ trainable }) => trainable);
  const { value, grads } = tf.variableGrads(() => {
    const states = hiddenStates();
    return tf.mean(tf.mul(states, tf.randomNormal(states.shape, 0, 10, 'float32', 5)));
  }, parameters);
  const found = new Map<string, Float32Array>();
  for (const [name, gradient] of [['value', value] as const, ...Object.entries(grads)])
    found.set(name, (await gradient.data()) as Float32Array);
  tf.dispose([value, grads]);
  return found;
}

async function statesOf(compute: () => tf.Tensor2D): Promise<Float32Array> {
  const states = compute();
  const data = (await states.data()) as Float32Array;
  states.dispose();
  return data;
}

const models = [
  ...families.map((family) => path.join(projectRoot, 'test', 'golden', family, 'model')),
  ...['mistral', 'qwen2-window', 'opt-350m', 'lfm2', 'qwen3_5', 'granitemoehybrid-mamba'].map((variant) => path.join(fixtures, variant)),
];
for (const folder of models) {
  test(`${path.relative(projectRoot, folder)}: states of some tokens, and their gradients, are those of all tokens there`, async (t) => {
    const model = await loadModel(folder);
    const sequences = [9, 4, 13].map((length, i) => Array.from({ length }, (_, k) => (31 * i + 7 * k) % model.config.vocabSize));
    const batch: TokenBatch = makeBatch(sequences);
    // out of order, and one of them twice
    const places = tf.tensor1d([3, 25, 8, 9, 12, 14, 3], 'int32');
    t.after(() => {
      places.dispose();
      disposeBatch(batch);
      model.dispose();
    });
    const some = (): tf.Tensor2D => model.hiddenStates(batch, places);
    const ofAll = (): tf.Tensor2D => tf.tidy(() => embedding(model.hiddenStates(batch), places));
    const [found, expected] = [await statesOf(some), await statesOf(ofAll)];
    assert.ok(expected.some((value) => Math.abs(value) > 0.1));
    closeTo(found, expected, 2e-5);
    const [foundGradients, expectedGradients] = [await weightedMean(model, some), await weightedMean(model, ofAll)];
    assert.deepEqual([...foundGradients.keys()].sort(), [...expectedGradients.keys()].sort());
    const largest = (x: Float32Array): number => x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const sizes = [...expectedGradients.values()].map(largest);
    const tolerance = 1e-5 * Math.max(...sizes);
    // most parameters matter by much more than that; biases of keys never do
    assert.ok(sizes.filter((size) => size > 100 * tolerance).length > 0.6 * sizes.length, `${sizes}`);
    for (const [name, gradient] of expectedGradients) closeTo(foundGradients.get(name) as Float32Array, gradient, tolerance);
  });
}
