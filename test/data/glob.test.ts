import assert from 'node:assert/strict';
import { test } from 'node:test';
import { glob } from '../../lib/data/glob';

test('patterns of paths fit as in datasets', () => {
  for (const [pattern, fitting, others] of [
    ['*.jsonl', ['a.jsonl', '.jsonl'], ['a/b.jsonl', 'a.json']],
    ['**/a?.csv', ['ab.csv', 'x/y/a😀.csv'], ['a.csv', 'x/abc.csv']],
    ['data/**', ['data/a', 'data/b/c'], ['data', 'other/a']],
    ['**', ['a', 'a/b/c'], []],
    ['x[0-9a]*', ['x1', 'xa.b'], ['x', 'xb1']],
    ['[!a-c]', ['d', '!'], ['b', 'dd']],
    ['[^a][]x]', ['^]', 'ax'], ['bx']],
    ['a[1', ['a[1'], ['a1']],
    ['c++ (1)|{a,b}/*$', ['c++ (1)|{a,b}/x$'], ['c (1)a/x$']],
  ] as const) {
    for (const path of fitting) assert.ok(glob(pattern)(path), `${path} fits ${pattern}`);
    for (const path of others) assert.ok(!glob(pattern)(path), `${path} does not fit ${pattern}`);
  }
});

test('a pattern that could fit in countless ways is tried in no time', { timeout: 5000 }, () => {
  assert.ok(!glob(`${'*a'.repeat(200)}b`)('a'.repeat(5000)));
  assert.ok(!glob(`${'**/a/'.repeat(100)}x`)(`${'a/'.repeat(2000)}c`));
});
