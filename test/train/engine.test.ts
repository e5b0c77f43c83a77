/** What a training step asks of the engine. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { engineStatistics } from '../../lib/engine/device';
import type { EngineStatistics } from '../../lib/engine/ort/statistics';
import { SFTTrainer } from '../../lib/train';
import { rows, short, tinyModel } from './support';

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
