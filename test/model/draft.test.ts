/** Guesses by the model's own weights in 8 bits: the same text, in fewer steps with the exact weights. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { canQuantize, ownedVariable, ownedZeros, useDevice } from '../../lib/engine';
import { type CausalLM, type GenerateOptions, generateBatch, loadModel, streamText } from '../../lib/model';
import { DecodingState } from '../../lib/model/cache';
import { Drafter } from '../../lib/model/draft';
import { projectRoot } from '../../lib/project';
import { families } from '../golden-families';

before(async () => {
  await useDevice('cpu');
});

const load = (family: string): Promise<CausalLM> => loadModel(path.join(projectRoot, `test/golden/${family}/model`));

/** Whether the processor has products in 8 bits. */
function canDraft(t: TestContext): boolean {
  const w = ownedZeros<tf.Rank.R2>([1, 32]);
  const can = canQuantize(w as tf.Tensor2D);
  w.dispose();
  if (!can) t.skip(`ONNX Runtime does not multiply in 8 bits on this ${process.arch} processor`);
  return can;
}

/** Ids of an answer, and how many steps were made with the exact and the quantized weights. */
async function answer(
  model: CausalLM,
  options: GenerateOptions,
): Promise<{ ids: number[]; text: string; exact: number; quantized: number }> {
  const steps = { exact: 0, quantized: 0 };
  const { append } = DecodingState.prototype;
  DecodingState.prototype.append = function (tokens, weights = 'exact') {
    steps[weights]++;
    append.call(this, tokens, weights);
  };
  try {
    const prompt = [...'Say it'].map((_, i) => 40 + 3 * i);
    const [{ ids, text }] = await generateBatch(model, [prompt], { maxNewTokens: 40, ignoreEos: true, promptLookup: false, ...options });
    return { ids, text, ...steps };
  } finally {
    DecodingState.prototype.append = append;
  }
}

const WAYS: Record<string, GenerateOptions> = {
  greedy: {},
  sampled: { temperature: 0.7, topK: 40, topP: 0.95, seed: 4 },
  'with a repetition penalty': { repetitionPenalty: 1.3 },
};

/** How tokens are chosen is the same code for all families, which differ in what is cached: one with a cache of keys, one that keeps a state. */
const CHOSEN_OTHERWISE = ['llama', 'qwen3_5'];

for (const family of families) {
  for (const [way, options] of Object.entries(WAYS)) {
    if (way !== 'greedy' && !CHOSEN_OTHERWISE.includes(family)) continue;
    test(`${family}, ${way}: the same text in fewer steps`, async (t) => {
      if (!canDraft(t)) return;
      const model = await load(family);
      const plain = await answer(model, { ...options, draft: false });
      assert.deepEqual([plain.exact, plain.quantized], [39, 0]);
      const tensors = tf.memory().numTensors;
      const drafted = await answer(model, { ...options, draft: true });
      assert.equal(tf.memory().numTensors, tensors);
      assert.deepEqual(drafted.ids, plain.ids);
      // no guess can be taken back from a state
      if (model.config.keepsState) assert.deepEqual([drafted.exact, drafted.quantized], [39, 0]);
      else assert.ok(drafted.exact <= 20 && drafted.quantized > 0, JSON.stringify(drafted));
      model.dispose();
    });
  }
}

test('guesses follow the weights: trained ones, and layers that are adapted', async (t) => {
  if (!canDraft(t)) return;
  const model = await load('llama');
  await answer(model, { draft: true });
  const linear = [...model.linears.values()][3];
  const noise = tf.randomNormal(linear.weight.value.shape, 0, 0.3, 'float32', 8) as tf.Tensor2D;
  const changes: Array<() => void> = [
    () => linear.weight.value.assign(noise),
    () => {
      linear.adapter = (_x, y) => tf.mul(y, -1);
    },
    () => {
      linear.adapter = undefined;
    },
  ];
  for (const [i, change] of changes.entries()) {
    change();
    const plain = await answer(model, { draft: false });
    const drafted = await answer(model, { draft: true });
    assert.deepEqual(drafted.ids, plain.ids, `change ${i}`);
    assert.ok(drafted.exact <= 20, `change ${i}: ${drafted.exact} steps`);
  }
  noise.dispose();
  model.dispose();
});

test('a text may end among the guesses: at an end of text, at a stop string, at the last token, or because nobody reads on', async (t) => {
  if (!canDraft(t)) return;
  const model = await load('gpt_neox');
  const options = { temperature: 1, seed: 3 };
  const { ids, text } = await answer(model, { ...options, draft: false });
  const stop = text.slice(20, 23);
  const ending = new Proxy(model, {
    get: (target, key) => (key === 'tokenizer' ? { ...target.tokenizer, stopIds: [ids[9]] } : Reflect.get(target, key)),
  });
  for (const draft of [false, true]) {
    assert.deepEqual((await answer(ending, { ...options, draft, ignoreEos: false })).ids, ids.slice(0, ids.indexOf(ids[9])));
    assert.equal((await answer(model, { ...options, draft, stop })).text, text.slice(0, text.indexOf(stop)));
    for (const maxNewTokens of [1, 2, 3, 4]) {
      assert.deepEqual((await answer(model, { ...options, draft, maxNewTokens })).ids, ids.slice(0, maxNewTokens));
    }
  }
  const tensors = tf.memory().numTensors;
  for await (const piece of streamText(model, [40, 43], { ...options, draft: true, ignoreEos: true })) if (piece) break;
  assert.equal(tf.memory().numTensors, tensors);
  model.dispose();
});

test('a small model gets none by itself, and several prompts together get none at all', async (t) => {
  if (!canDraft(t)) return;
  const model = await load('llama');
  assert.equal(Drafter.for(model), undefined);
  assert.equal((await answer(model, { maxNewTokens: 200 })).quantized, 0);
  const [first, second] = await generateBatch(model, [[40], [50]], { maxNewTokens: 8, ignoreEos: true, draft: true });
  assert.equal(first.ids.length + second.ids.length, 16);
  model.dispose();
});

test('a large model gets them when it has read some dozens of tokens, pauses while they are wrong, and starts over with other weights', async (t) => {
  if (!canDraft(t)) return;
  const model = await load('llama');
  const head = ownedVariable<tf.Rank.R2>(new Float32Array(2 ** 26), [2 ** 21, 32]);
  const large = new Proxy(model, { get: (target, key) => (key === 'outputHead' ? head : Reflect.get(target, key)) });
  const drafter = (): Drafter => Drafter.for(large) as Drafter;
  const readOneByOne = (by: Drafter, tokens: number): void => {
    for (let i = 0; i < tokens; i++) by.learn([], 0);
  };
  const first = drafter();
  readOneByOne(first, 63);
  assert.equal(first.isWorthIt(1000), false);
  readOneByOne(first, 1);
  assert.equal(first.isWorthIt(186), true);
  assert.equal(first.isWorthIt(185), false, 'rounding would take longer than the rest');
  readOneByOne(drafter(), 185);
  assert.equal(first.isWorthIt(1), true, 'texts before it count');
  const state = { append: () => {}, nextLogits: async () => new Float32Array(1), forget: () => {} } as unknown as DecodingState;
  const guess = (): Promise<number[]> => first.guess(state, 1, 100, () => 2);
  assert.equal((await guess()).length, 6);
  assert.equal(drafter().isWorthIt(5), true, 'the weights have been rounded');
  const right = await guess();
  first.learn(right, right.length);
  assert.equal((await guess()).length, 8, 'more guesses after right ones');
  assert.equal((await drafter().guess(state, 1, 100, () => 2)).length, 8, 'in the next text, too');
  for (let i = 0; i < 2; i++) first.learn(await guess(), 0);
  assert.equal(first.isWorthIt(100), false, 'a pause after wrong ones');
  readOneByOne(first, 32);
  assert.equal(first.isWorthIt(100), true);
  assert.equal((await guess()).length, 2, 'few guesses after the pause');
  const other = tf.zeros<tf.Rank.R2>([2 ** 21, 32]);
  head.assign(other);
  assert.equal(drafter().isWorthIt(100), false);
  tf.dispose([head, other]);
  model.dispose();
});
