import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { test } from 'node:test';
import { readDocument, withKernelTable } from '../../scripts/kernel-table';

/** Its own process: the suite takes tfjs's engine apart again and again. */
const COMMAND = path.join(__dirname, '../../scripts/conformance/main.js');

test("tfjs-core's own test-suite passes on ONNX Runtime, but for at most 2% that are listed with their reasons", () => {
  const { stdout, stderr } = spawnSync(process.execPath, [COMMAND, '--json'], { encoding: 'utf8', maxBuffer: 1 << 28 });
  assert.ok(stdout.startsWith('{'), `The run broke off: ${stderr}`);
  const { passed, known, unexpected, recovered } = JSON.parse(stdout);
  assert.deepEqual(unexpected, []);
  assert.deepEqual(recovered, [], 'Take these off the list of known failures.');
  assert.ok(passed > 4000, `Only ${passed} tests ran.`);
  assert.ok(known.length <= 0.02 * (passed + known.length), `${known.length} known failures are too many.`);
});

test('a pattern picks tests, and an empty selection is no success', () => {
  const run = (pattern: string) => spawnSync(process.execPath, [COMMAND, '--only', pattern, '--threads', '2'], { encoding: 'utf8' });
  const some = run('^complex64');
  assert.equal(some.status, 0, some.stdout);
  assert.match(some.stdout, /^4 of 4 tests of tfjs-core pass on onnxruntime/);
  assert.equal(run('no test has this name').status, 1);
});

test('the list of kernels in docs/engine.md is that of the code', () => {
  assert.equal(readDocument(), withKernelTable(readDocument()), 'Run npm run docs:kernels.');
});
