/** Running the real command line as a child process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { TestContext } from 'node:test';
import { projectRoot } from '../../lib/project';

export const program = path.join(__dirname, '../../lib/cli.js');
export const golden = path.join(projectRoot, 'test/golden');
export const goldenModel = path.join(golden, 'llama/model');
export const goldenRows = path.join(golden, 'rows.json');

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Largest file that the child may write, in blocks of 512 bytes: what a full disk is to a test. */
  fileSizeLimit?: number;
  /** What the child reads from its standard input. */
  input?: string;
  /** Where the child's standard output goes, in place of the result. */
  stdout?: number;
  /** Called with the child's standard error so far; may send a signal. */
  onStderr?: (text: string, kill: (signal: NodeJS.Signals) => void) => void;
}

/** Runs `tunebook` with these words to its end. */
export function tunebook(
  words: readonly string[],
  { cwd, env, fileSizeLimit, input, stdout: target, onStderr }: RunOptions = {},
): Promise<Finished> {
  const command = [process.execPath, program, ...words];
  const limited = ['/bin/sh', '-c', `ulimit -f ${fileSizeLimit}; exec "$@"`, 'sh', ...command];
  const [file, ...rest] = fileSizeLimit === undefined ? command : limited;
  const child = spawn(file, rest, {
    cwd,
    env: { ...process.env, HF_HUB_OFFLINE: '1', NODE_TEST_CONTEXT: undefined, ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', target ?? 'pipe', 'pipe'],
  });
  child.stdin?.end(input);
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    onStderr?.(stderr, (signal) => child.kill(signal));
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** Runs `tunebook` with `--json` and returns the one object that it wrote. */
export async function tunebookJson<T = Record<string, unknown>>(words: readonly string[], options?: RunOptions): Promise<T> {
  const { code, stdout, stderr } = await tunebook([...words, '--json'], options);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as T;
}

/** Asserts that `tunebook` refuses: exit code 1, and one sentence on standard error that matches. */
export async function refuses(words: readonly string[], sentence: RegExp, options?: RunOptions): Promise<void> {
  const { code, stdout, stderr } = await tunebook(words, options);
  assert.equal(code, 1, `exit code ${code}: ${stdout}${stderr}`);
  assert.equal(stdout, '');
  const lines = stderr.trimEnd().split('\n');
  assert.match(lines[lines.length - 1], sentence);
  assert.match(lines[lines.length - 1], /\.$/, 'a sentence ends with a full stop');
  assert.doesNotMatch(stderr, /^\s+at .+:\d+:\d+/m, 'no stack trace');
  if (process.env.SHOW_SENTENCES) console.log(`# ${words.find((word) => !word.startsWith('-'))}: ${lines[lines.length - 1]}`);
}

/** A folder that the test may fill; removed at its end. */
export function workFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'tunebook-cli-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes a file into a folder and returns its path. */
export function put(folder: string, name: string, content: string | Uint8Array | object): string {
  const file = path.join(folder, name);
  writeFileSync(file, typeof content === 'string' || content instanceof Uint8Array ? content : JSON.stringify(content));
  return file;
}

/** A copy of the golden Llama checkpoint, to be damaged. */
export function copyOfModel(folder: string): string {
  const copy = path.join(folder, 'model');
  cpSync(goldenModel, copy, { recursive: true });
  return copy;
}
