import assert from 'node:assert/strict';
import { test } from 'node:test';
import { showTable, tableHtml, tableText } from '../../lib/table';
import type { LogRecord } from '../../lib/train';
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

test('records of an interface are a table, too: those of a log', (t) => {
  const print = t.mock.method(console, 'log', () => {});
  const log: readonly LogRecord[] = [{ step: 1, epoch: 0.5, loss: 2.5 }];
  showTable(log);
  assert.deepEqual(
    print.mock.calls.map(({ arguments: [text] }) => text),
    ['step  epoch  loss\n1     0.5    2.5'],
  );
});

test('the installed versions name Node, Tunebook and its packages', () => {
  const versions = installedVersions();
  assert.equal(versions.node, process.versions.node);
  for (const name of ['tunebook', 'tslab', 'onnxruntime-node']) assert.match(versions[name], /^\d+\.\d+/);
});
