/** `npm test`: sets everything up and runs the tests with Node's test runner; `npm test -- plots` runs those whose path contains "plots". */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import * as path from 'node:path';
import { entry, readWords, root, SetupError, setUp } from './setup.mjs';

const HELP = `npm test [-- PART ...]
  Sets everything up and runs all tests, or those whose path contains one of the parts: npm test -- plots`;

/** Tests that run alone, with all processors: what they measure should not depend on what runs beside it, or they are to have several threads. */
const ALONE = /^(notebooks\/|engine\/(device|zeros)\.|train\/golden\.)/;

await entry(() => {
  const { positionals: wanted } = readWords(HELP, { allowPositionals: true });
  const files = readdirSync(path.join(root, 'test'), { recursive: true })
    .map((file) => file.split(path.sep).join('/'))
    .filter((file) => file.endsWith('.test.ts') && (wanted.length === 0 || wanted.some((part) => file.includes(part))))
    .sort();
  if (files.length === 0) throw new SetupError(`No test file has "${wanted.join('" or "')}" in its path; look into test/ for the names.`);
  setUp();
  const [alone, beside] = [true, false].map((isAlone) => files.filter((file) => ALONE.test(file) === isAlone));
  const statuses = [run(alone, 1), run(beside, 2)];
  return statuses.find((status) => status !== 0) ?? 0;
});

/** @param atOnce how many files run side by side, where the environment does not say; two share the processors */
function run(files, atOnce) {
  if (files.length === 0) return 0;
  const built = files.map((file) => path.join('build/test', file.replace(/\.ts$/, '.js')));
  const concurrency = process.env.TUNEBOOK_TEST_CONCURRENCY ?? atOnce;
  const args = ['--test', '--test-reporter=spec', `--test-concurrency=${concurrency}`, ...built];
  const half = `--require ${JSON.stringify(path.join(root, 'scripts/half-the-processors.cjs'))}`;
  const env = { ...process.env, ...(atOnce === 2 && { NODE_OPTIONS: [process.env.NODE_OPTIONS, half].filter(Boolean).join(' ') }) };
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env }).status ?? 1;
}
