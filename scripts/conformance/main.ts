/** `npm run conformance`: tfjs-core's own test-suite against this backend. */

import { registerOrtBackend } from '../../lib/engine/ort/register';
import { UserError } from '../../lib/errors';
import { count, parseFlags, runCommand } from '../flags';
import { knownFailures } from './known-failures';
import { runSuite, type TestResult } from './suite';

const HELP = `npm run conformance [-- --only PATTERN --threads N --json]
  tfjs-core's own test-suite against the ONNX Runtime backend on CPU. Exit code 1 if a test fails that known-failures.ts does not list.
  --only PATTERN  tests whose names match
  --threads N     threads to compute with; default 1
  --json          the report as JSON`;

const BACKEND = 'onnxruntime';

interface Report {
  passed: number;
  /** Tests that the suite itself leaves out here. */
  pending: number;
  known: { name: string; reason: string }[];
  unexpected: TestResult[];
  /** Listed as failing, and yet they pass. */
  recovered: string[];
  seconds: number;
}

async function main(words: readonly string[]): Promise<number> {
  const values = parseFlags(words, {
    only: { type: 'string' },
    // One thread: the tests' graphs are tiny, and a session with more starts threads of its own.
    threads: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  });
  const threads = count('threads', values.threads);
  const wanted = values.only === undefined ? undefined : pattern(values.only);
  // The suite calls thousands of different graphs; that is no news to anybody here.
  process.env.TUNEBOOK_COMPILE_WARNING = '0';
  registerOrtBackend(BACKEND, { threads, executionProviders: ['cpu'] });
  const report = await run(wanted);
  await print(values.json ? `${JSON.stringify(report)}\n` : describe(report));
  return report.unexpected.length > 0 || report.passed === 0 ? 1 : 0;
}

function pattern(given: string): RegExp {
  try {
    return new RegExp(given);
  } catch {
    throw new UserError(
      `--only is ${JSON.stringify(given)}, which is no regular expression; write \\ before signs that stand for themselves.`,
    );
  }
}

const print = (text: string): Promise<void> => new Promise((resolve) => process.stdout.write(text, () => resolve()));

async function run(wanted: RegExp | undefined): Promise<Report> {
  const start = performance.now();
  const report: Report = { passed: 0, pending: 0, known: [], unexpected: [], recovered: [], seconds: 0 };
  await runSuite(BACKEND, wanted, (result) => {
    const listed = Object.keys(knownFailures).find((name) => result.name.startsWith(name));
    if (result.status === 'pending') report.pending++;
    else if (result.status === 'passed') {
      report.passed++;
      if (listed) report.recovered.push(result.name);
    } else if (listed) report.known.push({ name: result.name, reason: knownFailures[listed] });
    else report.unexpected.push(result);
  });
  report.seconds = (performance.now() - start) / 1000;
  return report;
}

function describe({ passed, pending, known, unexpected, recovered, seconds }: Report): string {
  const lines = unexpected.flatMap(({ name, messages }) => [`FAILED ${name}`, ...messages.map((message) => `  ${message.split('\n')[0]}`)]);
  for (const { name, reason } of known) lines.push(`known failure: ${name}\n  ${reason}`);
  for (const name of recovered) lines.push(`passes, take it off the list of known failures: ${name}`);
  const total = passed + known.length + unexpected.length;
  lines.push(
    `${passed} of ${total} tests of tfjs-core pass on ${BACKEND}; ${known.length} known failures, ${unexpected.length} unexpected; ` +
      `${pending} left out by the suite itself; ${seconds.toFixed(0)} s.`,
  );
  return `${lines.join('\n')}\n`;
}

// The suite leaves timers and workers behind.
void runCommand(HELP, main).then((code) => process.exit(code));
