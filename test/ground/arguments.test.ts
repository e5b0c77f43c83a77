import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { loadDataset } from '../../lib/data';
import { useDevice } from '../../lib/engine';
import { exactMatch, perplexity } from '../../lib/evaluate';
import { loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { SFTTrainer } from '../../lib/train';

const directory = path.join(projectRoot, 'test/golden/llama/model');
const file = path.join(projectRoot, 'test/golden/rows.json');

/** As plain JavaScript calls them: with anything. */
const untyped = {
  trainer: (options?: unknown) => new SFTTrainer(options as ConstructorParameters<typeof SFTTrainer>[0]),
  perplexity: perplexity as (...given: unknown[]) => Promise<unknown>,
  exactMatch: exactMatch as (...given: unknown[]) => Promise<unknown>,
  loadDataset: loadDataset as (...given: unknown[]) => Promise<unknown>,
};

const says = (message: RegExp | string): { name: string; message: RegExp | string } => ({ name: 'UserError', message });

before(() => useDevice('cpu'));

test('options that a function does not have are refused, with what was meant', async () => {
  const model = await loadModel(directory);
  const trainDataset = (await loadDataset(file)).take(8);
  const whole = { model, trainDataset, config: { maxSteps: 1 } };
  assert.throws(() => untyped.trainer({ ...whole, args: {} }), says('args is no option of SFTTrainer; write config.'));
  assert.throws(() => untyped.trainer({ ...whole, eval_dataset: [] }), says('eval_dataset is no option of SFTTrainer; write evalDataset.'));
  assert.throws(
    () => untyped.trainer({ ...whole, max_steps: 5 }),
    says('max_steps is no option of SFTTrainer; write config: { maxSteps: ... }.'),
  );
  assert.throws(
    () => untyped.trainer({ ...whole, toString5: 5 }),
    says(/^toString5 is no option of SFTTrainer; there are model, trainDataset,/),
  );
  assert.throws(() => untyped.trainer(), says(/^The options of SFTTrainer are missing, but a table/));
  const trainer = untyped.trainer({ ...whole, evalDataset: undefined, someday: undefined });
  await assert.rejects(
    trainer.train({ resume_from_checkpoint: true } as object),
    says(/^resume_from_checkpoint is no option of train; write resumeFrom/),
  );
  await assert.rejects(
    untyped.perplexity(model, 'text', { max_length: 5 }),
    says('max_length is no option of perplexity; write maxLength.'),
  );
  await assert.rejects(untyped.loadDataset(file, { name: 'main' }), says('name is no option of loadDataset; write config.'));
  model.dispose();
});

test('what is no model and no data is refused, with how to load it', async () => {
  const model = await loadModel(directory);
  const unwaited = loadDataset(file);
  const isAwaited = /^The \w+ of \w+ is a promise, which await was left out for; give .*what await load\w+\(\.\.\.\) returns\.$/;
  assert.throws(() => untyped.trainer({ model: Promise.resolve(model), trainDataset: [] }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model, trainDataset: unwaited }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model, trainDataset: [], evalDataset: unwaited }), says(isAwaited));
  assert.throws(() => untyped.trainer({ model }), says(/^The trainDataset of SFTTrainer is missing; give rows, or what await loadDataset/));
  assert.throws(
    () => untyped.trainer({ model: 'data/base', trainDataset: [] }),
    says('The model of SFTTrainer is the text "data/base"; give what await loadModel("data/base") returns.'),
  );
  assert.throws(
    () => untyped.trainer({ model, trainDataset: file }),
    says(/^The trainDataset of SFTTrainer is the text ".*rows\.json"; give rows, or/),
  );
  const trainer = untyped.trainer({ model, trainDataset: (await unwaited).take(2), config: { maxSteps: 1 } });
  await assert.rejects(trainer.evaluate(unwaited as unknown as []), says(isAwaited));
  for (const measure of [untyped.perplexity, untyped.exactMatch]) {
    await assert.rejects(measure(model, unwaited), says(isAwaited));
    await assert.rejects(measure(Promise.resolve(model), []), says(isAwaited));
  }
  await assert.rejects(untyped.exactMatch(model, file), says(/^The rows of exactMatch is/));
  model.dispose();
});

test('the path of a file is not scored as a text', async () => {
  const model = await loadModel(directory);
  await assert.rejects(
    perplexity(model, file),
    says(/^perplexity takes ".*rows\.json", which is the path of a file, as a text; give await loadDataset\(".*rows\.json"\), or a list/),
  );
  assert.ok((await perplexity(model, [file])).numTokens > 0);
  assert.ok((await perplexity(model, projectRoot)).numTokens > 0);
  model.dispose();
});
