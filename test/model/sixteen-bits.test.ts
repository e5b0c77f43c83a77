/** Models whose weights are kept in 16 bits compute, to the last bit, what the same numbers in float32 do; beside them an adapter is trained. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { addAdapter, type CausalLM, exportGguf, generate, type LoadOptions, mergeAdapter, saveModel } from '../../lib/model';
import { SFTTrainer } from '../../lib/train';
import { golden, goldenIds, loaded, rows, short, temporaryFolder, tinyModel } from '../train/support';
import { logitsOf } from './support';

before(() => useDevice('cpu'));

/** A checkpoint of a family's tiny model in 16 bits. */
async function checkpoint(t: TestContext, family: string, dtype: 'bfloat16' | 'float16'): Promise<string> {
  const folder = path.join(temporaryFolder(t), `${family}-${dtype}`);
  await saveModel(await tinyModel(t, family), folder, { dtype });
  return folder;
}

interface Run {
  model: CausalLM;
  losses: (number | undefined)[];
}

async function trained(t: TestContext, folder: string, options: LoadOptions): Promise<Run> {
  const model = await loaded(t, folder, options);
  const trainer = new SFTTrainer({
    ...{ model, trainDataset: rows, config: { ...short, maxSteps: 3 } },
    peftConfig: { r: 4, targetModules: 'all-linear', loraDropout: model.stacks.size > 0 ? 0 : 0.1 },
  });
  await trainer.train();
  return { model, losses: trainer.log.map(({ loss }) => loss) };
}

// a family without biases, one with them whose checkpoints hold matrices turned, one with a large table, and two with experts, in parts or whole
for (const family of ['llama', 'gpt2', 'gemma4', 'olmoe', 'granitemoe'])
  for (const dtype of ['bfloat16', 'float16'] as const)
    test(`${family} in ${dtype}: losses, logits and texts are those in float32`, async (t) => {
      const folder = await checkpoint(t, family, dtype);
      const [half, auto, whole] = [
        await trained(t, folder, { dtype }),
        await trained(t, folder, { dtype: 'auto' }),
        await trained(t, folder, {}),
      ];
      const [bits, others] = [half, whole].map(({ model }) => [...model.linears.values()].map(({ weight }) => weight.compact?.bits));
      assert.deepEqual(
        half.model.embeddings.map(({ weight }) => weight.compact?.bits),
        family === 'gemma4' ? [undefined, 16] : half.model.embeddings.map(() => undefined),
      );
      assert.ok(bits.every((count) => count === 16) && others.every((count) => count === undefined));
      const experts = [...half.model.stacks.values()].filter(({ weight }) => weight.shape.length === 3);
      assert.equal(experts.length > 0, family.endsWith('moe') || family === 'olmoe');
      assert.ok(experts.every(({ weight }) => weight.compact?.bits === 16));
      assert.ok(whole.losses.every((loss) => Number.isFinite(loss)) && new Set(whole.losses).size === 3);
      assert.deepEqual(half.losses, whole.losses);
      assert.deepEqual(auto.losses, whole.losses);
      const ids = goldenIds(family).slice(0, 40);
      assert.deepEqual(await logitsOf(half.model, ids), await logitsOf(whole.model, ids));
      const texts = await Promise.all([half, whole].map(({ model }) => generate(model, 'Once upon a time', { maxNewTokens: 12 })));
      assert.equal(texts[0], texts[1]);
    });

test('what is in float32 is rounded as in transformers, or stays where the format of the checkpoint is asked for', async (t) => {
  const folder = path.join(golden, 'llama', 'model');
  const auto = await loaded(t, folder, { dtype: 'auto' });
  assert.ok([...auto.linears.values()].every(({ weight }) => !weight.compact));
  const half = await loaded(t, folder, { dtype: 'bfloat16' });
  const whole = await loaded(t, await checkpoint(t, 'llama', 'bfloat16'));
  const name = 'model.layers.0.self_attn.q_proj';
  tf.tidy(() => {
    const x = tf.eye(half.config.hiddenSize);
    const [a, b] = [half, whole].map(({ linears }) => linears.get(name)?.apply(x).dataSync());
    assert.ok(a && b);
    assert.deepEqual(a, b);
  });
});

test('what it holds goes with it, and a notebook says what it is', async (t) => {
  const model = await loaded(t, path.join(golden, 'llama', 'model'), { dtype: 'bfloat16' });
  assert.equal(model.numParameters, (await tinyModel(t)).numParameters);
  const { numTensors } = tf.memory();
  assert.match(inspect(model), /parameters in bfloat16, 2 layers/);
  model.dispose();
  const linears = [...model.linears.values()];
  assert.ok(linears.every(({ weight }) => weight.compact === undefined));
  assert.ok(tf.memory().numTensors <= numTensors - linears.length);
});

test('where weights are also to be in 4 bits, those are in 4 that fit', async (t) => {
  const model = await loaded(t, path.join(golden, 'llama', 'model'), { dtype: 'bfloat16', loadIn4bit: true });
  assert.ok([...model.linears.values()].every(({ weight }) => weight.compact?.bits === 4));
});

describe('what needs the weights themselves is refused', () => {
  test('without an adapter', async (t) => {
    const model = await loaded(t, path.join(golden, 'llama', 'model'), { dtype: 'float16' });
    const folder = path.join(temporaryFolder(t), 'out');
    await assert.rejects(saveModel(model, folder), /was loaded in float16, so it cannot be saved as a whole; load it without dtype\.$/);
    await assert.rejects(exportGguf(model, `${folder}.gguf`), /was loaded in float16, so it cannot be exported; load it without dtype\.$/);
    assert.throws(
      () => new SFTTrainer({ model, trainDataset: rows, config: short }),
      /so it is not trained itself; train an adapter beside it .* or load it without dtype \(dtype: float32\)\.$/,
    );
    const config = { modulesToSave: ['1.mlp'] };
    assert.throws(() => addAdapter(model, config, { seed: 1 }), /are in float16 and cannot be trained; .* load the model without dtype\.$/);
  });

  test('with one', async (t) => {
    const model = await loaded(t, path.join(golden, 'llama', 'model'), { dtype: 'bfloat16' });
    addAdapter(model, {}, { seed: 1 });
    assert.throws(() => mergeAdapter(model), /was loaded in bfloat16, .* save its adapter, and load that folder without dtype\.$/);
  });
});

test('a saved adapter is merged with the weights in float32', async (t) => {
  const base = await checkpoint(t, 'llama', 'bfloat16');
  const { model } = await trained(t, base, { dtype: 'auto' });
  const folder = path.join(temporaryFolder(t), 'adapter');
  await saveModel(model, folder);
  const ids = goldenIds('llama').slice(0, 20);
  const adapted = await logitsOf(model, ids);
  const exact = await loaded(t, folder);
  assert.deepEqual(await logitsOf(exact, ids), adapted);
  mergeAdapter(exact);
  const merged = path.join(path.dirname(folder), 'merged');
  await saveModel(exact, merged);
  const found = await logitsOf(await loaded(t, merged), ids);
  for (const [i, row] of adapted.entries()) for (const [j, logit] of row.entries()) assert.ok(Math.abs(found[i][j] - logit) < 1e-4);
});
