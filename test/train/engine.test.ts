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
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow } from '../../lib/train/loss';
import { rows, sequence, short, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

for (const family of ['llama', 'gpt_neox', 'opt', 'qwen3']) {
  test(`${family}: forward, backward and optimizer run in one compiled graph each, without JavaScript kernels`, async (t) => {
    const model = await tinyModel(t, family);
    const trainer = new SFTTrainer({
      model,
      trainDataset: rows,
      config: { ...short, trainSamplingStrategy: 'sequential' },
    });
    const statistics = engineStatistics() as EngineStatistics;
    const before = { fallbacks: new Map(statistics.fallbacks), compilations: statistics.compilations };
    await trainer.train();
    assert.deepEqual(statistics.fallbacks, before.fallbacks, 'kernels fell back to JavaScript');
    const compiled = statistics.compilations - before.compilations;
    assert.ok(compiled <= 3, `${compiled} graphs were compiled, though rows of every length share one`);
  });
}

test('rows of 1024 tokens, as many as the tables of rotary angles have rows for, need no graph of their own', async (t) => {
  const model = await loadModel(path.join(projectRoot, 'test', 'model', 'fixtures', 'llama-biases'));
  t.after(() => model.dispose());
  const statistics = engineStatistics() as EngineStatistics;
  const sums = new GradientSums();
  const share = tf.scalar(1);
  const parts = (count: number) => Array.from({ length: count }, (_, i) => ({ sequence: sequence(32, i), microBatch: 0 }));
  await backwardRow(model, parts(24), sums, { share, gradientCheckpointing: false });
  const { compilations } = statistics;
  await backwardRow(model, parts(32), sums, { share, gradientCheckpointing: false });
  assert.equal(statistics.compilations, compilations);
  sums.dispose();
  share.dispose();
});
