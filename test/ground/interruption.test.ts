import assert from 'node:assert/strict';
import * as path from 'node:path';
import { afterEach, before, beforeEach, describe, type TestContext, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { exactMatch, perplexity } from '../../lib/evaluate';
import { Interrupted, Interruption } from '../../lib/interruption';
import { generate, loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { SFTTrainer, type TrainerCallback } from '../../lib/train';

const rows = Array.from({ length: 20 }, (_, i) => ({ instruction: `Count to ${i}.`, output: 'One, two, three.' }));
const config = { maxSteps: 6, perDeviceTrainBatchSize: 2, loggingSteps: 1, disableTqdm: true, tokensPerMicroBatch: 1 };
const global = globalThis as { __tslab__?: unknown };

before(async () => {
  await useDevice('cpu');
});

async function tinyModel(t: TestContext) {
  const model = await loadModel(path.join(projectRoot, 'test/golden/llama/model'));
  t.after(() => model.dispose());
  return model;
}

const press = () => process.emit('SIGINT');

describe('the stop button of a notebook', () => {
  beforeEach(() => {
    global.__tslab__ = { require: () => ({ newDisplay: () => ({ text() {} }) }) };
  });
  afterEach(() => {
    delete global.__tslab__;
  });

  test('ends what has begun, and nothing that begins later', async () => {
    const early = new Interruption();
    await early.breathe();
    setImmediate(press);
    await assert.rejects(early.breathe(), Interrupted);
    await new Interruption().breathe();
  });

  test('is listened to once, however much work there is', async () => {
    await new Interruption().breathe();
    const listeners = process.listenerCount('SIGINT');
    assert.ok(listeners > 0);
    await new Interruption().breathe();
    assert.equal(process.listenerCount('SIGINT'), listeners);
  });

  test('ends generation at a token, and leaves no tensor behind', async (t) => {
    const model = await tinyModel(t);
    await generate(model, 'One', { maxNewTokens: 8, ignoreEos: true });
    const before = tf.memory().numTensors;
    let pieces = 0;
    const onToken = () => {
      if (++pieces === 3) setImmediate(press);
    };
    await assert.rejects(generate(model, 'One', { maxNewTokens: 200, ignoreEos: true, promptLookup: false, onToken }), Interrupted);
    assert.ok(pieces < 10, `${pieces} pieces`);
    assert.equal(tf.memory().numTensors, before);
    assert.equal(typeof (await generate(model, 'One', { maxNewTokens: 2 })), 'string');
  });

  test('ends answers and scores', async (t) => {
    const model = await tinyModel(t);
    setImmediate(press);
    await assert.rejects(exactMatch(model, rows, { maxNewTokens: 50 }), Interrupted);
    setImmediate(press);
    await assert.rejects(perplexity(model, rows, { tokensPerMicroBatch: 1 }), Interrupted);
  });

  test('stops a run in good order and then ends the cell, with model and log usable', async (t) => {
    const told: boolean[] = [];
    const callback: TrainerCallback = {
      onStepEnd: ({ step }) => void (step === 3 && setImmediate(press)),
      onTrainEnd: (_, { stopped }) => void told.push(stopped),
    };
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows, config, callbacks: [callback] });
    await assert.rejects(trainer.train(), Interrupted);
    assert.deepEqual(told, [true]);
    assert.deepEqual(
      trainer.log.map(({ step }) => step),
      [1, 2, 3],
    );
    assert.equal((await trainer.train().catch((error) => error)) instanceof Interrupted, true, 'the callback presses again');
    assert.ok(Number.isFinite((await perplexity(trainer.model, rows.slice(0, 2))).loss));
  });
});

test('outside of notebooks nobody listens, and work ends when it is asked to', async () => {
  const listeners = process.listenerCount('SIGINT');
  const work = new Interruption();
  assert.equal(process.listenerCount('SIGINT'), listeners);
  work.request();
  assert.ok(work.came && !work.wasPressed);
  await assert.rejects(work.breathe(), Interrupted);
});
