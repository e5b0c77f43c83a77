import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import { type SFTConfig, SFTTrainer } from '../../lib/train';
import { rows, short, temporaryFolder, tinyModel, weightsOf } from './support';

before(async () => {
  await useDevice('cpu');
});

async function makeTrainer(t: TestContext, config: Partial<SFTConfig>): Promise<SFTTrainer> {
  const model = await tinyModel(t);
  return new SFTTrainer({ model, trainDataset: rows.slice(0, 18), config: { ...short, maxSteps: 4, saveSteps: 2, ...config } });
}

type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;

/** Writes a file of tensors anew, changed. */
async function change(file: string, edit: (tensors: Tensors) => void): Promise<void> {
  const tensors: Tensors = new Map(await readSafetensors(file));
  edit(tensors);
  await writeSafetensors(
    file,
    [...tensors].map(([name, { shape, data }]) => ({ name, shape, data: () => data })),
  );
}

const NORM = 'model.norm.weight';
const DAMAGES: ReadonlyArray<[string, RegExp, (folder: string) => Promise<void> | void]> = [
  ['without moments', /optimizer\.safetensors does not exist/, (folder) => fs.rmSync(path.join(folder, 'optimizer.safetensors'))],
  [
    'with one moment of a pair',
    /holds exp_avg\.model\.norm\.weight but not exp_avg_sq\.model\.norm\.weight; it is damaged/,
    (folder) => change(path.join(folder, 'optimizer.safetensors'), (tensors) => void tensors.delete(`exp_avg_sq.${NORM}`)),
  ],
  [
    'with a moment of another shape',
    /exp_avg_sq\.model\.norm\.weight has shape \[1\], but the model's is \[\d+\]; the checkpoint belongs to another model/,
    (folder) =>
      change(
        path.join(folder, 'optimizer.safetensors'),
        (tensors) => void tensors.set(`exp_avg_sq.${NORM}`, { shape: [1], data: new Float32Array(1) }),
      ),
  ],
  [
    'with a moment of nothing',
    /holds momentum\.x, which this model does not have; the checkpoint belongs to another model/,
    (folder) =>
      change(
        path.join(folder, 'optimizer.safetensors'),
        (tensors) => void tensors.set('momentum.x', { shape: [1], data: new Float32Array(1) }),
      ),
  ],
  [
    'without a weight',
    /has no weights for model\.norm\.weight; it belongs to another model/,
    (folder) => change(path.join(folder, 'model.safetensors'), (tensors) => void tensors.delete(NORM)),
  ],
];

test('a checkpoint that cannot be restored is refused before the run in output_dir and the weights are touched', async (t) => {
  const outputDir = temporaryFolder(t);
  await (await makeTrainer(t, { outputDir })).train();
  const before = fs.readdirSync(outputDir, { recursive: true }).sort();
  const log = fs.readFileSync(path.join(outputDir, 'metrics.jsonl'), 'utf8');
  for (const [what, sentence, damage] of DAMAGES) {
    const broken = path.join(temporaryFolder(t), 'checkpoint-2');
    fs.cpSync(path.join(outputDir, 'checkpoint-2'), broken, { recursive: true });
    await damage(broken);
    const trainer = await makeTrainer(t, { outputDir });
    const weights = await weightsOf(trainer.model);
    await assert.rejects(trainer.train({ resumeFromCheckpoint: broken }), (error: Error) => {
      assert.ok(error instanceof UserError, `${what}: ${error}`);
      assert.match(error.message, sentence, what);
      return true;
    });
    assert.deepEqual(fs.readdirSync(outputDir, { recursive: true }).sort(), before, what);
    assert.equal(fs.readFileSync(path.join(outputDir, 'metrics.jsonl'), 'utf8'), log, what);
    assert.deepEqual(await weightsOf(trainer.model), weights, what);
  }
});
