/**
 * One download of a file at a time, in this process and among others that share the cache.
 *
 * A lock is a file beside the blob: `PID HOST ID`. Whoever holds it gives it a new time each second; one that nobody has refreshed for
 * half a minute is taken over, because its holder may be another machine's process, of which nothing else is known. A holder that was
 * asleep for so long finds that its lock is no longer its own, and waits again.
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import * as path from 'node:path';
import { codeOf, UserError } from '../../errors';
import { removeQuietly, writeError } from '../../files';
import type { Interruption } from '../../interruption';
import { contentOfLock, createLock, hasEnded, thisProcess, timeOfLock } from '../../lock-file';
import { makeFolder } from './cache';

const POLL_MS = 100;
const REFRESH_MS = 1000;
/** A lock that nobody has refreshed for this long is taken over. */
const SILENT_MS = 30_000;
/** The same where the process that holds it seems to have ended. Not at once: it may run in a container, which counts its own processes. */
const ENDED_MS = 3000;
/** Who waits for this long is told why. */
const NOTE_MS = 5000;

const running = new Map<string, Promise<void>>();

/**
 * Runs `work` while no other holder of `blob`'s lock runs; `work` must look again whether there is still something to do. It may run
 * more than once, where the lock was lost meanwhile.
 * @param what the file, as the note to somebody who waits should name it
 * @param work is given a function that it must call now and then, which throws when the work shall end
 * @throws Interrupted when the notebook's stop button is pressed; UserError where no lock can be made
 */
export async function withLock(
  blob: string,
  what: string,
  interruption: Interruption,
  work: (check: () => void) => Promise<void>,
): Promise<void> {
  const before = running.get(blob) ?? Promise.resolve();
  const mine = before.catch(() => {}).then(() => acrossProcesses(`${blob}.lock`, what, interruption, work));
  running.set(blob, mine);
  try {
    await mine;
  } finally {
    if (running.get(blob) === mine) running.delete(blob);
  }
}

async function acrossProcesses(
  file: string,
  what: string,
  interruption: Interruption,
  work: (check: () => void) => Promise<void>,
): Promise<void> {
  for (;;) {
    makeFolder(path.dirname(file));
    const lock = await acquire(file, what, interruption);
    try {
      await work(() => {
        interruption.check();
        lock.check();
      });
      return;
    } catch (error) {
      if (!(error instanceof LockLost)) throw error;
    } finally {
      lock.release();
    }
  }
}

async function acquire(file: string, what: string, interruption: Interruption): Promise<Lock> {
  const content = `${thisProcess()} ${randomUUID()}`;
  const start = performance.now();
  const watch = new Watch(file);
  for (let isTold = false; ; ) {
    interruption.check();
    if (createLock(file, content)) return new Lock(file, content);
    if (watch.isAbandoned() && takeAway(watch, file)) continue;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (isTold || performance.now() - start < NOTE_MS) continue;
    isTold = true;
    console.warn(
      `${what} is locked by another download (${file}); waiting until that has finished or has been silent for ${SILENT_MS / 1000} s.`,
    );
  }
}

/**
 * Removes an abandoned lock, so that all who wait may try to make a new one. Of several that find it abandoned one at a time may do so
 * and must look again: a second would remove the lock that was made in its place. False where it has to be tried again.
 */
function takeAway(watch: Watch, file: string): boolean {
  const guard = `${file}.takeover`;
  if (!createLock(guard, '')) {
    // it is there for a moment only, unless its maker ended in this moment
    if (Date.now() - (timeOfLock(guard) ?? Infinity) > SILENT_MS) removeQuietly(guard);
    return false;
  }
  try {
    if (watch.isAbandoned()) fs.rmSync(file, { recursive: true, force: true });
    return true;
  } catch (error) {
    throw writeError(file, error);
  } finally {
    removeQuietly(guard);
  }
}

/** Another's lock, as it is seen from here. */
class Watch {
  private seen = '';
  private since = 0;

  constructor(private readonly file: string) {}

  /**
   * Whether its holder has given no sign of life for too long. That is told by the lock's own time or by the clock of who watches it,
   * whichever says more: the clocks of two machines may differ.
   */
  isAbandoned(): boolean {
    const time = timeOfLock(this.file);
    if (time === undefined) return false;
    const content = contentOfLock(this.file);
    if (`${time} ${content}` !== this.seen) {
      this.seen = `${time} ${content}`;
      this.since = performance.now();
    }
    const age = Math.max(Date.now() - time, performance.now() - this.since);
    return age > (hasEnded(content) ? ENDED_MS : SILENT_MS);
  }
}

/** Another process has taken over the lock. */
class LockLost extends UserError {}

/** A lock that this process holds, and refreshes until it is released. */
class Lock {
  private isLost = false;
  private refreshed = performance.now();
  private readonly timer = setInterval(() => this.refresh(), REFRESH_MS).unref();

  constructor(
    private readonly file: string,
    private readonly content: string,
  ) {}

  /** @throws LockLost where another process has taken it over */
  check(): void {
    // the timer may be late, above all after the machine slept
    if (performance.now() - this.refreshed > 2 * REFRESH_MS) this.refresh();
    if (this.isLost) throw new LockLost(`${this.file} has been taken over by another process; run again.`);
  }

  release(): void {
    clearInterval(this.timer);
    this.refresh();
    if (!this.isLost) removeQuietly(this.file);
  }

  private refresh(): void {
    this.refreshed = performance.now();
    if (this.isLost) return;
    try {
      const handle = fs.openSync(this.file, 'r+');
      try {
        if (fs.readFileSync(handle, 'utf8') === this.content) fs.futimesSync(handle, new Date(), new Date());
        else this.isLost = true;
      } finally {
        fs.closeSync(handle);
      }
    } catch (error) {
      // what else a network's file system may say passes
      if (codeOf(error) === 'ENOENT') this.isLost = true;
    }
  }
}
