/** Layers whose tokens read their nearest neighbours (LFM2): each those of its own text, in packed rows and in caches. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { makeSegments, useDevice } from '../../lib/engine';
import { type CausalLM, createModel, disposeBatch, loadModel, makeBatch, placeOf, sharedPrefixes } from '../../lib/model';
import { DecodingState } from '../../lib/model/cache';
import { projectRoot } from '../../lib/project';
import { createRandom, type Random } from '../../lib/random';
import { closeTo, fixtures, logitsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

const idsBy = (random: Random, length: number): number[] => Array.from({ length }, () => 2 + random.int(60));

/** Texts by chance, some of which begin alike. */
function textsBy(random: Random): number[][] {
  const prompts = [idsBy(random, 8 + random.int(6)), [], []];
  return Array.from({ length: 2 + random.int(5) }, () => [...prompts[random.int(3)], ...idsBy(random, 1 + random.int(9))]);
}

describe('predecessors in a packed row', () => {
  test('are those of the token in its own sequence, where it begins like another one, too', () => {
    const random = createRandom(5);
    for (let round = 0; round < 100; round++) {
      const sequences = textsBy(random);
      const prefixes = sharedPrefixes(sequences);
      const batch = makeBatch(sequences, prefixes);
      for (const by of [1, 2, 3, 9]) {
        const places = batch.segments.before(by).arraySync();
        for (const [index, { length }] of sequences.entries())
          for (let token = prefixes[index]?.tokens ?? 0; token < length; token++) {
            const expected = token >= by ? placeOf(batch, index, token - by) : -1;
            assert.equal(places[placeOf(batch, index, token)], expected);
          }
      }
      disposeBatch(batch);
    }
  });

  test('are let go of with the row', () => {
    const held = tf.memory().numTensors;
    const segments = makeSegments([3, 4]);
    assert.equal(segments.before(1), segments.before(1));
    segments.before(2);
    segments.dispose();
    assert.equal(tf.memory().numTensors, held);
  });
});

/** A sum of squares of the logits at some places, and its gradients by parameter. */
async function gradientsOf(model: CausalLM, sequences: number[][], shares: boolean): Promise<Map<string, Float32Array>> {
  const batch = makeBatch(sequences, shares ? sharedPrefixes(sequences) : []);
  const places = tf.tensor1d(
    sequences.flatMap(({ length }, i) => Array.from({ length }, (_, token) => placeOf(batch, i, token))),
    'int32',
  );
  const { value, grads } = tf.variableGrads(() => {
    const logits = tf.matMul(model.hiddenStates(batch, places), model.outputHead, false, true);
    return tf.sum(tf.square(logits));
  }, [...model.parameters.values()]);
  const found = new Map<string, Float32Array>();
  for (const [name, variable] of model.parameters) found.set(name, (await grads[variable.name].data()) as Float32Array);
  tf.dispose([value, places, ...Object.values(grads)]);
  disposeBatch(batch);
  return found;
}

test('gradients of a packed row are the sums of those of each text alone, where texts begin alike, too', async (t) => {
  const model = await loadModel(path.join(fixtures, 'lfm2'));
  t.after(() => model.dispose());
  const random = createRandom(9);
  for (let round = 0; round < 3; round++) {
    const prompt = idsBy(random, 12);
    const sequences = [
      [...prompt, 5],
      [...prompt, ...idsBy(random, 4)],
      idsBy(random, 3),
      [...prompt, ...idsBy(random, 2)],
      idsBy(random, 1),
    ];
    const alone = await Promise.all(sequences.map((sequence) => gradientsOf(model, [sequence], false)));
    for (const shares of [false, true])
      for (const [name, gradient] of await gradientsOf(model, sequences, shares)) {
        const expected = gradient.map((_, i) => alone.reduce((sum, of) => sum + (of.get(name) as Float32Array)[i], 0));
        const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        assert.ok(largest > 0, name);
        closeTo(gradient, expected, 2e-5 * largest);
      }
  }
});

/** Adds and takes back tokens of several texts by chance; the logits must be those of the whole texts. */
async function checkDecoding(model: CausalLM, random: Random, tolerance: number): Promise<void> {
  const batch = 1 + random.int(3);
  const preface = idsBy(random, random.int(2) * 9);
  const texts = Array.from({ length: batch }, () => [...preface, ...idsBy(random, 1 + random.int(5))]);
  const state = DecodingState.prefill(model, texts, 32);
  const prompt = Math.min(...texts.map(({ length }) => length));
  let added = 1;
  for (let step = 0; step < 6; step++) {
    const logits = await state.nextLogits();
    const vocabulary = logits.length / (batch * added);
    for (const [i, text] of texts.entries())
      for (let k = 0; k < added; k++) {
        const row = (i * added + k) * vocabulary;
        closeTo(logits.subarray(row, row + vocabulary), (await logitsOf(model, text)).at(k - added) as number[], tolerance);
      }
    const forgotten = random.int(Math.min(4, Math.min(...texts.map(({ length }) => length)) - prompt + 1));
    state.forget(forgotten);
    added = 1 + random.int(3);
    const fresh = texts.map(() => idsBy(random, added));
    for (const [i, text] of texts.entries()) text.splice(text.length - forgotten, forgotten, ...fresh[i]);
    state.append(fresh);
  }
  state.dispose();
}

for (const variant of ['lfm2', 'lfm2-old-keys']) {
  test(`${variant}: logits from a cache are those of the whole texts, for several texts, several tokens at once, and after forgetting`, async (t) => {
    const model = await loadModel(path.join(fixtures, variant));
    t.after(() => model.dispose());
    const random = createRandom(13);
    for (let round = 0; round < 8; round++) await checkDecoding(model, random, 2e-5);
  });
}

test("on tfjs's own backend rows and caches are the same", async (t) => {
  const model = await loadModel(path.join(fixtures, 'lfm2'));
  const sequence = idsBy(createRandom(3), 9);
  const expected = await logitsOf(model, sequence);
  await tf.setBackend('cpu');
  t.after(async () => {
    model.dispose();
    await useDevice('cpu');
  });
  closeTo((await logitsOf(model, sequence)).flat(), expected.flat(), 2e-5);
  await checkDecoding(model, createRandom(17), 2e-5);
});

test('a text shorter than the convolution, and one that only reads its own tokens', async (t) => {
  const { tokenizer } = await loadModel(path.join(projectRoot, 'test/golden/lfm2/model'));
  const config = { ...{ model_type: 'lfm2', vocab_size: 64, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2 } };
  for (const conv_L_cache of [1, 7]) {
    const made = { ...config, num_key_value_heads: 1, intermediate_size: 24, block_multiple_of: 8, initializer_range: 0.5, conv_L_cache };
    const model = createModel({ ...made, layer_types: ['conv', 'full_attention'] }, { seed: 1, tokenizer });
    t.after(() => model.dispose());
    const random = createRandom(23);
    for (let round = 0; round < 3; round++) await checkDecoding(model, random, 1e-4);
    assert.ok([...(await gradientsOf(model, [[5, 6], [7]], false)).values()].every((gradient) => gradient.some((value) => value !== 0)));
  }
});
