/** One run at a time writes into a folder: a lock file in it, `PID HOST`, says whose it is. */
import fs from 'node:fs';
import { hostname } from 'node:os';
import * as path from 'node:path';
import { codeOf, UserError } from '../errors';
import { removeQuietly, rename, sleep, statusOf, temporaryName, writeError } from '../files';
import { contentOfLock, createLock, hasEnded, ownerOf, thisProcess, timeOfLock } from '../lock-file';

const LOCK = '.lock';
const REFRESH_MS = 5000;
/** A lock of another machine that nobody has refreshed for this long is nobody's: more than any piece of a step takes. */
const SILENT_MS = 10 * 60_000;

/** No owner takes longer to write its name into a new lock. */
const WRITING_MS = 1000;

/** Locks of this process. */
const held = new Set<string>();

/**
 * Locks a folder, which exists.
 * @returns gives it back
 * @throws UserError when another run writes there, in this process or in one that lives
 */
export function lockFolder(folder: string): () => void {
  const file = path.join(fs.realpathSync(folder), LOCK);
  while (!createLock(file, thisProcess())) {
    if (isAbandoned(file)) takeAway(file);
    else if (isBeingWritten(file)) sleep(50);
    else throw new UserError(refusal(folder, file));
  }
  held.add(file);
  const timer = setInterval(() => refresh(file), REFRESH_MS).unref();
  return () => {
    clearInterval(timer);
    held.delete(file);
    removeQuietly(file);
  };
}

function refresh(file: string): void {
  try {
    fs.utimesSync(file, new Date(), new Date());
  } catch {
    // it serves other machines alone, and the next refresh may succeed
  }
}

/** Whether it is there but empty: its owner will be known in a moment, or was killed in that moment. */
function isBeingWritten(file: string): boolean {
  return statusOf(file)?.size === 0;
}

function isAbandoned(file: string): boolean {
  if (held.has(file)) return false;
  const age = Date.now() - (timeOfLock(file) ?? 0);
  if (isBeingWritten(file)) return age > WRITING_MS;
  const content = contentOfLock(file);
  if (hasEnded(content)) return true;
  return ownerOf(content).host !== hostname() && age > SILENT_MS;
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
  const { pid, host } = ownerOf(contentOfLock(file));
  return (
    `Another run writes into output_dir ${folder} (process ${pid} on ${host}); wait for its end, or name another folder. ` +
    `If there is none, remove ${file}.`
  );
}
