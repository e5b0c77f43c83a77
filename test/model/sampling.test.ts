import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { readJson } from '../../lib/files';
import { chooseToken, type SamplingOptions } from '../../lib/model/sampling';
import { createRandom } from '../../lib/random';
import { fixtures } from './support';

interface Case {
  options: SamplingOptions;
  logits: number[];
  seen: number[];
  probabilities: number[];
}

for (const { options, logits, seen, probabilities } of readJson(path.join(fixtures, 'sampling.json')) as Case[]) {
  test(`tokens are drawn as often as transformers would draw them with ${JSON.stringify(options)}`, () => {
    const random = createRandom(3);
    const draws = 20000;
    const counts = new Float64Array(logits.length);
    for (let i = 0; i < draws; i++) counts[chooseToken(Float32Array.from(logits), new Set(seen), options, random)]++;
    for (const [id, probability] of probabilities.entries()) {
      if (probability === 0) assert.equal(counts[id], 0, `token ${id} is excluded but was drawn`);
      // five standard deviations
      const slack = 5 * Math.sqrt((probability * (1 - probability)) / draws) + 1e-4;
      assert.ok(Math.abs(counts[id] / draws - probability) < slack, `token ${id}: ${counts[id] / draws} instead of ${probability}`);
    }
  });
}

test('temperature 0 takes the likeliest token, the first of equals', () => {
  const greedy = { temperature: 0, repetitionPenalty: 1 };
  assert.equal(chooseToken(Float32Array.from([0, 3, 3, -1]), [], greedy, createRandom(0)), 1);
});

test('the repetition penalty also acts on the greedy choice, on positive and negative logits', () => {
  const options = { temperature: 0, repetitionPenalty: 2 };
  assert.equal(chooseToken(Float32Array.from([1, 3, 2]), [1], options, createRandom(0)), 2);
  assert.equal(chooseToken(Float32Array.from([-3, -2, -9]), [1], options, createRandom(0)), 0);
});
