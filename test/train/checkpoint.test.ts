import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { UserError } from '../../lib/errors';
import { type CausalLM, loadModel } from '../../lib/model';
import { type SFTConfig, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { golden, hashOf, resumable, rows, short, temporaryFolder, tinyModel, weightsOf } from './support';

const trainerOf = (model: CausalLM, outputDir: string, config: Partial<SFTConfig> = {}, callbacks: TrainerCallback[] = []): SFTTrainer =>
  new SFTTrainer({
    ...{ model, trainDataset: rows.slice(0, 18), evalDataset: rows.slice(18, 22), callbacks },
    config: { ...resumable, outputDir, ...config },
  });

const makeTrainer = async (t: TestContext, outputDir: string, config?: Partial<SFTConfig>, callbacks?: TrainerCallback[]) =>
  trainerOf(await tinyModel(t), outputDir, config, callbacks);

/** A run that nobody stops, which all are compared with that were stopped: its folder, where every checkpoint is kept, and its trainer. */
const whole = fs.mkdtempSync(path.join(tmpdir(), 'tunebook-train-'));
let reference: SFTTrainer;

before(async () => {
  await useDevice('cpu');
  reference = trainerOf(await loadModel(path.join(golden, 'llama', 'model')), whole, { saveTotalLimit: null });
  await reference.train();
});

after(() => {
  reference.model.dispose();
  fs.rmSync(whole, { recursive: true, force: true });
});

const stopAt = (step: number): TrainerCallback => ({ onStepBegin: (state) => void (state.step === step && state.stop()) });
const hashOfFile = (...names: string[]) => hashOf(fs.readFileSync(path.join(...names)));
const read = (...names: string[]) => fs.readFileSync(path.join(...names), 'utf8');
const checkpointsIn = (folder: string) =>
  fs
    .readdirSync(folder)
    .filter((name) => name.startsWith('checkpoint-'))
    .sort();

async function refuses(run: Promise<unknown>, pattern: RegExp): Promise<void> {
  await assert.rejects(run, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, pattern);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
}

describe('a resumed run', () => {
  for (const step of [2, 5, 9]) {
    test(`that was stopped after step ${step} ends with the bits and the log of one that was not`, async (t) => {
      const parted = temporaryFolder(t);
      await (await makeTrainer(t, parted, {}, [stopAt(step)])).train();
      const resumed = await makeTrainer(t, parted);
      await resumed.train({ resumeFromCheckpoint: true });
      assert.deepEqual(resumed.log, reference.log);
      assert.deepEqual(await weightsOf(resumed.model), await weightsOf(reference.model));
      assert.equal(read(parted, 'metrics.jsonl'), read(whole, 'metrics.jsonl'));
      assert.equal(
        hashOfFile(parted, 'checkpoint-10', 'optimizer.safetensors'),
        hashOfFile(whole, 'checkpoint-10', 'optimizer.safetensors'),
      );
    });
  }

  for (const step of [8, 10]) {
    test(`that was stopped in the evaluation after step ${step} makes up for it`, async (t) => {
      const parted = temporaryFolder(t);
      const stop: TrainerCallback = { onStepEnd: (state) => void (state.step === step && state.stop()) };
      const stopped = await makeTrainer(t, parted, {}, [stop]);
      assert.ok((await stopped.train()).stopped);
      assert.equal(JSON.parse(read(parted, 'run.json')).finished, false);
      const isOwed = !stopped.log.some((record) => record.step === step && record.eval_loss !== undefined);
      assert.ok(isOwed && reference.log.some((record) => record.step === step && record.eval_loss !== undefined));
      const resumed = await makeTrainer(t, parted);
      await resumed.train({ resumeFromCheckpoint: true });
      assert.deepEqual(resumed.log, reference.log);
      assert.deepEqual(await weightsOf(resumed.model), await weightsOf(reference.model));
      assert.equal(read(parted, 'metrics.jsonl'), read(whole, 'metrics.jsonl'));
    });
  }

  test('continues from a checkpoint that is named, in the same folder or another', async (t) => {
    const other = temporaryFolder(t);
    const resumed = await makeTrainer(t, other, { saveTotalLimit: null });
    await resumed.train({ resumeFromCheckpoint: path.join(whole, 'checkpoint-4') });
    assert.deepEqual(resumed.log, reference.log);
    assert.equal(read(other, 'metrics.jsonl'), read(whole, 'metrics.jsonl'));
  });

  test('knows its checkpoint by another path to the same folder', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const link = path.join(temporaryFolder(t), 'link');
    fs.symlinkSync(folder, link, 'junction');
    const resumed = await makeTrainer(t, folder, { saveStrategy: 'no', overwriteOutputDir: true }, [stopAt(6)]);
    await resumed.train({ resumeFromCheckpoint: path.join(link, 'checkpoint-4') });
    assert.ok(checkpointsIn(folder).includes('checkpoint-4'));
  });

  test('that is refused leaves the model as it was', async (t) => {
    const [folder, other] = [temporaryFolder(t), temporaryFolder(t)];
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    fs.writeFileSync(path.join(other, 'thesis.txt'), 'years of work');
    const trainer = await makeTrainer(t, other);
    const before = await weightsOf(trainer.model);
    await refuses(trainer.train({ resumeFromCheckpoint: path.join(folder, 'checkpoint-4') }), /already holds something else/);
    assert.deepEqual(await weightsOf(trainer.model), before);
  });

  test('from what is no checkpoint, or into a file, is refused', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const file = path.join(folder, 'checkpoint-4', 'model.safetensors');
    await refuses((await makeTrainer(t, folder)).train({ resumeFromCheckpoint: file }), /is not a complete checkpoint/);
    await refuses((await makeTrainer(t, file)).train({ resumeFromCheckpoint: true }), /is a file; name a folder/);
  });

  test('starts from the beginning where there is no checkpoint yet', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { maxSteps: 2, evalStrategy: 'no' });
    assert.equal((await trainer.train({ resumeFromCheckpoint: true })).globalStep, 2);
  });

  test('continues from a checkpoint that is older than a setting, which had its default then', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const file = path.join(folder, 'checkpoint-4', 'trainer_state.json');
    const content = JSON.parse(fs.readFileSync(file, 'utf8'));
    delete content.identity.config.fp16;
    fs.writeFileSync(file, JSON.stringify(content));
    await refuses(
      (await makeTrainer(t, folder, { fp16: true })).train({ resumeFromCheckpoint: true }),
      /fp16 is true, .* written with false/,
    );
    const output = await (await makeTrainer(t, folder)).train({ resumeFromCheckpoint: true });
    assert.equal(output.globalStep, 10);
  });

  test('from a damaged state is refused', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const file = path.join(folder, 'checkpoint-4', 'trainer_state.json');
    const undamaged = JSON.parse(fs.readFileSync(file, 'utf8'));
    const { state } = undamaged;
    const damaged: object[] = [
      {},
      { ...state, log: null },
      { ...state, log: [null] },
      { ...state, window: {} },
      { ...state, step: '4' },
      { ...state, random: 'AAAA' },
      { ...state, epochStart: {} },
    ];
    for (const content of [...damaged.map((broken) => ({ ...undamaged, state: broken })), { ...undamaged, identity: { config: 1 } }]) {
      fs.writeFileSync(file, JSON.stringify(content));
      await refuses(
        (await makeTrainer(t, folder)).train({ resumeFromCheckpoint: true }),
        /trainer_state\.json is damaged: parts of the run's state are missing; continue from another checkpoint\.$/,
      );
    }
  });

  test('of a version that drew other random numbers is refused', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const file = path.join(folder, 'checkpoint-4', 'trainer_state.json');
    const content = JSON.parse(fs.readFileSync(file, 'utf8'));
    for (const format of [1, 2]) {
      fs.writeFileSync(file, JSON.stringify({ ...content, format }));
      await refuses(
        (await makeTrainer(t, folder)).train({ resumeFromCheckpoint: true }),
        /trainer_state\.json is of an earlier version of this program, whose runs drew other random numbers; start .* afresh/,
      );
    }
  });

  test('with a table of settings in another order goes on', async (t) => {
    const folder = temporaryFolder(t);
    const floor: Partial<SFTConfig> = { maxSteps: 3, lrSchedulerType: 'cosine_with_min_lr' };
    const first = { ...floor, lrSchedulerKwargs: { min_lr_rate: 0.1, num_cycles: 1 } };
    await (await makeTrainer(t, folder, first, [stopAt(2)])).train();
    const resumed = await makeTrainer(t, folder, { ...floor, lrSchedulerKwargs: { num_cycles: 1, min_lr_rate: 0.1 } });
    assert.equal((await resumed.train({ resumeFromCheckpoint: true })).globalStep, 3);
    const other = await makeTrainer(t, folder, { ...floor, lrSchedulerKwargs: { num_cycles: 2, min_lr_rate: 0.1 } });
    await refuses(other.train({ resumeFromCheckpoint: true }), /^lrSchedulerKwargs\.num_cycles is 2, but .* was written with 1;/);
  });

  test('with other settings or other data is refused', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    const resume = { resumeFromCheckpoint: true };
    await refuses(
      (await makeTrainer(t, folder, { learningRate: 5e-4 })).train(resume),
      /^learningRate is 0\.0005, but .*checkpoint-4 was written with 0\.001; continue with the same settings/,
    );
    const model = await tinyModel(t);
    const other = new SFTTrainer({
      model,
      trainDataset: rows.slice(1, 19),
      evalDataset: rows.slice(18, 22),
      config: { ...resumable, outputDir: folder },
    });
    await refuses(other.train(resume), /^The training examples are not those that .*checkpoint-4 was written with/);
    await refuses(
      (await makeTrainer(t, folder)).train({ resumeFromCheckpoint: path.join(folder, 'checkpoint-3') }),
      /is not a complete checkpoint .*; the nearest complete one is .*checkpoint-4\.$/,
    );
    assert.equal(checkpointsIn(folder).at(-1), 'checkpoint-4', 'nothing is lost');
  });
});

describe('kill -9', () => {
  const run = (outputDir: string, killAt: number): Promise<{ end: 'killed' | number | null; output: string }> =>
    new Promise((resolve) => {
      const child = spawn(process.execPath, [path.join(__dirname, 'resume-child.js'), outputDir, String(killAt)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.on('data', (piece) => {
        output += piece;
      });
      child.on('close', (code, signal) => {
        // Windows has no signals: who is killed there ends with 1
        const isKilled = signal === 'SIGKILL' || (process.platform === 'win32' && code === 1);
        resolve({ end: isKilled ? 'killed' : code, output });
      });
    });

  test('at any moment of writing loses nothing: the resumed run ends with the same weights and log', async (t) => {
    const unkilled = temporaryFolder(t);
    const { end, output } = await run(unkilled, 0);
    assert.equal(end, 0);
    const changes = Number(output);
    assert.ok(changes > 50, `${changes} changes to the file system`);
    const parted = temporaryFolder(t);
    // each time killed before another change, from run.json over the first checkpoint to the last one
    for (const killAt of [3, 9, 17, 24, 29, 33, 21, 38]) {
      assert.equal((await run(parted, killAt)).end, 'killed', `killed at change ${killAt}`);
    }
    assert.equal((await run(parted, 0)).end, 0);
    assert.equal(read(parted, 'metrics.jsonl'), read(whole, 'metrics.jsonl'));
    assert.equal(hashOfFile(parted, 'final', 'model.safetensors'), hashOfFile(unkilled, 'final', 'model.safetensors'));
    assert.deepEqual(
      fs.readdirSync(parted).filter((name) => name.startsWith('.')),
      [],
      'nothing unfinished is left',
    );
  });

  test('at some time of computing, too', async (t) => {
    const parted = temporaryFolder(t);
    for (const delay of [900, 1300]) {
      const child = spawn(process.execPath, [path.join(__dirname, 'resume-child.js'), parted, '0'], { stdio: 'ignore' });
      await new Promise<void>((resolve) => {
        child.on('close', () => resolve());
        setTimeout(() => child.kill('SIGKILL'), delay);
      });
    }
    assert.equal((await run(parted, 0)).end, 0);
    assert.equal(read(parted, 'metrics.jsonl'), read(whole, 'metrics.jsonl'));
  });
});

describe('checkpoints', () => {
  test('open as models', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { maxSteps: 2 });
    await trainer.train();
    const opened = await loadModel(path.join(folder, 'checkpoint-2'));
    t.after(() => opened.dispose());
    assert.deepEqual(await weightsOf(opened), await weightsOf(trainer.model));
  });

  test('beyond save_total_limit go, the oldest first', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder)).train();
    assert.deepEqual(checkpointsIn(folder), ['checkpoint-10', 'checkpoint-8']);
  });

  test('of later steps, which a run that went back to an earlier one has not reached again, are older than its own', async (t) => {
    const folder = temporaryFolder(t);
    fs.cpSync(whole, folder, { recursive: true, preserveTimestamps: true });
    const seen: string[][] = [];
    const looking: TrainerCallback = { onSave: () => void seen.push(checkpointsIn(folder)) };
    const again = await makeTrainer(t, folder, {}, [looking, stopAt(6)]);
    await again.train({ resumeFromCheckpoint: path.join(folder, 'checkpoint-2') });
    assert.deepEqual(seen, [
      ['checkpoint-2', 'checkpoint-4'],
      ['checkpoint-4', 'checkpoint-6'],
    ]);
  });

  test('that another program keeps from being removed do not end the run, stay whole, and go after the next save', async (t) => {
    const folder = temporaryFolder(t);
    const { renameSync } = fs;
    let refusals = 0;
    t.mock.method(fs, 'renameSync', (from: string, to: string) => {
      // the second checkpoint is to go when the fourth has been written
      if (path.basename(from) === 'checkpoint-4' && refusals++ === 0) throw Object.assign(new Error('busy'), { code: 'ENOTEMPTY' });
      renameSync(from, to);
    });
    const seen: string[][] = [];
    const looking: TrainerCallback = { onSave: () => void seen.push(checkpointsIn(folder)) };
    await (await makeTrainer(t, folder, {}, [looking])).train();
    assert.deepEqual(seen.slice(3), [
      ['checkpoint-4', 'checkpoint-6', 'checkpoint-8'],
      ['checkpoint-10', 'checkpoint-8'],
    ]);
    assert.equal(refusals, 2);
  });

  test('are written once an epoch, or never', async (t) => {
    const [byEpoch, never] = [temporaryFolder(t), temporaryFolder(t)];
    await (await makeTrainer(t, byEpoch, { saveStrategy: 'epoch', saveTotalLimit: null })).train();
    assert.deepEqual(checkpointsIn(byEpoch), ['checkpoint-10', 'checkpoint-5']);
    await (await makeTrainer(t, never, { saveStrategy: 'no', maxSteps: 2 })).train();
    assert.deepEqual(checkpointsIn(never), []);
  });

  // training makes the loss smaller, so where the greatest counts as the best, the first evaluation stays the best
  const worse: Partial<SFTConfig> = {
    greaterIsBetter: true,
    lrSchedulerType: 'constant',
    evalSteps: 2,
    maxSteps: 6,
    loadBestModelAtEnd: true,
  };
  test('the best stays although it is old, and its weights end the run', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { ...worse, saveTotalLimit: 1 });
    await trainer.train();
    const losses = trainer.log.flatMap(({ eval_loss: loss, step }) => (loss === undefined ? [] : [{ loss, step }]));
    const best = losses.reduce((a, b) => (b.loss > a.loss ? b : a));
    assert.equal(best.step, 2, `evaluations ${JSON.stringify(losses)}`);
    assert.deepEqual(checkpointsIn(folder), [`checkpoint-${best.step}`]);
    assert.ok(Math.abs((await trainer.evaluate()).eval_loss - best.loss) < 1e-6);
  });
  test('an evaluation at the start, of weights that no checkpoint holds, is never the best', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { ...worse, saveStrategy: 'best', evalOnStart: true });
    await trainer.train();
    const losses = trainer.log.flatMap(({ eval_loss: loss, step }) => (loss === undefined ? [] : [{ loss, step }]));
    assert.deepEqual(
      losses.map(({ step }) => step),
      [0, 2, 4, 6],
    );
    assert.ok(losses.slice(1).every(({ loss }) => loss < losses[0].loss));
    assert.deepEqual(checkpointsIn(folder), ['checkpoint-2']);
  });
  test('save_strategy best writes at each new best alone', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { ...worse, saveStrategy: 'best', saveTotalLimit: null });
    await trainer.train();
    let best = Number.NEGATIVE_INFINITY;
    const expected: string[] = [];
    for (const { eval_loss: loss, step } of trainer.log) {
      if (loss === undefined || loss <= best) continue;
      best = loss;
      expected.push(`checkpoint-${step}`);
    }
    assert.deepEqual(checkpointsIn(folder), expected.sort());
  });
});

describe('the folder of a run', () => {
  test('holds metrics.jsonl, one object a logged step, and run.json with configuration, versions and hashes', async (t) => {
    const folder = temporaryFolder(t);
    const trainer = await makeTrainer(t, folder, { maxSteps: 4 });
    const output = await trainer.train();
    const lines = read(folder, 'metrics.jsonl').trimEnd().split('\n');
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      trainer.log,
    );
    const record = JSON.parse(read(folder, 'run.json'));
    assert.equal(record.tool, 'tunebook');
    assert.equal(record.finished, true);
    assert.equal(record.config.learning_rate, 1e-3);
    assert.match(record.versions.node, /^v\d+/);
    assert.match(record.versions['onnxruntime-node'], /^\d+\./);
    assert.match(record.model.sha256['model.safetensors'], /^[0-9a-f]{64}$/);
    assert.match(record.dataset.sha256, /^[0-9a-f]{64}$/);
    assert.equal(record.dataset.examples, 18);
    assert.deepEqual(record.summary, output.metrics);
  });

  test('that holds something else is refused and left as it was, unless overwrite_output_dir', async (t) => {
    const folder = temporaryFolder(t);
    fs.writeFileSync(path.join(folder, 'thesis.txt'), 'years of work');
    await refuses(
      (await makeTrainer(t, folder, { maxSteps: 1 })).train(),
      /already holds something else \(thesis\.txt\); name an empty folder, or set overwriteOutputDir: true\.$/,
    );
    assert.deepEqual(fs.readdirSync(folder), ['thesis.txt']);
    await (await makeTrainer(t, folder, { maxSteps: 1, overwriteOutputDir: true })).train();
    assert.equal(read(folder, 'thesis.txt'), 'years of work');
  });

  test('is that of a finished run when all who listen to its end are done, such as who saves the model', async (t) => {
    const folder = temporaryFolder(t);
    const finished = () => JSON.parse(read(folder, 'run.json')).finished as boolean;
    let before: boolean | undefined;
    const failing: TrainerCallback = {
      onTrainEnd: () => {
        before = finished();
        throw new UserError('The disk is full.');
      },
    };
    await refuses((await makeTrainer(t, folder, { maxSteps: 4 }, [failing])).train(), /disk is full/);
    assert.deepEqual([before, finished()], [false, false]);
    await refuses((await makeTrainer(t, folder, { maxSteps: 4 })).train(), /holds an unfinished run with checkpoint-4/);
    await (await makeTrainer(t, folder, { maxSteps: 4 })).train({ resumeFromCheckpoint: true });
    assert.ok(finished());
  });

  test('that is the folder of a model is refused too', async (t) => {
    const folder = temporaryFolder(t);
    fs.cpSync(path.join(golden, 'llama', 'model'), folder, { recursive: true });
    await refuses((await makeTrainer(t, folder, { maxSteps: 1 })).train(), /already holds something else/);
  });

  test('that is a file is refused', async (t) => {
    const file = path.join(temporaryFolder(t), 'out');
    fs.writeFileSync(file, '');
    await refuses((await makeTrainer(t, file, { maxSteps: 1 })).train(), /outputDir .* is a file; name a folder/);
    await refuses((await makeTrainer(t, path.join(file, 'run'), { maxSteps: 1 })).train(), /a part of this path is a file, not a folder/);
  });

  test('with an unfinished run is not started over by accident', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder, {}, [stopAt(4)])).train();
    await refuses(
      (await makeTrainer(t, folder)).train(),
      /holds an unfinished run with checkpoint-4; continue it with resumeFromCheckpoint: true, start over with overwriteOutputDir: true/,
    );
    assert.deepEqual(checkpointsIn(folder), ['checkpoint-2', 'checkpoint-4']);
  });

  test('of a finished run may be used again; its old checkpoints go', async (t) => {
    const folder = temporaryFolder(t);
    await (await makeTrainer(t, folder)).train();
    await (await makeTrainer(t, folder, { maxSteps: 2 })).train();
    assert.deepEqual(checkpointsIn(folder), ['checkpoint-2']);
    assert.equal(read(folder, 'metrics.jsonl').trimEnd().split('\n').length, 1, 'the evaluation at the last step');
  });

  test('is not made before the run begins, and not needed', async (t) => {
    const folder = path.join(temporaryFolder(t), 'later');
    await makeTrainer(t, folder);
    assert.ok(!fs.existsSync(folder));
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(0, 4), config: { ...short, maxSteps: 1 } });
    await trainer.train();
  });
});

test('a loss that is not finite names the last good checkpoint', async (t) => {
  const folder = temporaryFolder(t);
  const trainer = await makeTrainer(t, folder, {
    learningRate: 1e30,
    maxGradNorm: 0,
    warmupSteps: 0,
    saveSteps: 1,
    lrSchedulerType: 'constant',
  });
  await refuses(
    trainer.train(),
    /^Step \d+: the (loss|gradient norm) is (NaN|-?Infinity).*gradients that are not clipped.*the last good checkpoint is .*checkpoint-\d+\.$/,
  );
});

test('a disk that fills up while a checkpoint is written is said in one sentence; earlier checkpoints stay', async (t) => {
  const folder = temporaryFolder(t);
  const trainer = await makeTrainer(t, folder, {}, [
    {
      onStepEnd: ({ step }) => {
        if (step !== 3) return;
        const open = t.mock.method(fsPromises, 'open', async () => {
          throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
        });
        t.after(() => open.mock.restore());
      },
    },
  ]);
  await refuses(trainer.train(), /^The disk is full: \S*[/\\]checkpoint-4 could not be saved/);
  assert.deepEqual(checkpointsIn(folder), ['checkpoint-2']);
  assert.deepEqual(
    fs.readdirSync(folder).filter((name) => name.startsWith('.')),
    [],
  );
});
