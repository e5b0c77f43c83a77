/** Ctrl-C and its like, and a terminal that is closed: the first asks the work to end in good order, a later one ends it at once. */
import type { Output } from './output';

const CODES = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** npm passes on a signal that the terminal has sent already; what comes within this many milliseconds is the same one. */
const SAME = 500;

/** Ends the program at the first signal, but in such a way that what is half-written goes. */
export function endOnSignals(): void {
  for (const [signal, code] of Object.entries(CODES)) process.once(signal, () => process.exit(code));
}

/** Calls `stop` at the first signal. */
export function stopOnSignals(stop: () => void, output: Output): { exitCode(): number | undefined; release(): void } {
  let code: number | undefined;
  let first = 0;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (code !== undefined) {
      // a terminal that closes says so several times, and nobody is impatient there
      if (signal !== 'SIGHUP' && performance.now() - first > SAME) process.exit(code);
      return;
    }
    first = performance.now();
    code = CODES[signal as keyof typeof CODES];
    output.note('Stopping and saving; press Ctrl-C again to end at once.');
    stop();
  };
  for (const signal of Object.keys(CODES)) process.on(signal, onSignal);
  return {
    exitCode: () => code,
    release: () => {
      for (const signal of Object.keys(CODES)) process.off(signal, onSignal);
    },
  };
}
