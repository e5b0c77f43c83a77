import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { type TestContext, test } from 'node:test';
import { UserError } from '../../lib/errors';
import { SFTTrainer } from '../../lib/train';
import { resumable, rows, temporaryFolder, tinyModel, weightsOf } from './support';

const DATED =
  '{{ strftime_now("%d %b %Y %H:%M:%S") }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}';
const conversations = rows.slice(0, 24).map(({ instruction, output }) => ({
  messages: [
    { role: 'user', content: instruction },
    { role: 'assistant', content: output },
  ],
}));
const NOW = Date.now();
const DAY = 864e5;

async function makeTrainer(t: TestContext, folder: string, { template = DATED, lastStep = 4 } = {}): Promise<SFTTrainer> {
  const chatTemplatePath = path.join(path.dirname(folder), 'dated.jinja');
  fs.writeFileSync(chatTemplatePath, template);
  return new SFTTrainer({
    model: await tinyModel(t),
    trainDataset: conversations,
    evalDataset: conversations.slice(0, 4),
    config: { ...resumable, maxSteps: 4, outputDir: folder, chatTemplatePath },
    callbacks: [{ onStepEnd: ({ step, stop }) => (step === lastStep ? stop() : undefined) }],
  });
}

/** Begins a run that is stopped after two of its four steps. */
async function begin(t: TestContext, folder: string): Promise<void> {
  await (await makeTrainer(t, folder, { lastStep: 2 })).train();
}

test('a run whose template writes the date goes on another day with the date that it began with', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: NOW });
  // one template for both: its path is a setting
  const folder = temporaryFolder(t);
  const [whole, parted] = [path.join(folder, 'whole'), path.join(folder, 'parted')];
  const reference = await makeTrainer(t, whole);
  await reference.train();
  await begin(t, parted);

  t.mock.timers.setTime(NOW + DAY + 5000);
  const resumed = await makeTrainer(t, parted);
  assert.notDeepEqual(resumed.trainItems, reference.trainItems);
  await resumed.train({ resumeFromCheckpoint: true });
  assert.deepEqual(resumed.trainItems, reference.trainItems);
  assert.deepEqual(resumed.evalItems, reference.evalItems);
  assert.deepEqual(resumed.log, reference.log);
  assert.deepEqual(await weightsOf(resumed.model), await weightsOf(reference.model));
});

test('a checkpoint that does not say when its run began is read, and refused only where a date differs', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: NOW });
  const folder = path.join(temporaryFolder(t), 'run');
  await begin(t, folder);
  const file = path.join(folder, 'checkpoint-2', 'trainer_state.json');
  const content = JSON.parse(fs.readFileSync(file, 'utf8'));
  assert.match(content.state.began, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/);
  delete content.state.began;
  fs.writeFileSync(file, JSON.stringify(content));
  t.mock.timers.setTime(NOW + DAY);
  const late = await makeTrainer(t, folder);
  const { trainItems } = late;
  await assert.rejects(
    late.train({ resumeFromCheckpoint: true }),
    (error) => error instanceof UserError && /training examples are not those .*or a date that it writes changed/.test(error.message),
  );
  assert.equal(late.trainItems, trainItems);
  t.mock.timers.setTime(NOW);
  assert.equal((await (await makeTrainer(t, folder)).train({ resumeFromCheckpoint: true })).globalStep, 4);
});

test('other examples than those of the checkpoint are refused on another day, too, and stay those of today', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: NOW });
  const folder = path.join(temporaryFolder(t), 'run');
  await begin(t, folder);
  t.mock.timers.setTime(NOW + DAY);
  const other = await makeTrainer(t, folder, { template: `${DATED}.` });
  const { trainItems } = other;
  await assert.rejects(other.train({ resumeFromCheckpoint: true }), /training examples are not those that/);
  assert.equal(other.trainItems, trainItems);
});
