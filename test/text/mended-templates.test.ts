import assert from 'node:assert/strict';
import * as path from 'node:path';
import { before, test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer, type Tokenizer } from '../../lib/text';

let tokenizer: Tokenizer;

before(async () => {
  tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
});

const messages = [
  { role: 'system', content: '' },
  { role: 'user', content: 'Hi' },
  { role: 'assistant', content: 'Hello' },
];

/** Llama 2's own. */
const LLAMA_2 =
  "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' }}{% endif %}{% endfor %}";

test('an empty system message is a system message for a template that asks whether it is not false', () => {
  const write = (from: number) => tokenizer.applyChatTemplate(messages.slice(from), { chatTemplate: LLAMA_2 });
  assert.equal(write(0), '[INST] <<SYS>>\n\n<</SYS>>\n\nHi [/INST] Hello ');
  assert.equal(write(1), '[INST] Hi [/INST] Hello ');
});

test('a tool without parameters is written with the indentation of Python', () => {
  const parameters = { type: 'object', properties: {}, required: [], nested: [[], [1], { a: {} }] };
  const tool = { type: 'function', function: { name: 'now', description: '[\n\n]', parameters } };
  const chatTemplate = '{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}';
  assert.equal(tokenizer.applyChatTemplate(messages, { chatTemplate, tools: [tool] }), JSON.stringify(tool, null, 4));
});

test('not, == and != mean what they mean in Jinja2', () => {
  for (const [expression, expected] of [
    ['not []', true],
    ['not {}', true],
    ['not [0]', false],
    ["not (messages | selectattr('role', 'equalto', 'tool') | list)", true],
    ["not messages[0].content and not ''", true],
    ["'' == false", false],
    ["'1' == 1", false],
    ['1 == 1.0 and 1 == true', true],
    ['messages[0].tool_calls != none', true],
    ['messages[0].tool_calls == messages[1].tool_calls', true],
    ['none == none', true],
    ["messages[0]['role'] != 'system'", false],
  ] as const) {
    const chatTemplate = `{{ 'yes' if ${expression} else 'no' }}{% if ${expression} %}yes{% else %}no{% endif %}`;
    assert.equal(tokenizer.applyChatTemplate(messages, { chatTemplate }), expected ? 'yesyes' : 'nono', expression);
  }
});

test('what lacks an attribute is found by asking for those that do not have it, as in Jinja2', () => {
  const called = [...messages, { role: 'assistant', content: '', tool_calls: [] }];
  for (const [filters, expected] of [
    ["selectattr('tool_calls', 'undefined')", 'system user assistant'],
    ["rejectattr('tool_calls', 'undefined')", 'assistant'],
    ["selectattr('tool_calls', 'defined')", 'assistant'],
    ["rejectattr('role', 'equalto', 'user') | selectattr('tool_calls', 'undefined') | list", 'system assistant'],
  ]) {
    const chatTemplate = `{% for message in messages | ${filters} %}{{ message.role }} {% endfor %}`;
    assert.equal(tokenizer.applyChatTemplate(called, { chatTemplate }).trim(), expected, filters);
  }
});

test('white space is what Python strips: U+0085 and U+001C, but not U+FEFF', () => {
  const content = '\ufeff a \u001c\u0085\u00a0\u3000';
  for (const [expression, expected] of [
    ['messages[0].content | trim', '\ufeff a'],
    ['messages[0].content.strip()', '\ufeff a'],
    ["messages[0]['content'].rstrip() | upper", '\ufeff A'],
    ["(' ' + messages[0].content).lstrip()", content],
    ["'  both  ' | trim | length", '4'],
  ]) {
    const chatTemplate = `{{ ${expression} }}`;
    assert.equal(tokenizer.applyChatTemplate([{ role: 'user', content }], { chatTemplate }), expected, expression);
  }
});
