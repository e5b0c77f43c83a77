/**
 * The cache of huggingface_hub on disk, shared with Python:
 *   models--org--name/refs/main                  (datasets--org--name of a dataset) the commit that a branch points to
 *   models--org--name/snapshots/COMMIT/FILE      a link to ...
 *   models--org--name/blobs/HASH                 ... the content (HASH.incomplete while it is being downloaded)
 *   models--org--name/.no_exist/COMMIT/FILE      an empty file: this commit has no such file
 *   datasets--org--name/.names/COMMIT.json       names of all files that the commit has, downloaded or not (not of huggingface_hub)
 */
import fs from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { readError, readText, remove, rename, writeError, writeFileAtomic } from '../../files';
import { parseJson } from '../../json';
import type { HubName } from './name';

/** A repository's place in the cache. */
export class RepositoryCache {
  private readonly folder: string;

  constructor(cache: string, { kind, id }: HubName) {
    this.folder = path.join(cache, `${kind}s--${id.replaceAll('/', '--')}`);
  }

  snapshot(commit: string): string {
    return path.join(this.folder, 'snapshots', commit);
  }

  blob(hash: string): string {
    return path.join(this.folder, 'blobs', hash);
  }

  /** The commit that a branch or tag pointed to when it was last asked for. */
  commitOf(revision: string): string | undefined {
    if (isCommit(revision)) return revision;
    const file = path.join(this.folder, 'refs', revision);
    return fs.existsSync(file) ? readText(file).trim() : undefined;
  }

  remember(revision: string, commit: string): void {
    if (!isCommit(revision) && this.commitOf(revision) !== commit) writeFileAtomic(path.join(this.folder, 'refs', revision), commit);
  }

  /** Whether each of these files is there or is known not to exist, so that there is nothing to ask about them. */
  knows(commit: string, files: readonly string[]): boolean {
    return files.every((file) => fs.existsSync(path.join(this.snapshot(commit), file)) || fs.existsSync(this.absence(commit, file)));
  }

  /** Remembers files that a commit does not have. */
  rememberAbsent(commit: string, files: readonly string[]): void {
    try {
      for (const file of files) {
        fs.mkdirSync(path.dirname(this.absence(commit, file)), { recursive: true });
        fs.closeSync(fs.openSync(this.absence(commit, file), 'a'));
      }
    } catch {
      // a cache that may only be read still serves; the Hub is asked each time
    }
  }

  /** Remembers the names of all files of a commit. */
  rememberNames(commit: string, names: readonly string[]): void {
    try {
      if (this.namesOf(commit) === undefined) writeFileAtomic(this.listing(commit), JSON.stringify(names));
    } catch {
      // a cache that may only be read still serves
    }
  }

  /** The names of all files of a commit, if they were remembered. */
  namesOf(commit: string): string[] | undefined {
    const file = this.listing(commit);
    if (!fs.existsSync(file)) return undefined;
    const names = parseJson(readText(file), file);
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : undefined;
  }

  private listing(commit: string): string {
    return path.join(this.folder, '.names', `${commit}.json`);
  }

  private absence(commit: string, file: string): string {
    return path.join(this.folder, '.no_exist', commit, file);
  }

  /**
   * Makes a file of a snapshot show a blob: by a symbolic link; where these are not allowed (Windows), by a hard one, which needs no more
   * room either; where there are no links, by a copy.
   */
  link(commit: string, file: string, hash: string): void {
    const target = path.join(this.snapshot(commit), file);
    const blob = this.blob(hash);
    try {
      if (fs.existsSync(target)) return;
      fs.mkdirSync(path.dirname(target), { recursive: true });
      remove(target);
      const isLinked =
        isThere(target, () => fs.symlinkSync(path.relative(path.dirname(target), blob), target)) ||
        isThere(target, () => fs.linkSync(blob, target));
      if (!isLinked) copyWhole(blob, target);
    } catch (error) {
      throw writeError(target, error);
    }
  }
}

/** Whether a file can be read after something has made it, or tried to. */
function isThere(file: string, make: () => void): boolean {
  try {
    make();
  } catch {
    return false;
  }
  return fs.existsSync(file);
}

/** Copies a file so that half a copy never has its name. */
function copyWhole(source: string, target: string): void {
  const partial = `${target}.incomplete`;
  try {
    fs.copyFileSync(source, partial);
    rename(partial, target);
  } finally {
    remove(partial);
  }
}

/** Makes a folder of the cache, and those above it. */
export function makeFolder(folder: string): void {
  try {
    fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw writeError(folder, error);
  }
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** The weight files that an index names. @throws UserError when the index is no index, or names a file outside its folder */
export function shardsOf(indexFile: string): string[] {
  const index = parseJson(readText(indexFile), indexFile) as { weight_map?: Record<string, unknown> } | null;
  const map = index?.weight_map;
  if (typeof map !== 'object' || map === null)
    throw new UserError(`${indexFile} has no "weight_map", so it is no index of weights; download the model again.`);
  const shards = [...new Set(Object.values(map))];
  for (const shard of shards) {
    if (typeof shard !== 'string' || !isPlainName(shard) || !shard.endsWith('.safetensors')) {
      throw new UserError(
        `${indexFile} names ${JSON.stringify(shard)} as a weight file, but only .safetensors files in the same folder are read; do not use this model.`,
      );
    }
  }
  return shards as string[];
}

/** A file name that stays in its folder on every system. */
export function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._ +-]*$/.test(name);
}

/** The path of a file in folders that stays there on every system. */
export function isPlainPath(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what no name may have
  return name.split('/').every((part) => /^[^\\:*?"<>|\x00-\x1f]*[^\\:*?"<>|\x00-\x1f. ]$/.test(part));
}

/** True when a snapshot can serve, if need be: Python may have left the weights without the tokenizer, and not each model has one. */
export function isComplete(folder: string, files: 'model' | 'tokenizer'): boolean {
  const has = (name: string): boolean => fs.existsSync(path.join(folder, name));
  try {
    if (files === 'tokenizer') return has('tokenizer.json') || (has('vocab.json') && has('merges.txt'));
    if (has('adapter_config.json') && has('adapter_model.safetensors')) return true;
    if (!has('config.json')) return false;
    if (has('model.safetensors')) return true;
    return has('model.safetensors.index.json') && shardsOf(path.join(folder, 'model.safetensors.index.json')).every(has);
  } catch (error) {
    throw readError(folder, error);
  }
}
