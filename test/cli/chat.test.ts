import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { copyOfModel, goldenModel, refuses, tunebook, tunebookJson, workFolder } from './support';

interface Chat {
  template: string;
  messages: Array<{ role: string; content: string }>;
}

const base = path.join(projectRoot, 'data/base');

test('each line is answered, with what was said before, until there are no more', async () => {
  const chat = ['chat', '--model', base, '--max_new_tokens', '6'];
  const input = 'Hello.\n\nWhat is a bird?\n';
  const { template, messages } = await tunebookJson<Chat>(chat, { input });
  assert.equal(template, 'chat');
  assert.deepEqual(
    messages.map(({ role }) => role),
    ['user', 'assistant', 'user', 'assistant'],
  );
  const [first, answer, second, last] = messages.map(({ content }) => content);
  assert.deepEqual([first, second], ['Hello.', 'What is a bird?']);
  const { code, stdout } = await tunebook(chat, { input });
  assert.equal(code, 0);
  assert.equal(stdout, `${answer}\n${last}\n`);
  // the second message alone is another conversation
  const alone = await tunebookJson<Chat>(chat, { input: 'Hello.\n/new\nWhat is a bird?\n/exit\nHello.\n' });
  assert.equal(alone.messages.length, 2);
  assert.equal(alone.messages[0].content, 'What is a bird?');
  assert.notEqual(alone.messages[1].content, last);
});

test('help and unknown commands are answered by the program, not the model', async () => {
  const { code, stdout, stderr } = await tunebook(['chat', '--model', goldenModel, '--max_new_tokens', '2', '--json'], {
    input: '/help\n/quit\n /quit\n/tmp/file is what?\n',
  });
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^\/new begins anew, \/exit or Ctrl-D ends, .*shows this\.$/m);
  assert.match(stderr, /^\/quit is no command: \/new begins anew, .* A message of this one word begins with a space\.$/m);
  const { messages } = JSON.parse(stdout) as Chat;
  assert.deepEqual(
    messages.filter(({ role }) => role === 'user').map(({ content }) => content),
    ['/quit', '/tmp/file is what?'],
  );
});

test('says that what is for drawing does nothing where nothing is drawn', async () => {
  const chat = ['chat', '--model', goldenModel, '--top_p', '0.9'];
  assert.match((await tunebook(chat, { input: '' })).stderr, /^--top_p has no effect: with temperature 0 the most likely token is taken;/m);
  assert.doesNotMatch((await tunebook([...chat, '--temperature', '0.5'], { input: '' })).stderr, /no effect/);
});

test('a model without a chat template gets each message by itself, in the Alpaca template', async () => {
  const chat = ['chat', '--model', goldenModel, '--max_new_tokens', '4'];
  const { template, messages } = await tunebookJson<Chat>(chat, { input: 'One.\nTwo.\n' });
  assert.equal(template, 'alpaca');
  const generate = ['generate', '--model', goldenModel, '--max_new_tokens', '4', '--template', 'alpaca', '--prompt', 'Two.'];
  const { text } = await tunebookJson<{ text: string }>(generate);
  assert.equal(messages[3].content, text);
  const { stderr } = await tunebook(chat, { input: '' });
  assert.match(stderr, /by the template alpaca, so each message stands by itself/);
});

test('a system message is there from the beginning, and again after /new', async () => {
  const chat = ['chat', '--model', base, '--system', 'Be kind.', '--max_new_tokens', '2'];
  const { messages } = await tunebookJson<Chat>(chat, { input: 'Hello.\n/new\nHi.\n' });
  assert.deepEqual(
    messages.map(({ role, content }) => (role === 'assistant' ? role : content)),
    ['Be kind.', 'Hi.', 'assistant'],
  );
  await refuses(['chat', '--model', goldenModel, '--system', 'Be kind.'], /--system "Be kind\." has no place in the template alpaca/);
});

test('a chat template that is not there, or refuses the system message, is told before the first message', async (t) => {
  const asked = { input: 'Hello.\n' };
  await refuses(['chat', '--model', goldenModel, '--template', 'chat'], /has no chat template/, asked);
  const model = copyOfModel(workFolder(t));
  const template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{{ messages[0].content }}";
  writeFileSync(path.join(model, 'chat_template.jinja'), template);
  const chat = ['chat', '--model', model, '--max_new_tokens', '2'];
  await refuses(
    [...chat, '--system', 'Be kind.'],
    /cannot write this conversation \(roles system, user\): no system here; without the system message it can, so leave that out/,
    asked,
  );
  const { messages } = await tunebookJson<Chat>(chat, asked);
  assert.equal(messages.length, 2);
});

test('what cannot be answered is said in one sentence, and the conversation goes on without it', async (t) => {
  const folder = workFolder(t);
  const model = copyOfModel(folder);
  const file = path.join(model, 'config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), max_position_embeddings: 60 }));
  const long = 'word '.repeat(80);
  const { code, stdout, stderr } = await tunebook(['chat', '--model', model, '--json', '--template', 'none'], {
    input: `Hi.\n${long}\nOh.\n`,
  });
  assert.equal(code, 0, stderr);
  assert.match(
    stderr,
    /A text of \d+ tokens is longer than the 60 that the model can read; shorten it\. \(\/new begins a new conversation\.\)/,
  );
  const { messages } = JSON.parse(stdout) as Chat;
  assert.deepEqual(
    messages.filter(({ role }) => role === 'user').map(({ content }) => content),
    ['Hi.', 'Oh.'],
  );
});

test('at a terminal each message is asked for, but none after the end, even if that is typed while an answer is written', async () => {
  const chat = ['chat', '--model', goldenModel, '--max_new_tokens', '4'];
  const { messages } = await tunebookJson<Chat>(chat, { input: 'One.\n' });
  const env = { NODE_OPTIONS: '--import=data:text/javascript,process.stdin.isTTY=true' };
  const { code, stdout, stderr } = await tunebook(chat, { input: 'One.\n', env });
  assert.equal(code, 0, stderr);
  assert.equal(stdout, `> ${messages[1].content}\n`);
  const nothing = await tunebook(chat, { input: '', env });
  assert.equal(nothing.stdout, '> \n');
});
