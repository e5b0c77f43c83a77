/** How far long work has come: one line, rewritten a few times a second. */
import { createLiveText } from '../display';
import { formatSeconds } from '../train/format';

/** What is done sooner needs no line. */
const QUIET_MS = 2000;
const EVERY_MS = 250;

/**
 * Begins such a line.
 * @param total of how many
 * @param units what they are
 * @returns to be told how many are done
 */
export function countingLine(
  total: number,
  units: string,
  { show = createLiveText(), now = () => performance.now() } = {},
): (done: number) => void {
  const started = now();
  let due = started + QUIET_MS;
  let isThere = false;
  return (done) => {
    const time = now();
    const isLast = done === total;
    if (isLast ? !isThere : done === 0 || time < due) return;
    due = time + EVERY_MS;
    isThere = true;
    const seconds = (time - started) / 1000;
    const rest = isLast ? `done in ${formatSeconds(seconds)}` : `${formatSeconds((seconds * (total - done)) / done)} left`;
    show(`${done} of ${total} ${units} · ${rest}`, isLast);
  };
}
