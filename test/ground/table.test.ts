import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tableHtml, tableText } from '../../lib/table';
import { installedVersions } from '../../lib/versions';

test('a table has a column for each key, shows texts as they are, and numbers at the right with four digits', () => {
  const html = tableHtml([
    { text: 'a <b>\nc', loss: 0.123456 },
    { text: 'd', loss: 12345.6, right: true },
  ]);
  assert.match(html, /a &lt;b&gt;<br>c/);
  assert.match(html, /text-align:right[^>]*>0\.1235</);
  assert.match(html, />12,346</);
  assert.match(html, />✓</);
  assert.equal(html.match(/<th /g)?.length, 3);
});

test('in a terminal the columns of a table are aligned', () => {
  assert.equal(
    tableText([
      { name: 'a', n: 1 },
      { name: 'long', n: 2 },
    ]),
    'name  n\na     1\nlong  2',
  );
});

test('the installed versions name Node, Tunebook and its packages', () => {
  const versions = installedVersions();
  assert.equal(versions.node, process.versions.node);
  for (const name of ['tunebook', 'tslab', 'onnxruntime-node']) assert.match(versions[name], /^\d+\.\d+/);
});
