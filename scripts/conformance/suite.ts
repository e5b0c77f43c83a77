/** Runs tfjs-core's own test-suite, which ships in its package as ES modules for jasmine, against one backend. */
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { compileFunction } from 'node:vm';
import { buildSync } from 'esbuild';

import jasmineCore = require('jasmine-core');

export interface TestResult {
  /** All the names from the outermost `describe` in. */
  name: string;
  status: 'passed' | 'failed' | 'pending';
  /** First message of each failed expectation. */
  messages: string[];
  seconds: number;
}

const DIST = path.join(path.dirname(require.resolve('@tensorflow/tfjs-core/package.json')), 'dist');

/** The suite picks its tests by environment; ours is the only one that it sees. `require` keeps this order. */
const ENTRY = `
  require('./public/chained_ops/register_all_chained_ops');
  require('./register_all_gradients');
  const backendName = globalThis.conformanceBackend;
  require('./jasmine_util').setTestEnvs([{ name: backendName, backendName, isDataSync: true }]);
  require('./tests');
`;

/**
 * Runs the suite in this process, which serves nothing else afterwards: the suite resets tfjs's engine again and again.
 * @param backend a backend that is registered with tfjs
 * @param wanted runs only the tests whose full name it matches
 * @param done is told every result as it comes
 */
export async function runSuite(backend: string, wanted: RegExp | undefined, done: (result: TestResult) => void): Promise<void> {
  const jasmine = jasmineCore.boot(true);
  const env = jasmine.getEnv();
  Object.assign(globalThis, { conformanceBackend: backend, jasmine });
  env.configure({ random: false, specFilter: (spec) => !wanted || wanted.test(spec.getFullName()) });
  let start = 0;
  env.addReporter({
    specStarted: () => {
      start = performance.now();
    },
    specDone: ({ fullName, status, failedExpectations }) => {
      if (status === 'excluded') return;
      const messages = failedExpectations.map(({ message }) => message);
      done({ name: fullName, status: status as TestResult['status'], messages, seconds: (performance.now() - start) / 1000 });
    },
    suiteDone: ({ fullName, failedExpectations }) => {
      const messages = failedExpectations.map(({ message }) => message);
      if (messages.length > 0) done({ name: `${fullName} (around its tests)`, status: 'failed', messages, seconds: 0 });
    },
  });
  const quiet = silenceConsole();
  try {
    loadTests();
    await env.execute();
  } finally {
    quiet.restore();
  }
}

/** Bundles the tests in memory and evaluates them, which declares them to jasmine. */
function loadTests(): void {
  const result = buildSync({
    stdin: { contents: ENTRY, resolveDir: DIST },
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    // The package calls its tests free of side effects, so that applications' bundles leave them out.
    ignoreAnnotations: true,
    external: ['jasmine-core'],
    logLevel: 'error',
  });
  const filename = path.join(DIST, 'tests.bundle.js');
  const run = compileFunction(result.outputFiles[0].text, ['require', 'module', 'exports'], { filename });
  run(createRequire(__filename), { exports: {} }, {});
}

/** The tests print tables and warnings by the hundred. */
function silenceConsole(): { restore: () => void } {
  const kept = { ...console };
  const nothing = (): void => {};
  Object.assign(console, { log: nothing, warn: nothing, error: nothing, info: nothing });
  return { restore: () => void Object.assign(console, kept) };
}
