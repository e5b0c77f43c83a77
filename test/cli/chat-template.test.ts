import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { goldenModel, put, tunebookJson, workFolder } from './support';

test('chat_template_path of a recipe may name another tokenizer, whose template and EOS token the model is saved with', async (t) => {
  const folder = workFolder(t);
  const chat = path.join(folder, 'chat');
  mkdirSync(chat);
  cpSync(path.join(goldenModel, 'tokenizer.json'), path.join(chat, 'tokenizer.json'));
  const template = '{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}';
  put(chat, 'tokenizer_config.json', JSON.stringify({ eos_token: '<|im_end|>', chat_template: template }));
  const messages = [
    { role: 'user', content: 'Hi' },
    { role: 'assistant', content: 'Hello' },
  ];
  const data = put(folder, 'rows.jsonl', JSON.stringify({ messages }));
  const recipe = put(folder, 'recipe.yaml', `model_name_or_path: ${goldenModel}\ndataset_name: ${data}\nchat_template_path: chat\n`);
  const words = ['sft', '--config', recipe, '--output_dir', 'out', '--max_steps', '1'];
  await tunebookJson(words, { cwd: folder });
  assert.equal(readFileSync(path.join(folder, 'out', 'chat_template.jinja'), 'utf8'), template);
  const config = JSON.parse(readFileSync(path.join(folder, 'out', 'tokenizer_config.json'), 'utf8')) as { eos_token: string };
  assert.equal(config.eos_token, '<|im_end|>');
  const { config: settings } = JSON.parse(readFileSync(path.join(folder, 'out', 'run.json'), 'utf8')) as {
    config: Record<string, unknown>;
  };
  assert.equal(settings.chat_template_path, 'chat');
});
