/** Files at the border: reading with clear errors, writing so that a crash or a full disk never leaves half a file. */
import { constants } from 'node:buffer';
import fs from 'node:fs';
import { type FileHandle, mkdir, open } from 'node:fs/promises';
import * as path from 'node:path';
import { codeOf, messageOf, UserError } from './errors';
import { parseJson } from './json';
import { decodeUtf8 } from './utf8';

export { parseJson } from './json';

/** What can be written: one piece, or pieces in order (so that a large file need not lie in memory whole). */
export type FileContent = string | Uint8Array | Iterable<string | Uint8Array>;

/**
 * Writes a file so that at any moment `file` holds either its old content or all of the new one:
 * a temporary file beside it, flushed to the disk, then renamed. Makes the folder where it is missing. A link stays, and where it leads is
 * written; a device or a pipe is written to as it is.
 * @throws UserError when the system refuses (disk full, no permission, ...); the temporary file is removed and the old content stays
 */
export function writeFileAtomic(file: string, content: FileContent): void {
  try {
    if (isStream(file)) writeTo(file, content, { flush: false });
    else replaceFile(endOfLinks(file), content);
  } catch (error) {
    throw writeError(file, error);
  }
}

/**
 * Makes sure, as far as that can be known before, that `writeFileAtomic` can write a file.
 * @throws UserError when it is a folder, or the system would refuse
 */
export function checkWritable(file: string): void {
  try {
    if (fs.statSync(file, { throwIfNoEntry: false })?.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    // a file is replaced, for which its folder must be writable
    const written = isStream(file) ? file : existingParent(path.dirname(endOfLinks(file)));
    fs.accessSync(written, fs.constants.W_OK);
    if (written !== file && !fs.statSync(written).isDirectory()) throw Object.assign(new Error(), { code: 'ENOTDIR' });
  } catch (error) {
    throw writeError(file, error);
  }
}

/** Whether what is at a path takes bytes as they come and keeps nothing that could be replaced: a device, a pipe, a terminal. */
function isStream(file: string): boolean {
  const found = fs.statSync(file, { throwIfNoEntry: false });
  return found !== undefined && !found.isFile() && !found.isDirectory();
}

/** Where a chain of links ends, whether that exists or not; the path itself if it is no link. */
function endOfLinks(file: string): string {
  let place = file;
  while (fs.lstatSync(place, { throwIfNoEntry: false })?.isSymbolicLink()) {
    place = path.resolve(fs.realpathSync(path.dirname(place)), fs.readlinkSync(place));
  }
  return place;
}

function replaceFile(file: string, content: FileContent): void {
  const temporary = temporaryName(file);
  try {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    writeTo(temporary, content, { flush: true });
    rename(temporary, file);
    syncFolder(path.dirname(file));
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
}

/**
 * Writes a file piece by piece as the pieces come, first under a temporary name beside it: `file` is always whole or absent. Links, devices and
 * pipes are treated as by `writeFileAtomic`.
 * @throws UserError when the system refuses, for example because the disk is full, and what a piece throws; then nothing is left behind
 */
export async function writePiecesAtomic(file: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  try {
    if (isStream(file)) await writePiecesTo(file, pieces, { flush: false });
    else await replaceByPieces(endOfLinks(file), pieces);
  } catch (error) {
    throw writeError(file, error);
  }
}

async function replaceByPieces(file: string, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = temporaryName(file);
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writePiecesTo(temporary, pieces, { flush: true });
    rename(temporary, file);
  } catch (error) {
    removeQuietly(temporary);
    throw error;
  }
}

async function writePiecesTo(file: string, pieces: AsyncIterable<Uint8Array>, { flush }: { flush: boolean }): Promise<void> {
  const handle = await open(file, 'w');
  try {
    for await (const piece of pieces) await writeFully(handle, piece);
    if (flush) await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Bytes that are written at a time while other work goes on. */
const LONGEST_WRITE = 1 << 25;

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, Math.min(LONGEST_WRITE, bytes.length - at));
    at += bytesWritten;
  }
}

function writeTo(file: string, content: FileContent, { flush }: { flush: boolean }): void {
  const handle = fs.openSync(file, 'w');
  try {
    for (const piece of pieces(content)) writeWhole(handle, piece);
    if (flush) fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
}

let written = 0;

/** A name beside a file for what is to become it, which no other writer uses. What is there goes when this process ends before it is renamed. */
export function temporaryName(file: string): string {
  return whileUnfinished(path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.${(written++).toString(36)}.partial`));
}

/** Files and folders that are being written. */
const unfinished = new Set<string>();

/** Of a file or folder that is not whole yet: it goes when this process ends before it is renamed or removed. @returns the same path */
export function whileUnfinished(place: string): string {
  unfinished.add(place);
  return place;
}

process.on('exit', () => {
  for (const place of unfinished) removeQuietly(place);
});

/** How long Windows may keep a name busy, in milliseconds. */
const PATIENCE = 10_000;

/** What Windows says of a file that another program has open. */
const BUSY = ['EPERM', 'EACCES', 'EBUSY'];

/**
 * Renames a file or folder. Windows refuses that while another program has it open, as virus scanners and indexers do with whatever is
 * new: there it is tried again for some seconds.
 * @throws the system's error
 */
export function rename(from: string, to: string): void {
  const end = Date.now() + PATIENCE;
  for (let pause = 10; ; pause = Math.min(pause + 10, 100)) {
    try {
      fs.renameSync(from, to);
      unfinished.delete(from);
      return;
    } catch (error) {
      if (process.platform !== 'win32' || !BUSY.includes(codeOf(error) ?? '') || Date.now() > end) throw error;
      sleep(pause);
    }
  }
}

/** Waits, and lets nothing else run meanwhile. */
export function sleep(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Removes a file, or a folder with all that is in it, if it is there; for some seconds tried again where the system says that it is busy. */
export function remove(path: string): void {
  fs.rmSync(path, { recursive: true, force: true, maxRetries: 10 });
  unfinished.delete(path);
}

/** Removes what a failed write left. */
export function removeQuietly(file: string): void {
  try {
    remove(file);
  } catch {
    // what made the write fail is told; that its leftovers could not be removed either is no news
  }
}

function pieces(content: FileContent): Iterable<string | Uint8Array> {
  return typeof content === 'string' || content instanceof Uint8Array ? [content] : content;
}

/** Bytes that are written at a time: Node.js refuses 2 GB. */
const MOST_WRITTEN = 1 << 30;

function writeWhole(handle: number, piece: string | Uint8Array): void {
  const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
  for (let at = 0; at < bytes.length; ) at += fs.writeSync(handle, bytes, at, Math.min(bytes.length - at, MOST_WRITTEN));
}

/** The folder itself, or the nearest one above it that exists; where there is none (a drive that is not there), the topmost. */
export function existingParent(folder: string): string {
  let place = path.resolve(folder);
  while (!fs.existsSync(place) && place !== path.dirname(place)) place = path.dirname(place);
  return place;
}

/** Makes the rename itself durable; Windows cannot open a folder for this and does not need it. */
function syncFolder(folder: string): void {
  if (process.platform === 'win32') return;
  const handle = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(handle);
  } catch {
    // some network file systems refuse to flush a folder; the file itself is safe
  } finally {
    fs.closeSync(handle);
  }
}

/** What is at a path, or where its links lead; undefined where nothing is. @throws UserError when the system does not tell */
export function statusOf(place: string): fs.Stats | undefined {
  try {
    return fs.statSync(place, { throwIfNoEntry: false });
  } catch (error) {
    // nothing is below a file
    if (codeOf(error) === 'ENOTDIR') return undefined;
    throw readError(place, error);
  }
}

/** Whether a path is a folder. @throws UserError when the system does not tell */
export function isFolder(place: string): boolean {
  return statusOf(place)?.isDirectory() === true;
}

/** The path without links, in the letter case that the disk has; the whole path where nothing is. */
export function realPath(place: string): string {
  return fs.existsSync(place) ? fs.realpathSync.native(place) : path.resolve(place);
}

/** The names of what a folder holds. @throws UserError when it cannot be read */
export function namesIn(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch (error) {
    throw readError(folder, error);
  }
}

/** The files in a folder and in those in it, by their paths from there, with `/` on every system. Links to folders are not followed. */
export function filesIn(folder: string): string[] {
  try {
    const entries = fs.readdirSync(folder, { recursive: true, withFileTypes: true });
    const isFile = (entry: fs.Dirent): boolean =>
      entry.isFile() || (entry.isSymbolicLink() && statusOf(path.join(entry.parentPath ?? entry.path, entry.name))?.isFile() === true);
    return entries
      .filter(isFile)
      .map(({ parentPath, path: older, name }) => path.relative(folder, path.join(parentPath ?? older, name)).replaceAll(path.sep, '/'));
  } catch (error) {
    throw readError(folder, error);
  }
}

/** What is wrong with a path itself, whatever was to be done with it; undefined where nothing is. */
function faultOfPath(place: string, error: unknown): UserError | undefined {
  switch (codeOf(error)) {
    case 'ELOOP':
      return new UserError(`${place} is a link that leads back to itself, so there is no such file; name the file itself.`, {
        cause: error,
      });
    case 'ENAMETOOLONG':
      return new UserError(`${shortened(place)} is a longer name than the system allows; choose a shorter one.`, { cause: error });
    case 'ERR_INVALID_ARG_VALUE':
      return new UserError(`${JSON.stringify(place)} cannot be a path, because it contains a NUL character; remove it.`, { cause: error });
    default:
      return undefined;
  }
}

function shortened(place: string): string {
  return place.length > 200 ? `${place.slice(0, 100)}...${place.slice(-40)}` : place;
}

/** Turns a failed write to `file` into a sentence for the user; errors that are not the system's pass unchanged. */
export function writeError(file: string, error: unknown): unknown {
  const fault = faultOfPath(file, error);
  if (fault) return fault;
  switch (codeOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
    case 'EFBIG':
      return new UserError(
        `The disk is full: ${file} could not be saved; nothing was lost (what was there before is untouched), so free some space and run again.`,
        { cause: error },
      );
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new UserError(`${file} could not be saved: no permission to write there; choose another folder.`, { cause: error });
    case 'ENOTDIR':
    case 'EEXIST':
      return new UserError(`${file} could not be saved: a part of this path is a file, not a folder; choose another folder.`, {
        cause: error,
      });
    case 'EISDIR':
      return new UserError(`${file} could not be saved: it is a folder; choose another name.`, { cause: error });
    // so Node.js says where the disk is read-only, and Windows where there is no such drive
    case 'ENOENT':
      return new UserError(`${file} could not be saved: no folder can be made there; choose another folder.`, { cause: error });
    default:
      return codeOf(error) ? new UserError(`${file} could not be saved: ${messageOf(error)}.`, { cause: error }) : error;
  }
}

/** The same for what is written by way of another place, which the user has not named: told of `place`. */
export function writeErrorBehind(place: string, error: unknown): unknown {
  const cause = error instanceof UserError ? error.cause : undefined;
  return writeError(place, codeOf(cause) === undefined ? error : cause);
}

/**
 * Reads a text file (UTF-8; a byte-order mark is dropped).
 * @throws UserError when the path is missing, is a folder, or cannot be read, and where it is no UTF-8 (with line and column)
 */
export function readText(file: string): string {
  try {
    // told at once, not after all of it has been read
    if (isLargerThanText(file)) throw Object.assign(new Error(), { code: 'ERR_STRING_TOO_LONG' });
    const text = decodeUtf8(fs.readFileSync(file), file);
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  } catch (error) {
    throw readError(file, error);
  }
}

/** The bytes of a small file, as they are. @throws UserError when the path is missing, is a folder, or cannot be read */
export function readBytes(file: string): Uint8Array {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    throw readError(file, error);
  }
}

/** The first bytes of a file, so many at most. @throws UserError when the path is missing, is a folder, or cannot be read */
export function readStart(file: string, length: number): Buffer {
  for (const piece of readPieces(file, length)) return piece;
  return Buffer.alloc(0);
}

/** Bytes that make no longer text than there can be. */
const LONGEST_TEXT = constants.MAX_STRING_LENGTH;

/** Whether a file may hold more than one text can; its lines then are read one by one. */
export function isLargerThanText(file: string): boolean {
  return (statusOf(file)?.size ?? 0) >= LONGEST_TEXT;
}

/** Bytes that are read at a time. */
const PIECE = 1 << 20;

const LINE_END = 0x0a;

/**
 * The lines of a text file (as `readText` has it), read as they are asked for, without their ends.
 * @throws UserError as `readText`
 */
export function* readLines(file: string): Generator<string, void, void> {
  let number = 1;
  for (const bytes of readLineBytes(file)) {
    const line = bytesToText(file, bytes, number);
    yield number === 1 && line.charCodeAt(0) === 0xfeff ? line.slice(1) : line;
    number++;
  }
}

function bytesToText(file: string, bytes: Buffer, line: number): string {
  try {
    return decodeUtf8(bytes, file, line);
  } catch (error) {
    throw readError(file, error);
  }
}

function* readLineBytes(file: string): Generator<Buffer, void, void> {
  /** The pieces so far of a line whose end has not been read. */
  let begun: Buffer[] = [];
  const whole = (last: Buffer): Buffer => {
    const line = begun.length === 0 ? last : Buffer.concat([...begun, last]);
    begun = [];
    return line;
  };
  for (const piece of readPieces(file)) {
    let begin = 0;
    for (let end = piece.indexOf(LINE_END); end >= 0; end = piece.indexOf(LINE_END, begin)) {
      yield whole(piece.subarray(begin, end));
      begin = end + 1;
    }
    begun.push(piece.subarray(begin));
  }
  yield whole(Buffer.alloc(0));
}

function* readPieces(file: string, size = PIECE): Generator<Buffer, void, void> {
  let handle: number | undefined;
  try {
    handle = fs.openSync(file, 'r');
    for (;;) {
      const piece = Buffer.allocUnsafe(size);
      const length = fs.readSync(handle, piece, 0, size, null);
      if (length === 0) return;
      yield piece.subarray(0, length);
    }
  } catch (error) {
    throw readError(file, error);
  } finally {
    if (handle !== undefined) fs.closeSync(handle);
  }
}

/** Turns a failed read of `file` into a sentence for the user; errors that are not the system's pass unchanged. */
export function readError(file: string, error: unknown): unknown {
  const fault = faultOfPath(file, error);
  if (fault) return fault;
  switch (codeOf(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new UserError(`${file} does not exist; check the path (it is taken from ${process.cwd()}).`, { cause: error });
    case 'EISDIR':
      return new UserError(`${file} is a folder, but a file was expected; name a file in it.`, { cause: error });
    case 'EACCES':
    case 'EPERM':
      return new UserError(`${file} cannot be read: permission denied; change its permissions.`, { cause: error });
    case 'ERR_STRING_TOO_LONG':
    case 'ERR_FS_FILE_TOO_LARGE':
      return new UserError(
        `${file} is too large to be read as one text (more than ${Math.round(LONGEST_TEXT / 2 ** 20)} MB); split it, or, if it holds rows, write it as JSONL.`,
        { cause: error },
      );
    default:
      return codeOf(error) ? new UserError(`${file} cannot be read: ${messageOf(error)}.`, { cause: error }) : error;
  }
}

/**
 * Reads a JSON file; the caller parses the value into its own type.
 * @throws UserError when the path is missing, the file is empty, or the JSON is broken (with line and column)
 */
export function readJson(file: string): unknown {
  const text = readText(file);
  if (text.trim() === '') throw new UserError(`${file} is empty, but JSON was expected; check that it was written completely.`);
  return parseJson(text, file);
}
