import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { loadModel } from '../../lib/model';
import { type SFTConfig, SFTTrainer, type SFTTrainerOptions } from '../../lib/train';
import { golden, rows, short, temporaryFolder, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

const filesIn = (folder: string): string[] => fs.readdirSync(folder, { recursive: true }).map(String).sort();
const checkpointsIn = (folder: string): string[] => fs.readdirSync(folder).filter((name) => name.startsWith('checkpoint-'));

async function trainerOn(
  t: TestContext,
  folder: string,
  config: Partial<SFTConfig>,
  options: Partial<SFTTrainerOptions> = {},
): Promise<SFTTrainer> {
  const model = await loadModel(folder);
  t.after(() => model.dispose());
  return new SFTTrainer({ model, trainDataset: rows.slice(0, 18), config: { ...short, maxSteps: 4, saveSteps: 2, ...config }, ...options });
}

/** A folder with a finished run of checkpoints after steps 2 and 4. */
async function finishedRun(t: TestContext): Promise<string> {
  const outputDir = temporaryFolder(t);
  const model = await tinyModel(t);
  await new SFTTrainer({ model, trainDataset: rows.slice(0, 18), config: { ...short, maxSteps: 4, saveSteps: 2, outputDir } }).train();
  return outputDir;
}

async function refusesToRemove(run: Promise<unknown>, checkpoint: string): Promise<void> {
  await assert.rejects(run, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, /^outputDir \S+ holds \S+, which this run .*name another outputDir\.$/);
    assert.ok(error.message.includes(checkpoint));
    return true;
  });
}

describe('a checkpoint in output_dir whose model is trained', () => {
  test('is not removed by a fresh run, which is refused and leaves the folder as it was', async (t) => {
    const outputDir = await finishedRun(t);
    const checkpoint = path.join(outputDir, 'checkpoint-2');
    const before = filesIn(outputDir);
    await refusesToRemove((await trainerOn(t, checkpoint, { outputDir })).train(), checkpoint);
    const overwriting = await trainerOn(t, checkpoint, { outputDir, overwriteOutputDir: true, saveStrategy: 'no' });
    await refusesToRemove(overwriting.train(), checkpoint);
    assert.deepEqual(filesIn(outputDir), before);
  });

  test('is known by another path to it', async (t) => {
    const outputDir = await finishedRun(t);
    const link = path.join(temporaryFolder(t), 'link');
    fs.symlinkSync(path.join(outputDir, 'checkpoint-2'), link, 'junction');
    await refusesToRemove((await trainerOn(t, link, { outputDir })).train(), path.join(outputDir, 'checkpoint-2'));
  });

  test('stays when a continued run removes old checkpoints', async (t) => {
    const config = { ...short, maxSteps: 4, saveSteps: 2, outputDir: path.join(temporaryFolder(t), 'run') };
    const model = await tinyModel(t);
    const stopping = { onStepBegin: (state: { step: number; stop(): void }) => void (state.step === 2 && state.stop()) };
    await new SFTTrainer({ model, trainDataset: rows.slice(0, 18), config, callbacks: [stopping] }).train();
    const source = path.join(config.outputDir, 'checkpoint-2');
    const resumed = await trainerOn(t, source, { ...config, saveTotalLimit: 1 });
    await resumed.train({ resumeFromCheckpoint: true });
    assert.deepEqual(checkpointsIn(config.outputDir).sort(), ['checkpoint-2', 'checkpoint-4']);
    (await loadModel(source)).dispose();
    // a run that goes on from before it would write another in its place
    const again = await trainerOn(t, path.join(config.outputDir, 'checkpoint-4'), config);
    await refusesToRemove(again.train({ resumeFromCheckpoint: source }), path.join(config.outputDir, 'checkpoint-4'));
  });

  test('stays too when it is the base of an adapter, or the adapter', async (t) => {
    const outputDir = await finishedRun(t);
    const base = path.join(outputDir, 'checkpoint-4');
    const peftConfig = { r: 2 };
    await refusesToRemove((await trainerOn(t, base, { outputDir }, { peftConfig })).train(), base);
    const adapters = path.join(temporaryFolder(t), 'adapters');
    await (await trainerOn(t, base, { outputDir: adapters }, { peftConfig })).train();
    await refusesToRemove((await trainerOn(t, path.join(adapters, 'checkpoint-2'), { outputDir: adapters })).train(), 'checkpoint-2');
    await refusesToRemove((await trainerOn(t, path.join(adapters, 'checkpoint-2'), { outputDir })).train(), base);
  });
});

test('a model whose folder disappears while it is trained is saved whole', async (t) => {
  const source = path.join(await finishedRun(t), 'checkpoint-2');
  const files = filesIn(source);
  const outputDir = path.join(temporaryFolder(t), 'run');
  const trainer = await trainerOn(t, source, { outputDir });
  const adapter = await trainerOn(t, source, {}, { peftConfig: { r: 2 } });
  fs.rmSync(source, { recursive: true });
  await trainer.train();
  assert.deepEqual(filesIn(path.join(outputDir, 'checkpoint-4')), files);
  await adapter.saveModel(outputDir);
  assert.ok(fs.existsSync(path.join(outputDir, 'adapter_config.json')));
});

test('what a fresh run removes of an earlier one is said, and that there is nothing to continue', async (t) => {
  const outputDir = path.join(temporaryFolder(t), 'out');
  const notesOf = async (resumeFromCheckpoint: boolean, config: Partial<SFTConfig> = {}): Promise<string[]> => {
    const notes: string[] = [];
    const callbacks = [{ onNote: (line: string) => void notes.push(line) }];
    const model = path.join(golden, 'llama', 'model');
    await (await trainerOn(t, model, { outputDir, maxLength: null, ...config }, { callbacks })).train({ resumeFromCheckpoint });
    return notes;
  };
  const nothing = [`outputDir ${outputDir} has no checkpoint to continue from yet: the run starts from its beginning.`];
  assert.deepEqual(await notesOf(true, { saveStrategy: 'no' }), nothing);
  const replaces = `outputDir ${outputDir} holds an earlier run: this one replaces it`;
  assert.deepEqual(await notesOf(false), [`${replaces}.`]);
  assert.deepEqual(await notesOf(true), [`Continuing from ${path.join(outputDir, 'checkpoint-4')}.`]);
  assert.deepEqual(await notesOf(false), [`${replaces} and removes its 2 checkpoints (checkpoint-2, checkpoint-4).`]);
});
