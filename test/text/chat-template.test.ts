import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { Dataset } from '../../lib/data';
import { projectRoot } from '../../lib/project';
import { formatExample, loadTokenizer, tokenizeExample } from '../../lib/text';

const TEMPLATE =
  '{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}{% if tools %}{{ tools | tojson(indent=1) }}{% endif %}{% if style is defined %}<{{ style }} {{ depth + 1 }} {{ eos_token }}>{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}';
const tool = {
  type: 'function',
  function: { name: 'wetter', description: 'It\'s "<warm>" — Grüße', parameters: { n: { default: null, enum: [1, 2.5, -3], ok: true } } },
};
const messages = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
];
/** As transformers 5.18 writes it. */
const TOOL_LINE =
  '{"type": "function", "function": {"name": "wetter", "description": "It\'s \\"<warm>\\" — Grüße", "parameters": {"n": {"default": null, "enum": [1, 2.5, -3], "ok": true}}}}\n';

test('the tools and the template variables of a row reach the chat template, in every part that is written', async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const kwargs = { style: 'brief', depth: 1, eos_token: 'END' };
  const columns = { tools: [tool], chat_template_kwargs: kwargs };
  for (const values of [
    { messages, ...columns },
    { messages, ...columns, tools: JSON.stringify([tool]) },
    { prompt: messages.slice(0, 1), completion: messages.slice(1), ...columns },
    {
      conversations: [
        { from: 'human', value: 'Hi' },
        { from: 'gpt', value: 'Hello' },
      ],
      ...columns,
    },
  ]) {
    const [row] = Dataset.fromRows([values]).rows;
    const { prompt, completion } = formatExample(row, tokenizer, { chatTemplate: TEMPLATE });
    assert.equal(prompt, `${TOOL_LINE}${JSON.stringify([tool], null, 1)}<brief 2 END>[user]Hi[assistant]`);
    assert.equal(completion, 'Hello');
    for (const options of [{ completionOnlyLoss: true }, { assistantOnlyLoss: true }]) {
      const made = tokenizeExample(row, tokenizer, { chatTemplate: TEMPLATE, ...options });
      assert.equal(tokenizer.decode(made.inputIds), prompt + completion);
      assert.equal(tokenizer.decode([...made.inputIds].filter((_, i) => made.lossMask[i])), 'Hello');
    }
  }
});

test('an empty list of tools is given as it is', async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const { tools } = Dataset.fromRows([{ messages, tools: [] }]).as('messages').rows[0];
  assert.deepEqual(tools, []);
  assert.equal(tokenizer.applyChatTemplate(messages, { chatTemplate: TEMPLATE, tools }), '[user]Hi[assistant]Hello');
});

/** In the manner of Qwen3: reasoning of its own, calls as JSON. */
const AGENT =
  "{% for m in messages %}<|im_start|>{{ m.role + '\\n' }}{% if m.reasoning_content is string %}{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{% if m.content %}{{ m.content }}{% endif %}{% for call in m.tool_calls or [] %}{{ '<tool_call>' }}{{ call.function | tojson }}{{ '</tool_call>' }}{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const callOf = (args: unknown) => ({ id: 'a1', type: 'function', function: { name: 'weather', arguments: args } });

test("reasoning and tool calls of a message reach the chat template and are learned as the assistant's", async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const answer = {
    role: 'assistant',
    content: null,
    reasoning_content: 'Look.',
    tool_calls: [callOf({ stadt: 'Köln', n: 2.5, ok: [true, null] })],
  };
  const result = { role: 'tool', content: '21', tool_call_id: 'a1' };
  const last = { role: 'assistant', content: 'Warm.', reasoning_content: 'So.' };
  // as transformers 5.18 writes it
  const called =
    '<think>\nLook.\n</think>\n\n<tool_call>{"name": "weather", "arguments": {"stadt": "Köln", "n": 2.5, "ok": [true, null]}}</tool_call><|im_end|>';
  const said = '<think>\nSo.\n</think>\n\nWarm.<|im_end|>';
  const learned = (row: object, options: object): string => {
    const made = tokenizeExample(Dataset.fromRows([row]).rows[0], tokenizer, { chatTemplate: AGENT, ...options });
    return tokenizer.decode(
      [...made.inputIds].filter((_, i) => made.lossMask[i]),
      { skipSpecialTokens: false },
    );
  };
  const whole = { messages: [messages[0], answer, result, last] };
  const split = { prompt: [messages[0]], completion: [answer, result, last] };
  const between = '\n<|im_start|>tool\n21<|im_end|>\n<|im_start|>assistant\n';
  assert.equal(learned(split, {}), `${called}${between}${said}\n`);
  assert.equal(learned(whole, { assistantOnlyLoss: true }), `${called}\n${said}\n`);
  assert.equal(learned(whole, { completionOnlyLoss: true }), `${said}\n`);
  assert.ok(learned(whole, {}).endsWith(`${called}${between}${said}\n`));
});

test("arguments of tool calls are written in Python's words where the template has no JSON of them", async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const write = (value: unknown, chatTemplate: string) =>
    tokenizer.applyChatTemplate([messages[0], { role: 'assistant', content: '', tool_calls: [callOf({ ok: value })] }], { chatTemplate });
  const loop = (inner: string) =>
    `{% for m in messages %}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments | items %}${inner}{% endfor %}{% endfor %}{% endfor %}`;
  const byFilter = loop('{{ v | tojson if v is mapping or (v is sequence and v is not string) else v | string }}');
  assert.equal(write('True', byFilter), 'True');
  assert.equal(write(2.5, byFilter), '2.5');
  assert.equal(write([true], byFilter), '[true]');
  assert.equal(write(true, byFilter), 'True');
  assert.equal(write([1, null], loop('{{ v | tojson if v is mapping else v | string }}')), '[1, None]');
  assert.equal(write({ a: null }, loop('{{ v }}')), "{'a': None}");
});

test('where a template cannot write a conversation, the line of the template and what is wrong there are told', async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const write = (chatTemplate: string) => () =>
    tokenizer.applyChatTemplate(
      [
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: null, tool_calls: [callOf({})] },
      ],
      {
        chatTemplate,
      },
    );
  assert.throws(
    write("{% for m in messages %}\n{{ '<' + m.role + '>' }}\n{{ m.content + '!' }}\n{% endfor %}"),
    /cannot write this conversation \(roles user, assistant\): line 3: "\+" stands between none and a text\.$/,
  );
  assert.throws(
    write("{% for m in messages %}{% for c in m.tool_calls %}{{ 'x' + c.function.arguments }}{% endfor %}{% endfor %}"),
    /"\+" stands between a text and an object/,
  );
  assert.throws(write('{{ messages[0].nothing.more }}'), /line 1: an object has no "nothing"\.$/);
  assert.throws(write("{{ raise_exception('Only questions, please') }}"), /\(roles user, assistant\): Only questions, please\.$/);
  assert.throws(write('{% if messages %}\n{{ messages }'), /cannot be used: line 2: "}" cannot stand in a tag|cannot be used: line 2: /);
});

test("a template's date is written in Python's words, at the time that it is told", async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const now = new Date(2026, 2, 5, 0, 7, 9);
  const write = (format: string, at?: Date) =>
    tokenizer.applyChatTemplate(messages, {
      chatTemplate: `{% if strftime_now is defined %}{{ strftime_now("${format}") }}{% endif %}`,
      now: at,
    });
  assert.equal(write('%d %b %Y', now), '05 Mar 2026');
  assert.equal(write('%A, %B %-d, %y day %j %I:%M:%S %p 100%%', now), 'Thursday, March 5, 26 day 064 12:07:09 AM 100%');
  assert.match(write('%Y-%m-%d %H:%M'), /^\d{4}-\d\d-\d\d \d\d:\d\d$/);
  assert.throws(() => write('%Q', now), /strftime_now knows no %Q/);
});
