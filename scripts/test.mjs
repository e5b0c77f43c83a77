/** `npm test`: sets everything up and runs the tests with Node's test runner; `npm test -- plots` runs those whose path contains "plots". */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { entry, readWords, root, SetupError, setUp } from './setup.mjs';

const HELP = `npm test [-- PART ...]
  Sets everything up and runs all tests, or those whose path contains one of the parts: npm test -- plots`;

await entry(() => {
  const { positionals: wanted } = readWords(HELP, { allowPositionals: true });
  const files = readdirSync(path.join(root, 'test'), { recursive: true })
    .map((file) => file.split(path.sep).join('/'))
    .filter((file) => file.endsWith('.test.ts') && (wanted.length === 0 || wanted.some((part) => file.includes(part))))
    .sort()
    .map((file) => path.join('build/test', file.replace(/\.ts$/, '.js')));
  if (files.length === 0) throw new SetupError(`No test file has "${wanted.join('" or "')}" in its path; look into test/ for the names.`);
  setUp();
  // One file at a time: the engine already uses every core, and its figures should not depend on what runs beside it.
  const args = ['--test', '--test-reporter=spec', `--test-concurrency=${process.env.TUNEBOOK_TEST_CONCURRENCY ?? 1}`, ...files];
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
});
