import assert from 'node:assert/strict';
import fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type TokenizeOptions, tokenizeExample } from '../../lib/text';

interface Fixture {
  templates: Record<string, string>;
  cases: Array<{ template: string; tokenizer: string; messages: string[]; ids: number[]; generated: Array<[number, number]> }>;
}
const fixture: Fixture = JSON.parse(fs.readFileSync(path.join(projectRoot, 'test/text/generation-masks.json'), 'utf8'));

const conversation = (contents: string[]) => contents.map((content, i) => ({ role: i % 2 ? 'assistant' : 'user', content }));

for (const [name, chatTemplate] of Object.entries(fixture.templates)) {
  test(`with assistantOnlyLoss the tokens that generation blocks wrote carry loss, as in transformers: ${name}`, async () => {
    const cases = fixture.cases.filter(({ template }) => template === name);
    assert.ok(cases.length > 0);
    for (const { tokenizer, messages, ids, generated } of cases) {
      const made = tokenizeExample({ messages: conversation(messages) }, await loadTokenizer(path.join(projectRoot, tokenizer)), {
        chatTemplate,
        assistantOnlyLoss: true,
      });
      assert.deepEqual([...made.inputIds], ids, tokenizer);
      const expected = ids.map((_, index) => (generated.some(([from, to]) => index >= from && index < to) ? 1 : 0));
      assert.deepEqual([...made.lossMask], expected, `${tokenizer}: ${JSON.stringify(messages)}`);
    }
  });
}

/** What of a conversation is learned. */
async function learned(contents: string[], options: TokenizeOptions): Promise<string> {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const made = tokenizeExample({ messages: conversation(contents) }, tokenizer, { assistantOnlyLoss: true, ...options });
  return tokenizer.decode(
    [...made.inputIds].filter((_, i) => made.lossMask[i]),
    { skipSpecialTokens: false },
  );
}

test('generation blocks count in a template with the line ends of Windows, too', async () => {
  const chatTemplate =
    '{%- for m in messages %}\r\n[{{ m.role }}]\r\n{% generation %}\r\n{%- if m.role == "assistant" %}{{ m.content }}{% endif %}\r\n{% endgeneration %}\r\n{% endfor %}';
  assert.equal(await learned(['Hi', 'Hello'], { chatTemplate }), 'Hello');
});

test('where what a block wrote is changed afterwards, all of the turn behind its opening carries loss', async () => {
  const chatTemplate =
    "{% for m in messages %}<|im_start|>{{ m.role + '\\n' }}{% set said %}{% generation %}{{ m.content }}{% endgeneration %}{% endset %}{{ said | trim }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  assert.equal(await learned(['Hi', ' Hello '], { chatTemplate }), 'Hello<|im_end|>');
});

test('characters for private use in a conversation are left as they are', async () => {
  const chatTemplate = '{% for m in messages %}[{% generation %}{{ m.content }}{% endgeneration %}]{% endfor %}';
  assert.equal(await learned(['\ue000.', '\ue001!\ue002.'], { chatTemplate }), '\ue000.\ue001!\ue002.');
});
