/** One download of a file at a time, in this process and among others that share the cache. */
import fs from 'node:fs';
import * as path from 'node:path';
import { codeOf } from '../../errors';
import { writeError } from '../../files';

const POLL_MS = 100;
const running = new Map<string, Promise<void>>();

/** Runs `work` while no other holder of `blob`'s lock runs; `work` must look again whether there is still something to do. */
export async function withLock(blob: string, work: () => Promise<void>): Promise<void> {
  const before = running.get(blob) ?? Promise.resolve();
  const mine = before.catch(() => {}).then(() => acrossProcesses(`${blob}.lock`, work));
  running.set(blob, mine);
  try {
    await mine;
  } finally {
    if (running.get(blob) === mine) running.delete(blob);
  }
}

async function acrossProcesses(lock: string, work: () => Promise<void>): Promise<void> {
  while (!acquire(lock)) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  try {
    await work();
  } finally {
    fs.rmSync(lock, { force: true });
  }
}

function acquire(lock: string): boolean {
  try {
    fs.mkdirSync(path.dirname(lock), { recursive: true });
    fs.writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw writeError(lock, error);
    // whoever was killed while holding it does not come back
    if (isAbandoned(lock)) fs.rmSync(lock, { force: true });
    return false;
  }
}

function isAbandoned(lock: string): boolean {
  try {
    const holder = Number(fs.readFileSync(lock, 'utf8'));
    // just created and not yet written
    if (holder === 0) return Date.now() - fs.statSync(lock).mtimeMs > 10_000;
    if (holder === process.pid) return true;
    process.kill(holder, 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}
