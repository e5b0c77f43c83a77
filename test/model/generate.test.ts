import assert from 'node:assert/strict';
import * as path from 'node:path';
import { after, before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { type CausalLM, createModel, type GenerateOptions, generate, generateBatch, loadModel, streamText } from '../../lib/model';
import { DecodingState } from '../../lib/model/cache';
import type { Linear } from '../../lib/model/layers';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { families } from '../golden-families';
import { fixtures, logitsOf } from './support';

let model: CausalLM;
before(async () => {
  await useDevice('cpu');
  model = await loadModel(path.join(projectRoot, 'test/golden/gpt_neox/model'));
});
after(() => model.dispose());

const prompts = ['The river is long and', 'List three', 'Why do birds sing in the morning when it is still dark?'];
const sampled: GenerateOptions = { maxNewTokens: 16, temperature: 1, topK: 200, topP: 0.95, seed: 7, ignoreEos: true };

for (const family of families) {
  test(`${family}: the step of a token is recorded once and then repeated`, async () => {
    const counted = await loadModel(path.join(projectRoot, `test/golden/${family}/model`));
    let passes = 0;
    const forward = counted.forward.bind(counted);
    counted.forward = (pass) => {
      passes++;
      return forward(pass);
    };
    const [{ ids }] = await generateBatch(counted, [[5, 6, 7]], { maxNewTokens: 12, ignoreEos: true, promptLookup: false });
    assert.equal(ids.length, 12);
    assert.equal(passes, 2, 'one for the prompt, one for all tokens');
    counted.dispose();
  });
}

for (const [variant, change] of [
  ['qwen3_5', { linear_conv_kernel_dim: 1 }],
  ['granitemoehybrid-mamba', { mamba_d_conv: 1 }],
  ['lfm2', { conv_L_cache: 1 }],
] as const) {
  test(`${variant}, whose convolutions read no other token: the text is the one that is read whole each time`, async () => {
    const { config, tokenizer } = await loadModel(path.join(fixtures, variant));
    const model = createModel({ ...config.raw, ...change }, { seed: 1, tokenizer });
    const ids = [5, 9, 30];
    const [found] = await generateBatch(model, [ids], { maxNewTokens: 5, ignoreEos: true });
    for (const id of found.ids) {
      const last = (await logitsOf(model, ids))[ids.length - 1];
      assert.equal(id, last.indexOf(Math.max(...last)));
      ids.push(id);
    }
    model.dispose();
  });
}

test('what happens to the model between two tokens counts from the next on', async () => {
  const changed = await loadModel(path.join(projectRoot, 'test/golden/llama/model'));
  const [name] = changed.linears.keys();
  const linear = changed.linears.get(name) as Linear;
  const held: tf.Tensor[] = [];
  const noise = tf.randomUniform(linear.weight.value.shape, -1, 1, 'float32', 3);
  const changes: Record<string, () => void> = {
    nothing: () => {},
    adapter: () => {
      linear.adapter = (_x, y) => tf.neg(y);
    },
    'an adapter less': () => {
      linear.adapter = undefined;
    },
    assignment: () => {
      const copy = linear.weight.value.clone();
      linear.weight.value.assign(noise as tf.Tensor2D);
      copy.dispose();
    },
    'assignment while a copy is held': () => {
      held.push(linear.weight.value.clone());
      const other = tf.tidy(() => tf.mul(noise, -2));
      linear.weight.value.assign(other as tf.Tensor2D);
      other.dispose();
    },
  };
  for (const [what, change] of Object.entries(changes)) {
    const state = DecodingState.prefill(changed, [[5, 6, 7]], 64);
    await state.nextLogits();
    state.append([[8]]);
    const before = (await state.nextLogits()).slice();
    state.forget(1);
    tf.engine().startScope();
    change();
    state.append([[8]]);
    const after = (await state.nextLogits()).slice();
    tf.engine().endScope();
    state.forget(1);
    state.append([[8]]);
    assert.deepEqual(await state.nextLogits(), after, `${what}: the same step again`);
    state.dispose();
    assert.equal(
      before.every((value, i) => value === after[i]),
      what === 'nothing',
      what,
    );
  }
  tf.dispose([noise, ...held]);
  changed.dispose();
});

test('the same seed gives the same text, another seed another', async () => {
  const text = await generate(model, prompts[0], sampled);
  assert.equal(await generate(model, prompts[0], sampled), text);
  assert.notEqual(await generate(model, prompts[0], { ...sampled, seed: 8 }), text);
});

test('without a seed equal prompts go on differently, also beside each other', async () => {
  const texts = await generate(model, [prompts[0], prompts[0], prompts[0]], { ...sampled, seed: undefined, temperature: 2 });
  assert.ok(new Set(texts).size > 1, texts[0]);
});

test('a prompt gets the same text in a batch as alone, sampled and greedy, with a preface that the batch shares and without', async () => {
  for (const preface of ['', 'Here is an instruction. Answer it in one short sentence, as well as you can.\n\n']) {
    const texts = prompts.map((prompt) => `${preface}${prompt}`);
    for (const options of [sampled, { maxNewTokens: 16 }]) {
      const together = await generate(model, texts, options);
      for (const [i, text] of texts.entries()) assert.equal(await generate(model, text, options), together[i]);
    }
  }
});

test('streamed pieces join to the whole text', async () => {
  const whole = await generate(model, prompts[0], sampled);
  const pieces: string[] = [];
  for await (const piece of streamText(model, prompts[0], sampled)) pieces.push(piece);
  assert.ok(pieces.length > 3);
  assert.equal(pieces.join(''), whole);
  const byPrompt = prompts.map(() => '');
  const texts = await generate(model, prompts, {
    ...sampled,
    onToken: (piece, i) => {
      byPrompt[i] += piece;
    },
  });
  assert.deepEqual(byPrompt, texts);
});

test('generation ends at an end-of-text token, which is not in the answer', async () => {
  const [free] = await generateBatch(model, [prompts[0]], sampled);
  const end = free.ids[5];
  const ending = { ...model, tokenizer: { ...model.tokenizer, stopIds: [end] } };
  const stubborn = new Proxy(model, { get: (target, key) => (key === 'tokenizer' ? ending.tokenizer : Reflect.get(target, key)) });
  const [result] = await generateBatch(stubborn, [prompts[0]], { ...sampled, ignoreEos: false });
  assert.equal(result.finish, 'eos');
  assert.deepEqual(result.ids, free.ids.slice(0, free.ids.indexOf(end)));
  assert.ok(free.text.startsWith(result.text));
});

test('a stop string ends the text before it; prompts that go on are not disturbed', async () => {
  const free = await generateBatch(model, prompts, sampled);
  const stop = free[0].text.slice(10, 14);
  const results = await generateBatch(model, prompts, { ...sampled, stop });
  assert.equal(results[0].finish, 'stop');
  assert.equal(results[0].text, free[0].text.slice(0, free[0].text.indexOf(stop)));
  for (const i of [1, 2]) if (!free[i].text.includes(stop)) assert.deepEqual(results[i], free[i]);
});

test('a repetition penalty breaks the loop of a greedy continuation', async () => {
  const [looping] = await generateBatch(model, [prompts[0]], { maxNewTokens: 24, ignoreEos: true });
  const [varied] = await generateBatch(model, [prompts[0]], { maxNewTokens: 24, ignoreEos: true, repetitionPenalty: 1.5 });
  assert.ok(new Set(varied.ids).size > new Set(looping.ids).size);
});

test('a text may fill the positions of the model exactly, and no more', async () => {
  const limit = model.config.positionLimit;
  const prompt = new Array<number>(limit - 3).fill(40);
  const [full] = await generateBatch(model, [prompt], { ignoreEos: true });
  assert.equal(full.ids.length, 4);
  await assert.rejects(generateBatch(model, [prompt], { maxNewTokens: 5 }), {
    name: 'UserError',
    message: /509 tokens and maxNewTokens 5 exceed the 512/,
  });
  await assert.rejects(generateBatch(model, [new Array<number>(limit + 1).fill(40)]), {
    name: 'UserError',
    message: /513 tokens is longer than the 512/,
  });
});

test('options out of range are refused by name, value and range', async () => {
  const cases: [GenerateOptions, RegExp][] = [
    [{ maxNewTokens: 0 }, /maxNewTokens is 0; expected a whole number of at least 1/],
    [{ temperature: -1 }, /temperature is -1/],
    [{ topK: 1.5 }, /topK is 1.5/],
    [{ topP: 1.1 }, /topP is 1.1; expected a number above 0 and at most 1/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty is 0/],
    [{ stop: [''] }, /stop is \[""\]/],
    [{ seed: Number.NaN }, /seed is NaN; expected a number/],
    [{ draft: 'yes' as never }, /draft is "yes"; expected true or false/],
    [{ promptLookup: 10 as never }, /promptLookup is 10; expected true or false/],
    [{ onToken: 'print' as never }, /onToken is "print"; expected a function/],
  ];
  for (const [options, message] of cases) await assert.rejects(generate(model, 'x', options), { name: 'UserError', message });
});

test('a prompt that begins with BOS, as a chat template writes it, gets no second one', async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/text/sentencepiece'));
  const llama = Object.assign(await loadModel(path.join(projectRoot, 'test/golden/llama/model')), { tokenizer });
  const ids = [tokenizer.bosId ?? -1, ...tokenizer.encode('Go')];
  assert.deepEqual(tokenizer.encode('Go', { addSpecialTokens: true }), ids);
  const answers = await generateBatch(llama, ['Go', '<s>Go', ids], { maxNewTokens: 8 });
  assert.deepEqual(answers, Array(3).fill(answers[0]));
  llama.dispose();
});

test('an empty prompt begins with the BOS token, no prompts give no answers', async () => {
  assert.deepEqual(
    await generate(model, '', { maxNewTokens: 4, ignoreEos: true }),
    (await generateBatch(model, [[0]], { maxNewTokens: 4, ignoreEos: true }))[0].text,
  );
  assert.deepEqual(await generate(model, []), []);
});

test('generation leaves no tensor behind, also when the reader stops in the middle', async () => {
  await generate(model, prompts, { maxNewTokens: 3 });
  const tensors = tf.memory().numTensors;
  await generate(model, prompts, { maxNewTokens: 5 });
  for await (const piece of streamText(model, prompts[0], { maxNewTokens: 20, ignoreEos: true })) if (piece) break;
  const angry = () => {
    throw new Error('enough');
  };
  await assert.rejects(generate(model, prompts[0], { onToken: angry }), /enough/);
  assert.equal(tf.memory().numTensors, tensors);
});

test('dynamic RoPE: prompts continued together give the ids of each alone, though a longer text stretches its positions', async () => {
  const stretching = await loadModel(path.join(projectRoot, 'test/model/fixtures/llama-dynamic'));
  const texts = [20, 45, 3].map((length) => Array.from({ length }, (_, i) => 2 + ((i * 7 + length) % 60)));
  for (const options of [{ maxNewTokens: 12 }, { maxNewTokens: 12, temperature: 1, seed: 3 }, { maxNewTokens: 1 }]) {
    const told = texts.map(() => '');
    const onToken = (piece: string, index: number): void => {
      told[index] += piece;
    };
    const together = await generateBatch(stretching, texts, { ...options, ignoreEos: true, onToken });
    for (const [i, text] of texts.entries()) {
      assert.deepEqual([together[i]], await generateBatch(stretching, [text], { ...options, ignoreEos: true }));
      assert.equal(told[i], together[i].text);
    }
  }
  stretching.dispose();
});

test('messages are written by the chat template, which puts its special tokens itself', async () => {
  const chat = await loadModel(path.join(projectRoot, 'data/base'));
  const { tokenizer } = chat;
  const says = (...contents: string[]) => contents.map((content, i) => ({ role: i % 2 === 0 ? 'user' : 'assistant', content }));
  const conversations = [says('Name the capital of France.'), says('What is 2 plus 2?', '4', 'And 3 plus 2?')];
  const written = conversations.map((messages) => tokenizer.encode(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })));
  const options = { maxNewTokens: 8 };
  const expected = (await generateBatch(chat, written, options)).map(({ text }) => text);
  assert.deepEqual(await generate(chat, conversations, options), expected);
  assert.equal(await generate(chat, conversations[1], options), expected[1]);
  assert.equal((await generateBatch(chat, [conversations[0], 'One'], options))[0].text, expected[0]);
  let streamed = '';
  for await (const piece of streamText(chat, conversations[0], options)) streamed += piece;
  assert.equal(streamed, expected[0]);
  await assert.rejects(generate(model, conversations[0]), /no chat template, so conversations cannot be written for it/);
  chat.dispose();
});
