import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { goldenModel, put, tunebook, tunebookJson, workFolder } from './support';

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

test('tokens that the vocabulary lacks come with the template, and an adapter holds their rows', async (t) => {
  const folder = workFolder(t);
  const data = put(
    folder,
    'rows.jsonl',
    JSON.stringify({
      messages: [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello' },
      ],
    }),
  );
  const chat = path.join(projectRoot, 'test/train/fixtures/chat-tokens');
  const words = ['sft', '--model', goldenModel, '--data', data, '--chat_template_path', chat, '--max_steps', '1', '--use_peft'];
  const { stderr } = await tunebook([...words, '--output_dir', 'out'], { cwd: folder });
  assert.match(stderr, /The vocabulary has new tokens with the chat template, as in TRL: <\|turn\|>, <\|end_of_turn\|>/);
  assert.match(stderr, /The adapter trains the rows of the 64 new tokens, as in TRL\./);
  const { trainable_token_indices } = JSON.parse(readFileSync(path.join(folder, 'out', 'adapter_config.json'), 'utf8')) as {
    trainable_token_indices: Record<string, number[]>;
  };
  assert.deepEqual(trainable_token_indices, { embed_tokens: Array.from({ length: 64 }, (_, i) => 1024 + i) });
  await tunebookJson(['merge', '--model', 'out', '--output_dir', 'merged'], { cwd: folder });
  const text = ['--text', '<|turn|>user'];
  const [tuned, merged] = [
    await tunebookJson<{ loss: number }>(['score', '--model', 'out', ...text], { cwd: folder }),
    await tunebookJson<{ loss: number }>(['score', '--model', 'merged', ...text], { cwd: folder }),
  ];
  assert.ok(Math.abs(merged.loss - tuned.loss) < 1e-5, `${merged.loss}, ${tuned.loss}`);
});
