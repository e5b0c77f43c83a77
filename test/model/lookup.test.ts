import assert from 'node:assert/strict';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import { engineStatistics, useDevice } from '../../lib/engine';
import { type CausalLM, type GenerateOptions, type Generation, generateBatch, loadModel } from '../../lib/model';
import { PromptLookup } from '../../lib/model/lookup';
import { projectRoot } from '../../lib/project';

let model: CausalLM;
before(async () => {
  await useDevice('cpu');
  model = await loadModel(path.join(projectRoot, 'test/golden/llama/model'));
});
after(() => model.dispose());

const guess = (ids: number[], most = 4): number[] => new PromptLookup().guess(ids, most);

test('a guess is how the text went on at the latest earlier place that was the same', () => {
  assert.deepEqual(guess([1, 2, 3, 4, 5, 6, 1, 2]), [3, 4, 5, 6]);
  assert.deepEqual(guess([1, 2, 3, 9, 1, 2, 4, 9, 1, 2], 1), [4], 'the latest of two places');
  assert.deepEqual(guess([7, 1, 2, 5, 8, 1, 2, 6, 7, 1, 2], 1), [5], 'the longer match before the later one');
});

test('a repetition that has begun is continued', () => {
  assert.deepEqual(guess([5, 8, 8, 8]), [8, 8, 8, 8]);
  assert.deepEqual(guess([1, 2, 3, 1, 2, 3, 1, 2, 3], 5), [1, 2, 3, 1, 2]);
});

test('there is no guess where nothing is repeated, or one token only', () => {
  assert.deepEqual(guess([]), []);
  assert.deepEqual(guess([1]), []);
  assert.deepEqual(guess([1, 2, 3, 4]), []);
  assert.deepEqual(guess([1, 2, 3, 1]), []);
});

test('guesses that turn out wrong are no longer offered, until they would have been right again', () => {
  const lookup = new PromptLookup();
  // each pair has been before, but goes on in another way
  const text = [1, 2, 3, 1, 2];
  assert.deepEqual(lookup.guess(text, 1), [3]);
  text.push(4, 1, 2);
  assert.deepEqual(lookup.guess(text, 1), [], 'the first guess was wrong');
  for (let i = 0; i < 4; i++) {
    text.push(4, 1, 2);
    lookup.guess(text, 1);
  }
  assert.deepEqual(lookup.guess([...text, 4], 1), [1]);
});

const prompts = ['The river is long and', 'one two three one two three one two', 'Say it again: the cat sat on the mat. The cat sat'];

/** The answers with guesses and without, and the model's runs for each. */
async function bothWays(prompt: string, options: GenerateOptions): Promise<{ results: Generation[]; runs: number[] }> {
  const results: Generation[] = [];
  const runs: number[] = [];
  for (const promptLookup of [false, true]) {
    const before = engineStatistics()?.runs ?? 0;
    results.push(...(await generateBatch(model, [prompt], { ...options, promptLookup })));
    runs.push((engineStatistics()?.runs ?? 0) - before);
  }
  return { results, runs };
}

test('with guesses the answer is the same, greedy, sampled, penalized, of every length', async () => {
  const ways: GenerateOptions[] = [
    { maxNewTokens: 40, ignoreEos: true },
    ...[1, 2, 3, 7].map((maxNewTokens) => ({ maxNewTokens, ignoreEos: true })),
    { maxNewTokens: 40, ignoreEos: true, repetitionPenalty: 1.1 },
    { maxNewTokens: 40, temperature: 0.3, seed: 1 },
    { maxNewTokens: 40, temperature: 1, topK: 3, seed: 2 },
  ];
  for (const prompt of prompts) {
    for (const options of ways) {
      const { results } = await bothWays(prompt, options);
      assert.deepEqual(results[1], results[0], `${prompt} ${JSON.stringify(options)}`);
    }
  }
});

test('a text that repeats itself needs far fewer runs of the model', async () => {
  const { results, runs } = await bothWays(prompts[0], { maxNewTokens: 60, ignoreEos: true });
  assert.ok(new Set(results[0].ids).size < 20, 'the text repeats itself');
  assert.ok(runs[1] < 0.6 * runs[0], `${runs[1]} runs instead of ${runs[0]}`);
});

test('a text that ends within a guess ends there', async () => {
  const { results } = await bothWays(prompts[0], { maxNewTokens: 60, ignoreEos: true });
  const last = results[0].text.slice(-12, -8);
  const stopped = await bothWays(prompts[0], { maxNewTokens: 60, ignoreEos: true, stop: last });
  assert.equal(stopped.results[0].finish, 'stop');
  assert.deepEqual(stopped.results[1], stopped.results[0]);
});

test('a model whose positions stretch with the length of the text makes no guesses, which would stretch them', async () => {
  const stretching = await loadModel(path.join(projectRoot, 'test/model/fixtures/llama-dynamic'));
  const { maxPositionEmbeddings } = stretching.config;
  const prompt = Array.from({ length: maxPositionEmbeddings - 4 }, (_, i) => 5 + (i % 3));
  const runs: number[] = [];
  const texts: Generation[][] = [];
  for (const promptLookup of [false, true]) {
    const before = engineStatistics()?.runs ?? 0;
    texts.push(await generateBatch(stretching, [prompt], { maxNewTokens: 20, ignoreEos: true, promptLookup }));
    runs.push((engineStatistics()?.runs ?? 0) - before);
  }
  assert.deepEqual(texts[1], texts[0]);
  assert.ok(runs[1] >= 20, `${runs[1]} runs for 20 tokens`);
  stretching.dispose();
});

test('guesses never read beyond the positions of the model', async () => {
  const limit = model.config.positionLimit;
  const prompt = Array.from({ length: limit - 7 }, (_, i) => 40 + (i % 3));
  const [result] = await generateBatch(model, [prompt], { ignoreEos: true });
  const [plain] = await generateBatch(model, [prompt], { ignoreEos: true, promptLookup: false });
  assert.equal(result.ids.length, 8);
  assert.deepEqual(result, plain);
});
