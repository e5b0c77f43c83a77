/** How far long work has come, in a line that is rewritten. */
import { createLiveText } from '../display';
import { formatSeconds } from './format';

/** What is done sooner needs no line. */
const QUIET_MS = 2000;

/**
 * Begins such a line.
 * @param total of how many
 * @param units what they are
 * @returns to be told how many are done
 */
export function countingLine(total: number, units: string): (done: number) => void {
  const show = createLiveText();
  const started = performance.now();
  let isThere = false;
  return (done) => {
    const elapsed = performance.now() - started;
    const isLast = done === total;
    if (isLast ? !isThere : done === 0 || elapsed < QUIET_MS) return;
    isThere = true;
    const seconds = elapsed / 1000;
    const rest = isLast ? `done in ${formatSeconds(seconds)}` : `${formatSeconds((seconds * (total - done)) / done)} left`;
    show(`${done} of ${total} ${units} · ${rest}`, isLast);
  };
}
