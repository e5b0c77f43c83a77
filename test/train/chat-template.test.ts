/** A template that a model is trained with is its own from then on, as in TRL. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { exportModel, saveModel } from '../../lib/model';
import { formatExample, loadTokenizer } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';
import { readJsonFile, short, temporaryFolder, tinyModel } from './support';

before(async () => {
  await useDevice('cpu');
});

const messages = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
];
const written = '[user]Hi[assistant]Hello';

test('the template of chat_template_path goes with the model into checkpoints and wherever it is saved or exported', async (t) => {
  const folder = temporaryFolder(t);
  const template = path.join(folder, 'template.jinja');
  writeFileSync(template, '{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}');
  const model = await tinyModel(t);
  const config = { ...short, maxSteps: 1, outputDir: path.join(folder, 'run'), chatTemplatePath: template };
  const trainer = new SFTTrainer({ model, trainDataset: [{ messages }], config });
  await trainer.train();
  assert.ok(model.tokenizer.hasChatTemplate);
  assert.deepEqual(formatExample({ messages }, model.tokenizer), { prompt: '[user]Hi', completion: '[assistant]Hello' });
  await trainer.saveModel(path.join(folder, 'saved'));
  await saveModel(model, path.join(folder, 'also'));
  await exportModel(model, path.join(folder, 'exported'), { dtypes: ['fp32'] });
  for (const saved of ['saved', 'also', 'exported', path.join('run', 'checkpoint-1')]) {
    const tokenizer = await loadTokenizer(path.join(folder, saved));
    assert.equal(tokenizer.applyChatTemplate(messages), written, saved);
  }
  const { chat_template: inConfig } = readJsonFile<{ chat_template: string }>(folder, 'exported', 'tokenizer_config.json');
  assert.equal(inConfig, readFileSync(template, 'utf8'), 'where transformers.js reads it');
});

test('a run that is refused leaves the tokenizer as it was', async (t) => {
  const folder = temporaryFolder(t);
  const template = path.join(folder, 'template.jinja');
  writeFileSync(template, '{{ messages }}');
  const model = await tinyModel(t);
  const before = model.tokenizer.hasChatTemplate;
  const options = { model, trainDataset: [{ messages }], peftConfig: { r: 0 }, config: { ...short, chatTemplatePath: template } };
  assert.throws(() => new SFTTrainer(options));
  assert.equal(model.tokenizer.hasChatTemplate, before);
  assert.ok(!model.tokenizer.files.has('chat_template.jinja'));
});
