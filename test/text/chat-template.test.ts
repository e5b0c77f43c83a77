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
