#!/usr/bin/env node
/**
 * The command line from a checkout (`npm run -s tunebook -- sft ...`): builds first where the build is missing or older than
 * the sources, then runs in the folder where the user is. Standard output is left to the command.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, utimesSync } from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const program = path.join(root, 'build/lib/cli.js');
const buildRecord = path.join(root, 'build/.tsbuildinfo');
const compiler = path.join(root, 'node_modules/typescript/bin/tsc');

if (!existsSync(path.join(root, 'node_modules')))
  fail('The packages are not installed; run "npm ci" (or "npm start") in the project once, then this again.');
if (isStale()) build();
// npm runs scripts in the project's folder; paths on the command line are meant from where the user stands
if (process.env.npm_lifecycle_event === 'tunebook' && process.env.INIT_CWD) process.chdir(process.env.INIT_CWD);
await import(pathToFileURL(program).href);

function isStale() {
  if (!existsSync(program) || !existsSync(buildRecord)) return true;
  const built = statSync(buildRecord).mtimeMs;
  const sources = readdirSync(path.join(root, 'lib'), { recursive: true }).filter((file) => file.endsWith('.ts'));
  return sources.some((file) => statSync(path.join(root, 'lib', file)).mtimeMs > built);
}

function build() {
  if (!existsSync(compiler))
    fail('The build is missing or old, and TypeScript is not installed; run "npm ci" in the project once, then this again.');
  process.stderr.write('Building ...\n');
  const done = spawnSync(process.execPath, [compiler], { cwd: root, stdio: ['ignore', 2, 2] });
  if (done.status !== 0) fail('The TypeScript build failed (the errors are above); correct them and run this again.');
  // a source that was touched without a change leaves the record as old as it was
  const now = new Date();
  utimesSync(buildRecord, now, now);
}

function fail(sentence) {
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify({ error: sentence })}\n`);
  process.stderr.write(`${sentence}\n`);
  process.exit(1);
}
