/** A template that a model is trained with is its own from then on, as in TRL. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { before, type TestContext, test } from 'node:test';
import { useDevice } from '../../lib/engine';
import { exportModel, loadModel, saveModel } from '../../lib/model';
import { formatExample, loadTokenizer } from '../../lib/text';
import { SFTTrainer } from '../../lib/train';
import { conversations, golden, readJsonFile, short, temporaryFolder, tinyModel } from './support';

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

const CHATML =
  '{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}' +
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';

/** A folder with the golden tokenizer as that of a chat model. */
function chatTokenizer(t: TestContext, changes: object = {}): string {
  const folder = path.join(temporaryFolder(t), 'chat');
  mkdirSync(folder);
  const files = ['tokenizer.json', 'tokenizer_config.json'];
  for (const name of files) cpSync(path.join(golden, 'llama', 'model', name), path.join(folder, name));
  const config = readJsonFile<object>(folder, 'tokenizer_config.json');
  const chat = { eos_token: '<|im_end|>', chat_template: CHATML, ...changes };
  writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify({ ...config, ...chat }));
  return folder;
}

/** loss, grad_norm and num_tokens of TRL 1.13 with `chat_template_path` a folder with that tokenizer, on the rows below in their order. */
const TRL = [
  [7.121921062469482, 2.199521064758301, 140],
  [7.041214942932129, 1.7534538507461548, 485],
  [6.986578464508057, 1.9186830520629883, 627],
];

test("with the chat template and the EOS token of another tokenizer training takes TRL's steps", async (t) => {
  const model = await loadModel(path.join(golden, 'llama', 'model'), { chatTemplateFrom: chatTokenizer(t) });
  t.after(() => model.dispose());
  const config = {
    ...{ maxSteps: 3, perDeviceTrainBatchSize: 2, learningRate: 1e-3, lrSchedulerType: 'constant' as const },
    ...{ trainSamplingStrategy: 'sequential' as const, loggingSteps: 1, disableTqdm: true },
  };
  const trainer = new SFTTrainer({ model, trainDataset: conversations, config });
  await trainer.train();
  for (const [i, [loss, norm, tokens]] of TRL.entries()) {
    const found = trainer.log[i];
    assert.ok(Math.abs((found.loss as number) - loss) < 1e-4, `${found.loss}`);
    assert.ok(Math.abs((found.grad_norm as number) - norm) < 1e-3 * norm, `${found.grad_norm}`);
    assert.equal(found.num_tokens, tokens);
  }
  const folder = path.join(temporaryFolder(t), 'saved');
  await saveModel(model, folder);
  const saved = await loadTokenizer(folder);
  assert.deepEqual([saved.eosToken, saved.applyChatTemplate([messages[0]])], ['<|im_end|>', '<|im_start|>user\nHi<|im_end|>\n']);
  assert.equal(readJsonFile<{ eos_token_id: number }>(folder, 'config.json').eos_token_id, 3);
});

test('of several templates the default one is taken', async (t) => {
  const chat_template = [
    { name: 'tool_use', template: 'tools' },
    { name: 'default', template: 'plain' },
  ];
  const tokenizer = await loadTokenizer(path.join(golden, 'llama', 'model'), { chatTemplateFrom: chatTokenizer(t, { chat_template }) });
  assert.equal(tokenizer.applyChatTemplate(messages), 'plain');
});

test('a template that is not there is refused', async (t) => {
  const llama = path.join(golden, 'llama', 'model');
  const refuses = (chatTemplateFrom: string, why: RegExp) => assert.rejects(loadModel(llama, { chatTemplateFrom }), why);
  await refuses(chatTokenizer(t, { chat_template: null }), /tokenizer of .*chat has no chat template to take/);
  await refuses(path.join(temporaryFolder(t), 'nowhere'), /chat template of .*nowhere, which is no folder here, cannot be had: /);
  const model = await tinyModel(t);
  const options = { model, trainDataset: [{ messages }], config: { ...short, chatTemplatePath: 'org/chat' } };
  assert.throws(() => new SFTTrainer(options), /"org\/chat", which is no file with a Jinja template; .* chatTemplateFrom: "org\/chat"/);
});
