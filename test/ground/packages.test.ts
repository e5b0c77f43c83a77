import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { test } from 'node:test';
import { readJson, readText } from '../../lib/files';
import { projectRoot } from '../../lib/project';

interface LockEntry {
  version?: string;
  resolved?: string;
  integrity?: string;
  optionalDependencies?: Record<string, string>;
}

const lock = readJson(path.join(projectRoot, 'package-lock.json')) as { packages: Record<string, LockEntry> };

test('every locked package comes from the registry, with its hash', () => {
  for (const [name, entry] of Object.entries(lock.packages)) {
    if (name === '') continue;
    assert.ok(entry.version && /^\d+\.\d+\.\d+/.test(entry.version), `${name} ${entry.version}`);
    assert.ok(entry.integrity?.startsWith('sha'), `${name} has no integrity`);
    assert.ok(entry.resolved === undefined || entry.resolved.startsWith('https://registry.npmjs.org/'), `${name} ${entry.resolved}`);
  }
});

test('binaries of every platform are locked, not only those of the machine that wrote the lockfile', () => {
  const names = Object.keys(lock.packages);
  for (const [owner, entry] of Object.entries(lock.packages)) {
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      assert.ok(
        names.some((each) => each.endsWith(`node_modules/${name}`)),
        `${name}, wanted by ${owner}; make the lockfile anew without node_modules`,
      );
    }
  }
});

test('no install script runs', () => {
  assert.match(readText(path.join(projectRoot, '.npmrc')), /^ignore-scripts=true$/m);
});

/** Runs a program in a process of its own, because what it loads registers itself globally. */
function node(program: string): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(process.execPath, ['-e', program], { cwd: projectRoot, encoding: 'utf8' });
}

test('danfojs works beside the engine and leaves its backend chosen', () => {
  const { stdout, stderr, status } = node(`
    const tf = require('@tensorflow/tfjs-core');
    require('@tensorflow/tfjs-backend-cpu');
    tf.setBackend('cpu');
    const { DataFrame } = require('danfojs-node');
    const frame = new DataFrame([{ a: 1, b: 'x' }, { a: 3, b: 'y' }]);
    console.log(JSON.stringify([frame.columns, frame['a'].mean(), tf.getBackend(), Array.from(tf.tensor1d([1, 2]).dataSync())]));
  `);
  assert.equal(status, 0, stderr);
  assert.ok(!/already registered/.test(stderr), stderr.slice(0, 500));
  assert.deepEqual(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''), [['a', 'b'], 2, 'cpu', [1, 2]]);
});

test('the library loads whether or not tfjs-node-gpu does', () => {
  const { stdout, stderr, status } = node(`
    const Module = require('node:module');
    const load = Module._load;
    Module._load = (id, ...rest) => {
      if (/@tensorflow.tfjs-node/.test(id)) throw new Error('asked for ' + id);
      return load(id, ...rest);
    };
    const lib = require(${JSON.stringify(path.join(__dirname, '../../lib/index.js'))});
    console.log(Object.keys(lib).length > 0);
  `);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /true/);
});
