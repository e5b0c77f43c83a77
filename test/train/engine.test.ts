/** What a training step asks of the engine. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { useDevice } from '../../lib/engine';
import { engineStatistics } from '../../lib/engine/device';
import type { EngineStatistics } from '../../lib/engine/ort/statistics';
import { loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { SFTTrainer } from '../../lib/train';
import type { Sequence } from '../../lib/train/examples';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';
import { families } from '../golden-families';
import { rows, sequence, short, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

for (const family of families) {
  test(`${family}: forward, backward and optimizer run in one compiled graph each, without JavaScript kernels`, async (t) => {
    const model = await tinyModel(t, family);
    const trainer = new SFTTrainer({
      model,
      trainDataset: rows,
      config: { ...short, maxSteps: 3, trainSamplingStrategy: 'sequential' },
    });
    const statistics = engineStatistics() as EngineStatistics;
    const before = { fallbacks: new Map(statistics.fallbacks), compilations: statistics.compilations };
    await trainer.train();
    assert.deepEqual(statistics.fallbacks, before.fallbacks, 'kernels fell back to JavaScript');
    const compiled = statistics.compilations - before.compilations;
    assert.ok(compiled <= 3, `${compiled} graphs were compiled, though rows of every length share one`);
  });
}

test("rows with as many tokens as the tables of rotary angles, or as many targets as one of the model's sizes, need no graph of their own", async (t) => {
  const model = await loadModel(path.join(projectRoot, 'test', 'model', 'fixtures', 'llama-biases'));
  t.after(() => model.dispose());
  const statistics = engineStatistics() as EngineStatistics;
  const sums = new GradientSums();
  const share = tf.scalar(1);
  const compilations = async (sequences: Sequence[]): Promise<number> => {
    const before = statistics.compilations;
    const parts = sequences.map((sequence) => ({ sequence, microBatch: 0, index: 0 }));
    await backwardRow(model, parts, sums, { share, gradientCheckpointing: false });
    return statistics.compilations - before;
  };
  const sequences = (count: number) => Array.from({ length: count }, (_, i) => sequence(32, i));
  assert.equal(await compilations(sequences(24)), 1);
  assert.equal(await compilations(sequences(32)), 0, '1024 tokens');
  assert.equal(model.config.vocabSize, 64);
  const lastOnly = sequences(24).map(({ inputIds }, i) => ({ inputIds, lossMask: new Uint8Array(32).fill(1, i < 16 ? 29 : 30) }));
  assert.equal(
    lastOnly.reduce((sum, { lossMask }) => sum + lossMask.reduce((a, b) => a + b), 0),
    64,
  );
  assert.equal(await compilations(lastOnly), 0, '64 targets');
  sums.dispose();
  share.dispose();
});
