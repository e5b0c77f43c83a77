import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { projectRoot } from '../../lib/project';

const home = mkdtempSync(path.join(os.tmpdir(), 'tunebook-kernel-'));
const file = path.join(home, 'kernels/tslab/kernel.json');

after(() => rmSync(home, { recursive: true, force: true }));

function kernel(...words: string[]): { status: number | null; stdout: string; stderr: string } {
  const script = path.join(projectRoot, 'scripts/register-kernel.mjs');
  return spawnSync(process.execPath, [script, ...words], { encoding: 'utf8', env: { ...process.env, JUPYTER_DATA_DIR: home } });
}

test("the kernel is described where VS Code and the user's Jupyter look, and taken away again", () => {
  for (const _ of ['first', 'again']) {
    const { status, stdout, stderr } = kernel();
    assert.deepEqual([status, stderr], [0, '']);
    assert.ok(stdout.includes(file), stdout);
    const { argv, language } = JSON.parse(readFileSync(file, 'utf8'));
    assert.deepEqual(argv, [process.execPath, path.join(projectRoot, 'scripts/kernel.cjs'), '{connection_file}']);
    assert.equal(language, 'typescript');
    assert.deepEqual(readdirSync(path.dirname(file)), ['kernel.json']);
  }
  const removed = kernel('--remove');
  assert.deepEqual([removed.status, removed.stdout, removed.stderr], [0, `Removed ${file}.\n`, '']);
  assert.ok(!existsSync(path.dirname(file)));
  assert.equal(kernel('--remove').stdout, `There is no ${file}.\n`);
});

test("a kernel of that name that is not this project's stays as it is", () => {
  const theirs = JSON.stringify({ argv: ['tslab', 'kernel', '--config-path', '{connection_file}'], language: 'typescript' });
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, theirs);
  for (const words of [[], ['--remove']]) {
    const { status, stdout, stderr } = kernel(...words);
    assert.deepEqual([status, stdout], [1, '']);
    assert.match(
      stderr,
      /kernel\.json describes another kernel of that name; remove it \(jupyter kernelspec remove tslab\), then run this again\.\n$/,
    );
    assert.equal(readFileSync(file, 'utf8'), theirs);
  }
});
