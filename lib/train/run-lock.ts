/** One run at a time writes into a folder: a lock file in it, `PID HOST`, says whose it is. */
import fs from 'node:fs';
import { hostname } from 'node:os';
import * as path from 'node:path';
import { codeOf, UserError } from '../errors';
import { removeQuietly, rename, temporaryName, writeError } from '../files';

const LOCK = '.lock';
const REFRESH_MS = 5000;
/** A lock of another machine that nobody has refreshed for this long is nobody's: more than any piece of a step takes. */
const SILENT_MS = 10 * 60_000;

/** Locks of this process. */
const held = new Set<string>();

/**
 * Locks a folder, which exists.
 * @returns gives it back
 * @throws UserError when another run writes there, in this process or in one that lives
 */
export function lockFolder(folder: string): () => void {
  const file = path.join(fs.realpathSync(folder), LOCK);
  while (!create(file)) {
    if (!isAbandoned(file)) throw new UserError(refusal(folder, file));
    takeAway(file);
  }
  held.add(file);
  const timer = setInterval(() => refresh(file), REFRESH_MS).unref();
  return () => {
    clearInterval(timer);
    held.delete(file);
    removeQuietly(file);
  };
}

/** False where there is one. */
function create(file: string): boolean {
  try {
    fs.writeFileSync(file, `${process.pid} ${hostname()}`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw writeError(file, error);
  }
}

function refresh(file: string): void {
  try {
    fs.utimesSync(file, new Date(), new Date());
  } catch {
    // it serves other machines alone, and the next refresh may succeed
  }
}

function ownerOf(file: string): { pid: number; host: string } {
  const [pid, ...host] = fs.readFileSync(file, 'utf8').split(' ');
  return { pid: Number(pid), host: host.join(' ') };
}

function isAbandoned(file: string): boolean {
  try {
    const { pid, host } = ownerOf(file);
    if (host !== hostname()) return Date.now() - fs.statSync(file).mtimeMs > SILENT_MS;
    // a number is used again: with this process's own, it is that of one that has ended
    if (pid === process.pid) return !held.has(file);
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return ['ESRCH', 'ENOENT'].includes(codeOf(error) ?? '');
  }
}

/** Of several that find it abandoned one can rename it. */
function takeAway(file: string): void {
  const away = temporaryName(file);
  try {
    rename(file, away);
    removeQuietly(away);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw writeError(file, error);
  }
}

function refusal(folder: string, file: string): string {
  const { pid, host } = ownerOf(file);
  return (
    `Another run writes into output_dir ${folder} (process ${pid} on ${host}); wait for its end, or name another folder. ` +
    `If there is none, remove ${file}.`
  );
}
