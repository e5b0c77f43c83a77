/** Files that say that something is in use, and by whom: `PID HOST`, and what the user of the lock adds. */
import fs from 'node:fs';
import { hostname } from 'node:os';
import { codeOf } from './errors';
import { removeQuietly, writeError } from './files';

/** How a lock of this process begins. */
export function thisProcess(): string {
  return `${process.pid} ${hostname()}`;
}

/** Makes a lock; false where there is one. @throws UserError when the system refuses; nothing is left then */
export function createLock(file: string, content: string): boolean {
  let isMade = false;
  try {
    const handle = fs.openSync(file, 'wx');
    isMade = true;
    try {
      fs.writeSync(handle, content);
    } finally {
      fs.closeSync(handle);
    }
    return true;
  } catch (error) {
    if (isMade) removeQuietly(file);
    else if (codeOf(error) === 'EEXIST') return false;
    throw writeError(file, error);
  }
}

/** When a lock was written or refreshed, in milliseconds since 1970; undefined where there is none. */
export function timeOfLock(file: string): number | undefined {
  try {
    return fs.lstatSync(file, { throwIfNoEntry: false })?.mtimeMs;
  } catch (error) {
    throw writeError(file, error);
  }
}

/** What a lock holds; '' of one that cannot be read, which counts by its time alone. */
export function contentOfLock(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The process that a lock belongs to, and its machine: this one where the lock names none. */
export function ownerOf(content: string): { pid: string; host: string } {
  const [pid, host = hostname()] = content.trim().split(' ');
  return { pid, host };
}

/** Whether a lock's holder was a process of this machine that has ended. One with this process's number did, unless it is its own lock. */
export function hasEnded(content: string): boolean {
  const { pid, host } = ownerOf(content);
  if (!/^[1-9]\d*$/.test(pid) || host !== hostname()) return false;
  if (Number(pid) === process.pid) return true;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return codeOf(error) === 'ESRCH';
  }
}
