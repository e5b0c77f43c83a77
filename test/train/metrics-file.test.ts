import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type LogRecord, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { MetricsFile } from '../../lib/train/metrics-file';
import { rows, short, temporaryFolder, tinyModel } from './support';

const record = (step: number): LogRecord => ({ loss: 1 / step, epoch: step, step });
const linesOf = (folder: string): LogRecord[] =>
  fs
    .readFileSync(path.join(folder, 'metrics.jsonl'), 'utf8')
    .split(/(?<=\n)/)
    .map((line) => {
      assert.ok(line.endsWith('\n'), 'no half line');
      return JSON.parse(line) as LogRecord;
    });

/** From now on a line is written by half, and then the disk is full. */
function fillDisk(t: TestContext, code = 'ENOSPC') {
  return t.mock.method(fs, 'appendFileSync', (file: string, line: string) => {
    fs.writeFileSync(file, line.slice(0, 10), { flag: 'a' });
    throw Object.assign(new Error('no space left on device'), { code });
  });
}

for (const saveSteps of [4, 500]) {
  test(`a line that a full disk does not take is written later, with all others (save_steps ${saveSteps})`, async (t) => {
    const outputDir = temporaryFolder(t);
    const notes: string[] = [];
    const atSave: number[] = [];
    let disk: ReturnType<typeof fillDisk> | undefined;
    const listener: TrainerCallback = {
      onStepEnd: ({ step }) => {
        if (step === 3) disk = fillDisk(t);
        if (step === 4) {
          assert.deepEqual(
            linesOf(outputDir).map((line) => line.step),
            [1, 2],
          );
          disk?.mock.restore();
        }
      },
      onSave: () => void atSave.push(linesOf(outputDir).length),
      onNote: (line) => void (line.includes('metrics.jsonl') && notes.push(line)),
    };
    const config = { ...short, outputDir, saveSteps };
    const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(0, 8), config, callbacks: [listener] });
    const { stopped } = await trainer.train();
    assert.equal(stopped, false);
    assert.deepEqual(linesOf(outputDir), trainer.log);
    assert.deepEqual(atSave, saveSteps === 4 ? [4, 6] : [6]);
    assert.equal(notes.length, 1);
    assert.match(
      notes[0],
      /^The disk is full: .*metrics\.jsonl cannot take the line of step 3; the run goes on without it, and the file is written whole when/,
    );
  });
}

test('a run that ends with an error leaves its whole log too', async (t) => {
  const outputDir = temporaryFolder(t);
  const listener: TrainerCallback = {
    onLog: ({ step }) => {
      if (step === 3) throw new Error('the listener');
    },
    onStepEnd: ({ step }) => void (step === 2 && fillDisk(t)),
  };
  const config = { ...short, outputDir };
  const trainer = new SFTTrainer({ model: await tinyModel(t), trainDataset: rows.slice(0, 8), config, callbacks: [listener] });
  await assert.rejects(trainer.train(), /the listener/);
  assert.deepEqual(linesOf(outputDir), trainer.log);
  assert.equal(trainer.log.length, 3);
});

test('a disk that stays full is said once, and the file keeps its whole lines', (t) => {
  for (const code of ['ENOSPC', 'EDQUOT', 'EIO']) {
    const folder = temporaryFolder(t);
    const log = [1, 2, 3, 4].map(record);
    const file = new MetricsFile(folder, log.slice(0, 1));
    const disk = fillDisk(t, code);
    const write = t.mock.method(fs, 'writeSync', () => {
      throw Object.assign(new Error('no space left on device'), { code });
    });
    t.after(() => write.mock.restore());
    disk.mock.mockImplementation(() => {
      throw Object.assign(new Error('no space left on device'), { code });
    });
    assert.match(file.append(log[1]) ?? '', /the run goes on/);
    file.catchUp(log.slice(0, 2));
    assert.equal(file.append(log[2]), undefined);
    disk.mock.restore();
    write.mock.restore();
    assert.deepEqual(linesOf(folder), log.slice(0, 1));
    file.catchUp(log.slice(0, 3));
    assert.equal(file.append(log[3]), undefined);
    assert.deepEqual(linesOf(folder), log);
  }
});

test('another fault of the file ends the run', (t) => {
  const file = new MetricsFile(temporaryFolder(t), []);
  fillDisk(t, 'EACCES');
  assert.throws(() => file.append(record(1)), { name: 'UserError', message: /metrics\.jsonl could not be saved: no permission/ });
});
