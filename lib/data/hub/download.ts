/** Downloads one file into the cache: resumed where an earlier run stopped, and accepted only when its hash is right. */
import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { remove, rename, writeError } from '../../files';
import { makeFolder } from './cache';
import { HubOutage, HubUnreachable, PATIENCE_MS, pause, reasonOf, refusal, request } from './client';
import type { RemoteFile } from './listing';
import type { HubName } from './name';
import type { HubSettings } from './settings';

/** Connections that break without having brought anything, in a row, before giving up. */
const FRUITLESS = 4;

/** Who looks after a download. */
export interface Supervisor {
  /** Called for each piece that is downloaded or checked; throws when the work shall end. */
  check(): void;
  /** Told how many bytes are there, and how many there will be. */
  onBytes(loaded: number, total: number): void;
}

/**
 * Downloads a file's content to `blob`.
 * @throws UserError when the connection keeps breaking (what has arrived is kept for the next run), the hash is wrong, or the disk is full
 */
export async function downloadBlob(
  file: RemoteFile,
  blob: string,
  repository: { name: HubName; revision: string },
  settings: HubSettings,
  supervisor: Supervisor,
): Promise<void> {
  const partial = `${blob}.incomplete`;
  const resumed = sizeOf(partial) > 0;
  await fetchAll(file, partial, repository, settings, supervisor);
  let found = await hashMismatch(partial, file, supervisor);
  if (found && resumed) {
    // what an interrupted run had left may be what is damaged
    remove(partial);
    await fetchAll(file, partial, repository, settings, supervisor);
    found = await hashMismatch(partial, file, supervisor);
  }
  if (found) {
    remove(partial);
    throw new UserError(
      `${file.name} of ${repository.name.id} arrived damaged: its hash is ${found}, but ${file.hash} was expected; it has been thrown away, so run again, and if it happens again check HF_ENDPOINT (${settings.endpoint}).`,
    );
  }
  rename(partial, blob);
}

async function fetchAll(
  file: RemoteFile,
  partial: string,
  repository: { name: HubName; revision: string },
  settings: HubSettings,
  supervisor: Supervisor,
): Promise<void> {
  makeFolder(path.dirname(partial));
  for (let fruitless = 0; ; ) {
    supervisor.check();
    const before = sizeOf(partial);
    if (file.size !== undefined && before > file.size) remove(partial);
    else if (file.size !== undefined && before === file.size && before > 0) return;
    try {
      await fetchRest(file, partial, repository, settings, supervisor);
      return;
    } catch (error) {
      if (error instanceof UserError && (error instanceof HubOutage || !(error instanceof HubUnreachable))) throw error;
      fruitless = sizeOf(partial) > before ? 0 : fruitless + 1;
      if (fruitless >= FRUITLESS) {
        throw new HubUnreachable(
          `The connection broke while ${file.name} of ${repository.name.id} was being downloaded (${reasonOf(error)})`,
          `${sizeOf(partial)} bytes are kept, so run again to go on from there`,
          { cause: error },
        );
      }
      await pause(fruitless + 1);
    }
  }
}

/** One request for what is still missing; throws where the connection breaks. */
async function fetchRest(
  file: RemoteFile,
  partial: string,
  repository: { name: HubName; revision: string },
  settings: HubSettings,
  supervisor: Supervisor,
): Promise<void> {
  const watch = new Watchdog();
  try {
    const have = sizeOf(partial);
    const range: Record<string, string> = have > 0 ? { range: `bytes=${have}-` } : {};
    // without "identity" a server may compress, and then sizes and ranges are those of the compressed form
    const response = await request(file.url, settings, { headers: { ...range, 'accept-encoding': 'identity' }, signal: watch.signal });
    const isUsable = response.ok && startOf(response) <= have;
    // what is not read keeps its connection, and with it the process
    if (!isUsable) await response.body?.cancel();
    if (response.status === 416) {
      remove(partial);
      throw new Error('the server holds less than what an earlier run has left');
    }
    if (!response.ok || !response.body) throw refusal(response, repository.name, repository.revision, settings);
    const start = startOf(response);
    if (!isUsable) throw new Error(`the server sent bytes from ${start} on instead of from ${have}`);
    const total = file.size ?? start + Number(response.headers.get('content-length') ?? Number.NaN);
    // what is kept is cut to where the answer starts, which only the lock's holder may do
    supervisor.check();
    await store(response.body, partial, start, (loaded) => {
      watch.feed();
      supervisor.check();
      supervisor.onBytes(loaded, Number.isFinite(total) ? total : loaded);
    });
    const got = sizeOf(partial);
    if (Number.isFinite(total) && got < total) throw new Error(`the connection ended after ${got} of ${total} bytes`);
  } finally {
    watch.stop();
  }
}

/** The first byte of the file that an answer brings. */
function startOf(response: Response): number {
  if (response.status !== 206) return 0;
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? 0);
}

async function store(body: ReadableStream<Uint8Array>, partial: string, start: number, onBytes: (loaded: number) => void): Promise<void> {
  const handle = opened(partial);
  try {
    fs.ftruncateSync(handle, start);
    let at = start;
    onBytes(at);
    for await (const chunk of body) {
      try {
        for (let done = 0; done < chunk.length; ) done += fs.writeSync(handle, chunk, done, chunk.length - done, at + done);
      } catch (error) {
        throw writeError(partial, error);
      }
      at += chunk.length;
      onBytes(at);
    }
  } finally {
    fs.closeSync(handle);
  }
}

function opened(partial: string): number {
  try {
    return fs.openSync(partial, fs.existsSync(partial) ? 'r+' : 'w');
  } catch (error) {
    throw writeError(partial, error);
  }
}

/** The hash that the content really has, where it is not the expected one. An ETag of another kind can only vouch for the size. */
async function hashMismatch(partial: string, file: RemoteFile, supervisor: Supervisor): Promise<string | undefined> {
  supervisor.check();
  const size = sizeOf(partial);
  if (file.size !== undefined && size !== file.size) return `that of ${size} bytes instead of ${file.size}`;
  let hash: Hash;
  if (/^[0-9a-f]{64}$/.test(file.hash)) hash = createHash('sha256');
  else if (/^[0-9a-f]{40}$/.test(file.hash)) hash = createHash('sha1').update(`blob ${size}\0`);
  else return undefined;
  for await (const chunk of fs.createReadStream(partial, { highWaterMark: 1 << 20 })) {
    supervisor.check();
    hash.update(chunk);
  }
  const found = hash.digest('hex');
  return found === file.hash ? undefined : found;
}

function sizeOf(file: string): number {
  return fs.statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** Ends a download over which nothing has come for too long. */
class Watchdog {
  private readonly controller = new AbortController();
  private readonly timer = setTimeout(() => this.controller.abort(new Error(`nothing came for ${PATIENCE_MS / 1000} s`)), PATIENCE_MS);
  readonly signal = this.controller.signal;

  feed(): void {
    this.timer.refresh();
  }

  stop(): void {
    clearTimeout(this.timer);
  }
}
