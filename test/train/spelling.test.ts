/** What a trainer says names settings as its configuration does. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { UserError } from '../../lib/errors';
import { type SFTConfig, SFTTrainer, type SFTTrainerOptions } from '../../lib/train';
import { rows, temporaryFolder, tinyModel } from './support';

const silent = { disableTqdm: true };

test('a refusal names a setting as it was written', async (t) => {
  const model = await tinyModel(t);
  const refused = (config: object, sentence: RegExp, others: Partial<SFTTrainerOptions> = {}): void =>
    assert.throws(() => new SFTTrainer({ model, trainDataset: rows, config, ...others }), {
      name: 'UserError',
      message: sentence,
    });
  refused({ maxSteps: 0 }, /^maxSteps is 0, but must be at least 1, or -1 so that numTrainEpochs decides\.$/);
  refused({ max_steps: 0 }, /^max_steps is 0, .* num_train_epochs decides\.$/);
  refused({ ...silent, maxLength: 4 }, /the prompt alone fills maxLength 4 .*raise maxLength.* dropFullyMasked: true leaves/);
  refused({ disable_tqdm: true, max_length: 4 }, /the prompt alone fills max_length 4 /);
  refused({ evalStrategy: 'steps' }, /^evalStrategy is steps, .* set evalStrategy: 'no'\.$/);
  refused({ lr: 1e-4 }, /^lr is no setting here; write learningRate\.$/);
  refused({ maxSeqLength: 512 }, /^maxSeqLength is the former name of a setting; write maxLength\.$/);
  refused({ chatTemplatePath: 'max_length' }, /^chatTemplatePath is "max_length", which is no file/);
  refused({ ...silent, dataloaderDropLast: true, perDeviceTrainBatchSize: 999 }, /^dataloaderDropLast .* perDeviceTrainBatchSize\.$/);
});

test('a folder is named in a refusal as it is called', async (t) => {
  const model = await tinyModel(t);
  const outputDir = path.join(temporaryFolder(t), 'output_dir');
  mkdirSync(outputDir);
  writeFileSync(path.join(outputDir, 'max_length'), '');
  const config: Partial<SFTConfig> = { ...silent, maxSteps: 1, outputDir };
  const told: unknown[] = [];
  const callbacks = [{ onTrainError: (_: unknown, error: unknown) => void told.push(error) }];
  const trainer = new SFTTrainer({ model, trainDataset: rows.slice(0, 4), config, callbacks });
  await assert.rejects(trainer.train(), (error: Error) => {
    assert.ok(error instanceof UserError);
    assert.match(error.message, /^outputDir \S+output_dir already holds something else .* set overwriteOutputDir: true\.$/);
    return told[0] === error;
  });
});

test('so do notes, and an evaluation of other examples', async (t) => {
  const model = await tinyModel(t);
  const config = { ...silent, dropFullyMasked: true, maxLength: 100, lossType: 'dft', labelSmoothingFactor: 0.1 } as const;
  const trainer = new SFTTrainer({ model, trainDataset: rows, config });
  assert.ok(trainer.notes.includes('labelSmoothingFactor has no effect: lossType dft takes none.'), trainer.notes.join('\n'));
  assert.match(trainer.notes.join('\n'), /^\d+ of \d+ examples have nothing left to learn within maxLength /m);
  const strict = new SFTTrainer({ model, trainDataset: rows, config: { ...silent, maxLength: 512 } });
  const long = { instruction: 'long '.repeat(600), input: '', output: 'Yes.' };
  await assert.rejects(strict.evaluate([long]), (error: Error) => {
    assert.match(error.message, /the prompt alone fills maxLength 512 /);
    // which is what a cell shows
    return error.stack?.includes(error.message) ?? false;
  });
});
