/** Models with weights in 4 bits compute as with the rounded weights, and say what they cannot do; beside them an adapter is trained. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { disposeNormalFloat, fitsNormalFloat, fromNormalFloat, normalFloatMatrix, releaseMemory, useDevice } from '../../lib/engine';
import { addAdapter, type CausalLM, exportModel, generate, mergeAdapter, saveModel } from '../../lib/model';
import { SFTTrainer } from '../../lib/train';
import { families } from '../golden-families';
import { golden, goldenIds, loaded, rows, short, temporaryFolder, tinyModel } from '../train/support';
import { closeTo, logitsOf } from './support';

before(() => useDevice('cpu'));

const inFourBits = (t: TestContext, folder = path.join(golden, 'llama', 'model')): Promise<CausalLM> =>
  loaded(t, folder, { loadIn4bit: true });

/** Rounds the weights of a model's linear layers where they are. */
function round({ linears }: CausalLM): void {
  for (const { weight } of linears.values()) {
    assert.ok(fitsNormalFloat(weight.shape));
    const matrix = normalFloatMatrix(weight.value.dataSync<'float32'>(), weight.shape);
    tf.tidy(() => weight.value.assign(fromNormalFloat(matrix)));
    disposeNormalFloat(matrix);
  }
}

for (const family of families) {
  test(`${family}: logits and texts are those of the rounded weights`, async (t) => {
    const [rounded, exact] = [await inFourBits(t, path.join(golden, family, 'model')), await tinyModel(t, family)];
    const ids = goldenIds(family).slice(0, 40);
    const unrounded = await logitsOf(exact, ids);
    round(exact);
    const expected = await logitsOf(exact, ids);
    assert.notDeepEqual(expected, unrounded);
    const found = await logitsOf(rounded, ids);
    for (const [i, row] of expected.entries()) closeTo(found[i], row, 1e-4);
    const settings = { maxNewTokens: 12 };
    const texts = await Promise.all([rounded, exact].map((model) => generate(model, 'Once upon a time', settings)));
    assert.equal(texts[0], texts[1]);
  });
}

test('what it holds goes with it, and a notebook says what it is', async (t) => {
  const [model, exact] = [await inFourBits(t), await tinyModel(t)];
  assert.equal(model.numParameters, exact.numParameters);
  const before = tf.memory();
  assert.match(inspect(model), /parameters in 4 bits, 2 layers/);
  assert.equal(before.numTensors > 0, true);
  model.dispose();
  const linears = [...model.linears.values()];
  assert.ok(linears.every(({ weight }) => weight.compact === undefined));
  assert.ok(tf.memory().numTensors <= before.numTensors - 3 * linears.length);
  releaseMemory();
});

test('a scope that is open while it is loaded does not take its weights along', async (t) => {
  tf.engine().startScope();
  const model = await inFourBits(t);
  tf.engine().endScope();
  const ids = goldenIds('llama').slice(0, 10);
  assert.deepEqual(await logitsOf(model, ids), await logitsOf(await inFourBits(t), ids));
});

describe('what needs the weights themselves is refused', () => {
  test('without an adapter', async (t) => {
    const model = await inFourBits(t);
    const folder = path.join(temporaryFolder(t), 'out');
    await assert.rejects(saveModel(model, folder), /was loaded in 4 bits, so it cannot be saved as a whole; load it without loadIn4bit\./);
    await assert.rejects(exportModel(model, folder), /in 4 bits, so it cannot be exported/);
    assert.throws(
      () => new SFTTrainer({ model, trainDataset: rows, config: short }),
      /so it is not trained itself; train an adapter beside it/,
    );
    assert.throws(
      () => addAdapter(model, { modulesToSave: ['1.mlp'] }, { seed: 1 }),
      /mean model\.layers\.1\.mlp\.gate_proj, whose weights/,
    );
    assert.ok(!existsSync(folder));
  });

  test('with one', async (t) => {
    const model = await inFourBits(t);
    addAdapter(model, {}, { seed: 1 });
    assert.throws(() => mergeAdapter(model), /so it has no weights that an adapter could be added to; save its adapter, and load/);
    assert.ok(model.adapter);
  });
});

test('an adapter that is trained beside it is saved, continued as without interruption, and merged with the exact weights', async (t) => {
  const folder = temporaryFolder(t);
  const peftConfig = { r: 4, targetModules: 'all-linear', loraDropout: 0.1 };
  const run = async (
    name: string,
    { upTo, resume, exact }: { upTo?: number; resume?: string; exact?: boolean } = {},
  ): Promise<number[]> => {
    const outputDir = path.join(folder, name);
    const model = exact ? await tinyModel(t) : await inFourBits(t);
    const config = { ...short, outputDir, saveSteps: 3, saveStrategy: 'steps' as const };
    const stop = {
      onStepEnd: ({ step }: { step: number }): void => {
        if (step === upTo) trainer.stop();
      },
    };
    const trainer: SFTTrainer = new SFTTrainer({ model, trainDataset: rows, peftConfig, config, callbacks: [stop] });
    await trainer.train({ resumeFromCheckpoint: resume });
    if (upTo === undefined) await trainer.saveModel(outputDir);
    return trainer.log.map(({ loss }) => loss ?? 0);
  };
  const whole = await run('whole');
  await run('parts', { upTo: 3 });
  const resumed = { resume: path.join(folder, 'parts', 'checkpoint-3') };
  await assert.rejects(
    run('parts', { ...resumed, exact: true }),
    /load_in_4bit is null, but .*checkpoint-3 was written with true; continue/,
  );
  assert.deepEqual(await run('parts', resumed), whole);
  assert.ok(whole.every(Number.isFinite) && new Set(whole).size > 1);

  const exact = await loaded(t, path.join(folder, 'whole'));
  const ids = goldenIds('llama').slice(0, 20);
  const adapted = await logitsOf(exact, ids);
  mergeAdapter(exact);
  const merged = await logitsOf(exact, ids);
  for (const [i, row] of adapted.entries()) closeTo(merged[i], row, 1e-4);
  const again = await inFourBits(t, path.join(folder, 'whole'));
  assert.ok(again.adapter);
});
