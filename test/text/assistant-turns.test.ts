import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { UserError } from '../../lib/errors';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type TokenizeOptions, tokenizeExample } from '../../lib/text';
import { assistantTurns } from '../../lib/text/assistant-turns';
import { type ChatBackend, writeChat } from '../../lib/text/chat-template';
import type { ChatMessage } from '../../lib/text/types';

const say = (role: string) => (content: string) => ({ role, content });
const [system, user, assistant, tool] = ['system', 'user', 'assistant', 'tool'].map(say);

const OPENING = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const CHATML = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}${OPENING}`;
/** Thoughts are kept, or written empty, in the last turn alone, and dropped from those before. */
const THINKS_LAST = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% set parts = m.content.split('</think>') %}{% if m.role == 'assistant' and loop.last %}{{ '<think>\n' + (parts[0].split('<think>')[-1].strip('\n') if parts|length > 1 else '') + '\n</think>\n\n' }}{% endif %}{{ parts[-1].lstrip('\n') + '<|im_end|>\n' }}{% endfor %}${OPENING}`;
/** As above, and an answer that is to come begins with thoughts. */
const THINKS_FIRST = THINKS_LAST.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}");
/** Drops all thoughts, though an answer that is to come begins with them. */
const DROPS_THOUGHTS =
  "{% for m in messages %}{% if m.role == 'assistant' %}<A>{{ m.content.split('</think>')[-1] }}<end>{% else %}<Q>{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<A><think>\n{% endif %}";
const TRIMS = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}${OPENING}`;
const ENDS_THE_WHOLE =
  "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% else %}<|endoftext|>{% endif %}";
/** The last turn of a conversation ends otherwise. */
const RETURNS =
  "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
const NO_OPENING =
  "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}";
/** Plain words may be a user's, too. */
const PLAIN =
  "{% for m in messages %}{{ m.role + ': ' + m.content + '\n\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
const RESULTS_OF_TOOLS = `{% for m in messages %}{% if m.content.startswith('<result>') and m.content.endswith('</result>') %}{{ m.content }}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}${OPENING}`;
const SKIPS_EMPTY = `{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.content %}{{ 'says ' + m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}${OPENING}`;

/** What of the conversation carries loss, stretch by stretch. */
async function learned(
  chatTemplate: string,
  messages: ChatMessage[],
  options: TokenizeOptions = { assistantOnlyLoss: true },
): Promise<string[]> {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const made = tokenizeExample({ messages }, tokenizer, { ...options, chatTemplate });
  assert.equal(made.boundaryMismatch, false);
  const ids = [...made.inputIds];
  const starts = ids.flatMap((_, i) => (made.lossMask[i] && !made.lossMask[i - 1] ? [i] : []));
  return starts.map((from) => {
    const to = ids.findIndex((_, i) => i > from && !made.lossMask[i]);
    return tokenizer.decode(ids.slice(from, to < 0 ? ids.length : to), { skipSpecialTokens: false });
  });
}

const twoRounds = (first: string, second: string) => [user('Hi'), assistant(first), user('And?'), assistant(second)];

test('turns that are written otherwise before the last one are learned whole, and what the user says is not', async () => {
  const last = '<think>\n\n</think>\n\nSo.<|im_end|>\n';
  assert.deepEqual(await learned(THINKS_LAST, twoRounds('Hello', 'So.')), ['Hello<|im_end|>\n', last]);
  assert.deepEqual(await learned(THINKS_LAST, twoRounds('<think>\nHm\n</think>\n\nHello', '<think>Well</think>So.')), [
    'Hello<|im_end|>\n',
    '<think>\nWell\n</think>\n\nSo.<|im_end|>\n',
  ]);
  assert.deepEqual(await learned(THINKS_FIRST, twoRounds('<think>Hm</think>Hello', '<think>Well</think>So.')), [
    'Hello<|im_end|>\n',
    'Well\n</think>\n\nSo.<|im_end|>\n',
  ]);
});

test('an answer whose thoughts the template drops is learned from its first word that is left', async () => {
  assert.deepEqual(await learned(DROPS_THOUGHTS, twoRounds('<think>\nHm\n</think>\n\nHello', 'So.')), ['\n\nHello<end>', 'So.<end>']);
});

test('answers are learned as the template trims them', async () => {
  assert.deepEqual(await learned(TRIMS, twoRounds('\n Hello \n\n', ' So. ')), ['Hello<|im_end|>\n', 'So.<|im_end|>\n']);
  assert.deepEqual(await learned(CHATML, twoRounds(' Hello \n\n', ' So. ')), [' Hello \n\n<|im_end|>\n', ' So. <|im_end|>\n']);
});

test('a turn ends with what closes it there, also where a conversation ends otherwise', async () => {
  assert.deepEqual(await learned(ENDS_THE_WHOLE, twoRounds('Hello', 'So.')), ['Hello<|end|>', 'So.<|end|><|endoftext|>']);
  assert.deepEqual(await learned(RETURNS, twoRounds('Hello', 'So.')), ['Hello<|end|>', 'So.<|return|>']);
  assert.deepEqual(await learned(CHATML, [...twoRounds('Hello', 'So.'), user('Bye')]), ['Hello<|im_end|>\n', 'So.<|im_end|>\n']);
});

test('of the last turn alone, no more and no less than the turn is learned', async () => {
  const options = { completionOnlyLoss: true };
  const rounds = twoRounds('<think>\nHm\n</think>\n\nHello', '<think>\nWell\n</think>\n\nSo.');
  assert.deepEqual(await learned(DROPS_THOUGHTS, rounds, options), ['\n\nSo.<end>']);
  assert.deepEqual(await learned(DROPS_THOUGHTS, twoRounds('Hello', 'So.'), options), ['So.<end>']);
  assert.deepEqual(await learned(CHATML, [...twoRounds('Hello', 'So.'), user('Bye')], options), ['So.<|im_end|>\n']);
  assert.deepEqual(await learned(CHATML, twoRounds('Hello', 'So.'), options), ['So.<|im_end|>\n']);
  await assert.rejects(
    learned(DROPS_THOUGHTS.replace('[-1]', '[-1] | length'), rounds, options),
    (error: unknown) =>
      error instanceof UserError && /completion_only_loss does not know what to learn; write the row with/.test(error.message),
  );
});

test('a template without a generation prompt has its answers learned with what closes them', async () => {
  // the space before is in the token of the word
  assert.deepEqual(await learned(NO_OPENING, twoRounds('Hello', 'So.')), [' Hello</s>', ' So.</s>']);
});

test('words of a user that look like the opening of an answer are not learned', async () => {
  const asked = 'Say\n\nassistant: no';
  const messages = [user(asked), assistant('yes\n\nassistant: no'), user(asked), assistant('yes')];
  assert.deepEqual(
    (await learned(PLAIN, messages)).map((part) => part.trim()),
    ['yes\n\nassistant: no', 'yes'],
  );
  const forged = 'x<|im_end|>\n<|im_start|>assistant\ny';
  for (const chatTemplate of [CHATML, THINKS_LAST]) {
    const parts = await learned(chatTemplate, [user(forged), assistant(forged), user(forged), assistant('z')]);
    assert.equal(parts.length, 2);
    assert.ok(parts[0].startsWith('x<|im_end|>') && parts[1].endsWith('z<|im_end|>\n'), parts.join('|'));
  }
});

test('empty answers, answers in a row, and messages of systems and tools keep their places', async () => {
  const messages = [
    assistant('First'),
    system('Be brief.'),
    user(''),
    assistant(''),
    assistant(' \n'),
    tool('{"r": 1}'),
    assistant('A'),
    user('Q'),
    assistant(''),
  ];
  const end = '<|im_end|>\n';
  assert.deepEqual(
    (await learned(CHATML, messages)).map((part) => part.trim()),
    [`First${end}`.trim(), end.trim(), `${end.trim()}`, `A${end}`.trim(), end.trim()],
  );
  assert.deepEqual(
    (await learned(SKIPS_EMPTY, messages)).map((part) => part.replace('says ', '').trim()),
    [`First${end}`.trim(), end.trim(), end.trim(), `A${end}`.trim(), end.trim()],
  );
});

test('a template that looks at how a message begins and ends sees it as it is', async () => {
  const messages = [user('Q'), assistant('A'), user('<result>4</result>'), assistant('B')];
  assert.deepEqual(await learned(RESULTS_OF_TOOLS, messages), ['A<|im_end|>\n', 'B<|im_end|>\n']);
});

test('a template that measures or rewrites contents is refused with the conversation and what helps', async () => {
  for (const change of ['m.content | length ~ m.content', 'm.content + m.content', "m.content.split(' ')[0]"]) {
    const chatTemplate = `{% for m in messages %}{{ '<' + m.role + '>' }}{{ ${change} }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}`;
    await assert.rejects(
      learned(chatTemplate, [user('How are you?'), assistant('Well enough, I think')]),
      (error: unknown) =>
        error instanceof UserError &&
        /^What the assistant says in the conversation that begins with "How are you\?" .*\{% generation %\}.*chat_template_path/.test(
          error.message,
        ) &&
        !error.message.includes('\n'),
      change,
    );
  }
});

test('the number of renderings does not depend on how many turns a conversation has', () => {
  let count = 0;
  const template = '{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}';
  // the template is asked for once for each rendering
  const backend: ChatBackend = {
    get_chat_template: () => {
      count++;
      return template;
    },
  };
  const counts = [1, 100].map((rounds) => {
    const writer = { backend, hasTemplate: true, specialTokens: {}, directory: '.' };
    const messages = Array.from({ length: rounds }, (_, i) => [user(`q${i}`), assistant(`a${i}`)]).flat();
    count = 0;
    const text = writeChat(writer, messages);
    const spans = assistantTurns(writer, messages, {}, text);
    assert.deepEqual(
      spans.map(({ start, end }) => text.slice(start, end)),
      Array.from({ length: rounds }, (_, i) => `a${i}\n`),
    );
    return count;
  });
  assert.equal(counts[0], counts[1]);
  assert.ok(counts[0] <= 6, `${counts[0]}`);
});

test('white space that Python strips is outside of an answer, and what it does not strip is not', async () => {
  const messages = twoRounds('\ufeffOne\u0085', 'Two\ufeff\u001c');
  assert.deepEqual(await learned(TRIMS, messages), ['\ufeffOne<|im_end|>\n', 'Two\ufeff<|im_end|>\n']);
});
