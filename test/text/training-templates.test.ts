import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type Tokenizer, tokenizeExample } from '../../lib/text';

let tokenizer: Tokenizer;

before(async () => {
  tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
});

const messages = [
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello', reasoning_content: 'Greet.' },
  { role: 'user', content: 'Bye' },
  { role: 'assistant', content: 'See you' },
];

/** What is learned of the conversation, in brackets. */
function learned(chatTemplate: string, conversation: typeof messages = messages): string {
  const { inputIds, lossMask } = tokenizeExample({ messages: conversation }, tokenizer, { chatTemplate, assistantOnlyLoss: true });
  let text = '';
  for (const [index, id] of inputIds.entries()) {
    const [before, now] = [index === 0 ? 0 : lossMask[index - 1], lossMask[index]];
    text += (now === before ? '' : now ? '[' : ']') + tokenizer.decode([id], { skipSpecialTokens: false });
  }
  return text + (lossMask.at(-1) ? ']' : '');
}

/** In the manner of Qwen3: reasoning since the last question alone. */
const REASONING = `{%- set ns = namespace(last_query_index=2) %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = message.reasoning_content or '' %}
        {%- set content = message.content %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or reasoning_content %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content + '\\n</think>\\n\\n' + content }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}{{- message.tool_calls | tojson }}{%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {{- message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{%- endif %}`;

test('a template that drops the reasoning of earlier turns learns it with assistantOnlyLoss, as in TRL, and is as it was elsewhere', () => {
  assert.equal(
    learned(REASONING),
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[<think>\nGreet.\n</think>\n\nHello<|im_end|>\n]' +
      '<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n[<think>\n\n</think>\n\nSee you<|im_end|>\n]',
  );
  const whole = tokenizeExample({ messages }, tokenizer, { chatTemplate: REASONING });
  assert.match(tokenizer.decode(whole.inputIds, { skipSpecialTokens: false }), /assistant\nHello<\|im_end\|>/);
});

test('in the manner of Qwen2.5 a turn is learned from the end of the line that names who speaks, as in TRL', () => {
  const template = `{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {{- '\\n' + message.tool_calls | tojson if message.tool_calls }}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {{- message.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`;
  assert.equal(learned(template, messages.slice(0, 2)), '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant[\nHello<|im_end|>\n]');
  const silent = [messages[0], { ...messages[1], content: '' }];
  assert.equal(learned(template, silent), '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant[\n<|im_end|>\n]');
});

test("in the manner of DeepSeek-R1's distilled models the reasoning is learned, with the sign of the assistant, as in TRL", () => {
  const template =
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}" +
    "{%- if message['role'] == 'assistant' and message['content'] is none %}{%- for tool in message['tool_calls']%}{{ tool['type'] }}{%- endfor %}{%- endif %}" +
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if message['after_tool'] %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- else %}" +
    "{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- endfor -%}" +
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}";
  const reasoned = [messages[0], { role: 'assistant', content: '<think>\nGreet.\n</think>\n\nHello' }];
  const { inputIds, lossMask } = tokenizeExample({ messages: reasoned }, tokenizer, { chatTemplate: template, assistantOnlyLoss: true });
  const said = [...inputIds].filter((_, index) => lossMask[index]);
  assert.equal(tokenizer.decode(said), '<｜Assistant｜><think>\nGreet.\n</think>\n\nHello<｜end▁of▁sentence｜>');
  assert.equal(
    tokenizer.applyChatTemplate(reasoned, { chatTemplate: template }),
    '<｜User｜>Hi<｜Assistant｜>\n\nHello<｜end▁of▁sentence｜>',
  );
});
