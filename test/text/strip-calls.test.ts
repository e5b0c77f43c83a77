import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';
import { loadTokenizer } from '../../lib/text';
import { rewriteStripCalls } from '../../lib/text/strip-calls';

test('a template that strips characters leaves the white space that Python leaves', async () => {
  const tokenizer = await loadTokenizer(path.join(projectRoot, 'test/golden/llama/model'));
  const write = (expression: string, content: string) =>
    tokenizer.applyChatTemplate([{ role: 'user', content }], {
      chatTemplate: `{% set content = messages[0].content %}{{- '<' + ${expression} + '>' }}`,
    });
  const said = '\n <think>\n a \n</think>\n\n  b \n';
  // as Jinja2 writes them
  for (const [expression, expected] of [
    ["content.strip('\\n')", '< <think>\n a \n</think>\n\n  b >'],
    ["content.lstrip('\\n')", '< <think>\n a \n</think>\n\n  b \n>'],
    ["messages[0]['content'].rstrip('\\n ')", '<\n <think>\n a \n</think>\n\n  b>'],
    ["content.split('</think>')[-1].lstrip('\\n')", '<  b \n>'],
    ["content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n')", '< a >'],
    ["(content + ')').strip(')\\n')", '< <think>\n a \n</think>\n\n  b >'],
    ['\'xax\'.strip("x")', '<a>'],
    ['content.strip()', '<<think>\n a \n</think>\n\n  b>'],
  ])
    assert.equal(write(expression, said), expected, expression);
});

test('what is no call in a tag stays as it is', () => {
  for (const template of [
    "say x.strip('a')",
    "{{ x }} y.strip('a') {{ z }}",
    "{{ 'it\\'s'.strip('a') }}",
    '{{ x.strip() }}{{ x.strip( ) }}',
    '{{ x.strip(',
  ]) {
    assert.equal(rewriteStripCalls(template), template);
  }
});
