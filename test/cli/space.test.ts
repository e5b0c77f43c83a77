/** What a run still has to write, in the sizes of its model (M) and of a checkpoint (C, three times as much). */
import assert from 'node:assert/strict';
import fs, { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { bytesOfExport, bytesOfModel, bytesOfRun, checkSpace } from '../../lib/cli/space';
import { addAdapter, loadModel, ownWeights, saveModel } from '../../lib/model';
import { parseConfig } from '../../lib/train';
import { freshRun } from '../../lib/train/run-state';
import { goldenModel, workFolder } from './support';

const plan = { maxSteps: 10, stepsPerEpoch: 10, microBatchesPerEpoch: 10 };

async function setUp(t: TestContext) {
  const model = await loadModel(goldenModel);
  t.after(() => model.dispose());
  const outputDir = workFolder(t);
  const sizeOfOne = (): number => 4 * [...ownWeights(model).values()].reduce((sum, { size }) => sum + size, 0);
  const M = sizeOfOne();
  const put = (name: string, files: Record<string, number>, step = 0): string => {
    const folder = path.join(outputDir, name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(
      path.join(folder, 'trainer_state.json'),
      JSON.stringify({ format: 3, state: { ...freshRun(0), step }, identity: { config: {}, tokens: '' } }),
    );
    for (const [file, size] of Object.entries(files)) {
      writeFileSync(path.join(folder, file), '');
      truncateSync(path.join(folder, file), size);
    }
    return folder;
  };
  const checkpoint = (step: number): string => put(`checkpoint-${step}`, { 'model.safetensors': M, 'optimizer.safetensors': 2 * M }, step);
  const needed = (settings: Record<string, unknown>): number =>
    bytesOfRun({ model, config: parseConfig({ output_dir: outputDir, save_steps: 2, ...settings }), plan });
  /** Kilobytes of trainer_state.json apart. */
  const expect = (settings: Record<string, unknown>, bytes: number): void =>
    assert.ok(Math.abs(needed(settings) - bytes) < 32768, `${JSON.stringify(settings)}: ${needed(settings) / M} M, not ${bytes / M} M`);
  return { model, M, C: 3 * M, put, checkpoint, expect, sizeOfOne };
}

test('a first run writes all its checkpoints and its model', async (t) => {
  const { M, C, expect } = await setUp(t);
  expect({}, 5 * C + M);
  expect({ save_strategy: 'no' }, M);
  expect({ save_steps: 500 }, C + M);
  expect({ eval_strategy: 'steps', eval_steps: 1, save_strategy: 'best' }, 10 * C + M);
});

test('adafactor and sgd have next to nothing in their checkpoints, momentum one number for each', async (t) => {
  const { M, expect, model } = await setUp(t);
  expect({ optim: 'sgd' }, 6 * M);
  expect({ optim: 'sgd', optim_args: 'momentum=0.9' }, 5 * 2 * M + M);
  const sums = [...model.parameters.values()].map(({ shape }) => shape.reduce((sum, length) => sum + length, 0));
  expect({ optim: 'adafactor' }, 6 * M + 5 * 4 * sums.reduce((sum, count) => sum + count, 0));
});

test('save_total_limit: a new checkpoint is written before an old one goes, the model after that', async (t) => {
  const { C, expect, M } = await setUp(t);
  expect({ save_total_limit: 2 }, 3 * C);
  expect({ save_total_limit: 5 }, 5 * C + M);
  expect({ save_total_limit: 1 }, 2 * C);
  const best = { eval_strategy: 'steps', eval_steps: 2, load_best_model_at_end: true };
  expect({ save_total_limit: 1, ...best }, 3 * C);
});

test('a model in 16 bits needs half of the room', async (t) => {
  const { model, M } = await setUp(t);
  assert.deepEqual([bytesOfModel(model), bytesOfModel(model, 'bfloat16'), bytesOfModel(model, 'float16')], [M, M / 2, M / 2]);
});

test('tens of thousands of checkpoints are counted at once', async (t) => {
  const { model, M, C } = await setUp(t);
  const config = parseConfig({ output_dir: path.join(workFolder(t), 'out'), save_steps: 1 });
  const started = performance.now();
  assert.equal(bytesOfRun({ model, config, plan: { ...plan, maxSteps: 30_000 } }), 30_000 * C + M);
  assert.ok(performance.now() - started < 5000);
});

test('a continued run does not write again what lies there', async (t) => {
  const { M, C, checkpoint, expect } = await setUp(t);
  for (const step of [2, 4, 6, 8]) checkpoint(step);
  expect({ resume_from_checkpoint: true }, C + M);
  expect({ resume_from_checkpoint: true, save_total_limit: 4 }, C);
  expect({ resume_from_checkpoint: true, save_total_limit: 2 }, C);
  checkpoint(10);
  expect({ resume_from_checkpoint: true }, M);
});

test('of an older checkpoint on, those that are replaced are written beside their old ones, one at a time', async (t) => {
  const { M, C, checkpoint, expect } = await setUp(t);
  for (const step of [2, 4, 6]) checkpoint(step);
  expect({ resume_from_checkpoint: checkpoint(2) }, 2 * C + M);
  for (const step of [8, 10]) checkpoint(step);
  expect({ resume_from_checkpoint: checkpoint(2) }, C);
});

test('what a run removes when it begins is room for it', async (t) => {
  const { M, C, put, checkpoint, expect } = await setUp(t);
  for (const step of [2, 4, 6, 8, 10]) checkpoint(step);
  expect({ overwrite_output_dir: true }, M);
  expect({ overwrite_output_dir: true, save_strategy: 'no' }, M - 5 * C);
  put('.unfinished-checkpoint-4', { 'model.safetensors': M });
  expect({ resume_from_checkpoint: true }, 0);
});

test('a checkpoint of another folder starts this one afresh, from its step on', async (t) => {
  const { M, C, checkpoint, expect } = await setUp(t);
  const other = await setUp(t);
  checkpoint(2);
  expect({ resume_from_checkpoint: other.checkpoint(6) }, 2 * C + M - C);
});

test('of an adapter the sizes are its own', async (t) => {
  const { model, M, expect, sizeOfOne } = await setUp(t);
  addAdapter(model, { r: 2 }, { seed: 0 });
  assert.ok(sizeOfOne() < M / 4);
  expect({}, 16 * sizeOfOne());
});

test("an embedding that an adapter trains and that stays the head is twice in the adapter's file, and once in an export", async (t) => {
  const { model, M, expect, sizeOfOne } = await setUp(t);
  addAdapter(model, { r: 2, modulesToSave: ['lm_head'], ensureWeightTying: true }, { seed: 0 });
  const table = 4 * model.outputHead.size;
  expect({}, 5 * (3 * sizeOfOne() + table) + sizeOfOne() + table);
  const folder = path.join(workFolder(t), 'adapter');
  await saveModel(model, folder);
  const { size } = fs.statSync(path.join(folder, 'adapter_model.safetensors'));
  assert.ok(Math.abs(size - bytesOfModel(model)) < 4096, `${size} bytes, not ${bytesOfModel(model)}`);
  assert.equal(bytesOfExport(model, ['fp32']), M + sizeOfOne() - table);
});

test('a disk with less room than that is refused in one sentence', (t) => {
  t.mock.method(fs, 'statfsSync', () => ({ bavail: 5, bsize: 1e6 }));
  checkSpace('out', 5e6);
  checkSpace('out', -1);
  assert.throws(() => checkSpace('out', 6e6), {
    name: 'UserError',
    message: 'The disk of out has 5 MB free, but about 6 MB are needed; free some space, or write to another disk.',
  });
});
