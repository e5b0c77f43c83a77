/** gradient_checkpointing: less memory, the same numbers. */
import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { engineStatistics, releaseMemory, useDevice } from '../../lib/engine';
import type { EngineStatistics } from '../../lib/engine/ort/statistics';
import type { CausalLM } from '../../lib/model';
import { type LogRecord, type SFTConfig, SFTTrainer } from '../../lib/train';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';
import { families } from '../golden-families';
import { hashOf, rows, sequence, short, tinyModel, weightsOf } from './support';

beforeEach(async () => {
  await useDevice('cpu');
});

/** Several rows a step, of varying lengths; the second step begins with what the first has left. */
const config: Partial<SFTConfig> = { ...short, maxSteps: 2, tokensPerMicroBatch: 300 };

interface Outcome {
  log: readonly LogRecord[];
  weights: Record<string, string>;
}

async function train(model: CausalLM, settings: Partial<SFTConfig>): Promise<Outcome> {
  const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 16), config: { ...config, ...settings } });
  await trainer.train();
  return { log: trainer.log, weights: await weightsOf(model) };
}

/**
 * Rows of several examples are made as packed ones are, so packing is tried with each way in which tokens see those before them: by rotation, by learned
 * places, in windows, by the keys of earlier layers, by states, by convolutions, and with experts.
 */
const PACKED = ['llama', 'gpt2', 'gpt_neo', 'gemma3', 'gemma4', 'qwen3_5', 'granite_h', 'lfm2', 'qwen3_moe'];

for (const family of families) {
  describe(`${family}: log and weights are the same bits with gradient checkpointing`, () => {
    for (const [name, settings] of [
      ['rows of several examples', {}],
      ['packed examples', { packing: true, maxLength: 200 }],
    ] as const) {
      if ('packing' in settings && !PACKED.includes(family)) continue;
      test(name, async (t) => {
        const plain = await train(await tinyModel(t, family), { ...settings, gradientCheckpointing: false });
        const saving = await train(await tinyModel(t, family), { ...settings, gradientCheckpointing: true });
        assert.deepEqual(saving, plain);
      });
    }
  });
}

test('weights that are not trained stay, those after them learn the same', async (t) => {
  const frozen = async (gradientCheckpointing: boolean): Promise<Outcome> => {
    const model = await tinyModel(t, 'gpt_neox');
    for (const [name, variable] of model.parameters) if (/embed_in|layers\.0\./.test(name)) variable.trainable = false;
    return train(model, { gradientCheckpointing });
  };
  const before = await weightsOf(await tinyModel(t, 'gpt_neox'));
  const saving = await frozen(true);
  assert.deepEqual(saving, await frozen(false));
  for (const [name, hash] of Object.entries(saving.weights)) {
    assert.equal(hash === before[name], /embed_in|layers\.0\./.test(name), name);
  }
});

/** Gradients of one row of 30 tokens, among them those with the ids 0 to 17, as hashes by parameter. */
async function gradientsOf(model: CausalLM, gradientCheckpointing: boolean): Promise<Record<string, string>> {
  const sums = new GradientSums();
  const share = tf.scalar(1 / 29);
  const parts = [18, 12].map((length) => ({ sequence: sequence(length), microBatch: 0, index: 0 }));
  await backwardRow(model, parts, sums, { share, gradientCheckpointing });
  const hashes: Record<string, string> = {};
  for (const [name, sum] of sums.entries()) hashes[name] = hashOf(await sum.data<'float32'>());
  sums.dispose();
  share.dispose();
  return hashes;
}

for (const family of [
  'llama',
  'qwen3',
  'gemma2',
  'gemma3',
  'gemma4',
  'nanochat',
  'smollm3',
  'olmo2',
  'olmo3',
  'granite',
  'granitemoehybrid',
  'granite_h',
  'falcon_h1',
  'phi3',
  'lfm2',
  'qwen3_5',
  'opt',
]) {
  test(`${family}: gradients of a text that contains the pad token are the same bits`, async (t) => {
    const model = await tinyModel(t, family);
    assert.equal(model.config.raw.pad_token_id, 1);
    assert.deepEqual(await gradientsOf(model, true), await gradientsOf(model, false));
  });
}

test("gradients are the same on a backend of tfjs's own, and no tensor is left behind", async (t) => {
  await tf.setBackend('cpu');
  const model = await tinyModel(t, 'opt');
  const plain = await gradientsOf(model, false);
  const tensors = tf.memory().numTensors;
  assert.deepEqual(await gradientsOf(model, true), plain);
  assert.equal(tf.memory().numTensors, tensors);
});

test('layers of one kind share their graphs, for rows of all lengths', async (t) => {
  const statistics = engineStatistics() as EngineStatistics;
  const model = await tinyModel(t);
  releaseMemory();
  const compilations = async (lengths: number[]): Promise<number> => {
    const before = statistics.compilations;
    const sums = new GradientSums();
    const share = tf.scalar(1);
    for (const length of lengths) {
      await backwardRow(model, [{ sequence: sequence(length), microBatch: 0, index: 0 }], sums, {
        share,
        gradientCheckpointing: true,
      });
    }
    sums.dispose();
    share.dispose();
    return statistics.compilations - before;
  };
  // Embedding, layer, last layer, head with its gradient, last layer with its gradient, layer with its gradient, gradient of the embedding.
  assert.equal(await compilations([50]), 7);
  assert.equal(await compilations([51, 77, 130, 49]), 0);
});
