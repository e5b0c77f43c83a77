import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { projectRoot } from '../../lib/project';

const scripts = [
  'scripts/start.mjs',
  'scripts/test.mjs',
  'scripts/notebooks.mjs',
  'scripts/register-kernel.mjs',
  'build/scripts/conformance/main.js',
  'build/scripts/pretrain/main.js',
];

function run(script: string, ...words: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [path.join(projectRoot, script), ...words], { encoding: 'utf8', timeout: 60_000 });
}

test('commands of the project show their help and do nothing else', () => {
  for (const script of scripts) {
    const { status, stdout, stderr } = run(script, '--help');
    assert.deepEqual([status, stderr], [0, ''], script);
    assert.match(stdout, /^npm (start|test|run \w+) \[-- .*\]\n {2}[\s\S]+\n$/, script);
  }
});

test('commands of the project refuse a flag that is none of theirs, in one sentence and before anything else', () => {
  for (const script of scripts) {
    const { status, stdout, stderr } = run(script, '--inplaice');
    assert.deepEqual([status, stdout], [1, ''], script);
    assert.match(stderr, /^Unknown option '--inplaice'; (it is written npm |the flags are --).*\.\n$/, script);
  }
});

test('values that a flag cannot have are refused in one sentence and before anything else', () => {
  for (const given of ['0', '-1', '1.5', 'many', '']) {
    for (const [script, flag] of [
      ['build/scripts/conformance/main.js', 'threads'],
      ['build/scripts/pretrain/main.js', 'steps'],
    ]) {
      const { status, stdout, stderr } = run(script, `--${flag}=${given}`);
      assert.deepEqual([status, stdout], [1, ''], script);
      assert.equal(stderr, `--${flag} is ${JSON.stringify(given)}; give a whole number of at least 1.\n`);
    }
  }
  const { status, stdout, stderr } = run('build/scripts/conformance/main.js', '--only', '(');
  assert.deepEqual([status, stdout], [1, '']);
  assert.match(stderr, /^--only is "\(", which is no regular expression; write \\ before .*\.\n$/);
});

test('npm test says that no file matches before it sets anything up', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-scripts-'));
  try {
    // a checkout where nothing is installed and nothing can be
    for (const name of ['test.mjs', 'setup.mjs']) cpSync(path.join(projectRoot, 'scripts', name), path.join(folder, 'scripts', name));
    mkdirSync(path.join(folder, 'test'));
    const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(folder, 'scripts/test.mjs'), 'nosuchthing'], {
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout], [1, '']);
    assert.equal(stderr, 'No test file has "nosuchthing" in its path; look into test/ for the names.\n');
    assert.deepEqual(readdirSync(folder).sort(), ['scripts', 'test']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
