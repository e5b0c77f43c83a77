/**
 * Child processes: each measurement runs in one of its own, so that no engine meets the memory, the threads or the warm
 * caches of another. A child takes its job as a JSON word and answers with a JSON object on the last line of its output.
 *
 * Imports nothing of the library: the child that times the library's import uses this file too.
 */
import { type ChildProcess, spawn } from 'node:child_process';

/** A child's answer, or one sentence that says why there is none; for one that was ended, after how many seconds. */
export type Outcome<T> = { readonly result: T } | { readonly failure: string; readonly endedAfter?: number };

/** The answer, or undefined where there is none. */
export function resultOf<T>(outcome: Outcome<T> | undefined): T | undefined {
  return outcome && 'result' in outcome ? outcome.result : undefined;
}

/** Characters of a child's error output that are kept to explain a failure. */
const KEPT = 1 << 16;
/** Longest reason that a table shows. */
const LONGEST_REASON = 240;

let running: ChildProcess | undefined;

/** Ends the child at work, if there is one. */
export function killChild(): void {
  running?.kill('SIGKILL');
}

export interface ChildOptions {
  /** The child is ended after so many seconds; absent: never. */
  limit?: number;
  env?: NodeJS.ProcessEnv;
}

/** Runs a command with a job behind its words and waits for its answer; a child that fails makes no exception. */
export async function runChild<T>(words: readonly string[], job: object, { limit, env }: ChildOptions = {}): Promise<Outcome<T>> {
  const [command, ...rest] = words;
  const child = spawn(command, [...rest, JSON.stringify(job)], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  running = child;
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors = (errors + text).slice(-KEPT)));
  let timedOut = false;
  const timer =
    limit === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          child.kill('SIGKILL');
        }, limit * 1000);
  const failure = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(`${command} cannot be started: ${error.message}.`));
    child.on('close', (code, signal) => resolve(code === 0 ? undefined : describeEnd(code, signal, errors)));
  });
  clearTimeout(timer);
  running = undefined;
  if (timedOut) return { failure: `It was not done after ${limit} seconds and was ended.`, endedAfter: limit };
  const answer = readAnswer<T>(output);
  // a child that has answered may still crash while it ends, as ONNX Runtime's WebGPU provider does at times
  return failure === undefined || 'result' in answer ? answer : { failure };
}

function readAnswer<T>(output: string): Outcome<T> {
  const line = output.trimEnd().split('\n').at(-1) ?? '';
  try {
    const result: unknown = JSON.parse(line);
    if (typeof result === 'object' && result !== null) return { result: result as T };
  } catch {
    // no answer
  }
  return { failure: `It ended without an answer; its last line was ${JSON.stringify(line.slice(0, LONGEST_REASON))}.` };
}

/** A program that fails by an exception says so in its last line; one that crashes may print its stack behind the reason. */
function describeEnd(code: number | null, signal: NodeJS.Signals | null, errors: string): string {
  const lines = errors.split('\n').filter((line) => line.trim() !== '');
  const last = lines.at(-1) ?? 'it said nothing';
  const crashed = code !== 1;
  const reason = ((crashed ? lines.findLast((line) => /error|fatal/i.test(line)) : undefined) ?? last).trim().slice(0, LONGEST_REASON);
  if (!crashed) return reason;
  return `${signal ? `It was ended by ${signal}` : `It ended with code ${code}`}: ${reason}`;
}

/** The other side: a child's main function. Takes the job, works, prints the answer. */
export function serve<Job, Result>(work: (job: Job) => Promise<Result>): void {
  work(JSON.parse(process.argv[2]) as Job).then(
    // engines leave threads behind that would keep the process alive
    (result) => process.stdout.write(`\n${JSON.stringify(result)}\n`, () => process.exit(0)),
    (error: unknown) => process.stderr.write(`\n${error instanceof Error ? error.message : String(error)}\n`, () => process.exit(1)),
  );
}

/** Largest resident memory of this process so far, in bytes. */
export function peakBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
