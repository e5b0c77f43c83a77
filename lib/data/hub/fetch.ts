/** Brings files of a repository into the cache, each once, also where several programs want it. */
import fs from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { Interruption } from '../../interruption';
import type { RepositoryCache } from './cache';
import { downloadBlob } from './download';
import type { RemoteFile, Repository } from './listing';
import { withLock } from './lock';
import type { DownloadProgress } from './progress';
import type { HubSettings } from './settings';

/** Where files come from, where they go, and who is told. */
export interface Fetching {
  repository: Repository;
  revision: string;
  cache: RepositoryCache;
  settings: HubSettings;
  onProgress: (progress: DownloadProgress) => void;
}

/**
 * Downloads what is missing of these files.
 * @param isSafe whether a name stays in the repository's folder
 * @throws UserError for a name that does not, and as `downloadBlob` does
 */
export async function fetchFiles(names: readonly string[], fetching: Fetching, isSafe: (name: string) => boolean): Promise<void> {
  const { repository, revision, cache, settings, onProgress } = fetching;
  const { kind, id } = repository.name;
  const missing: RemoteFile[] = [];
  for (const name of names) {
    if (!isSafe(name))
      throw new UserError(
        `${id} holds a file named ${JSON.stringify(name)}, which would leave the ${kind}'s folder; do not use this ${kind}.`,
      );
    if (!fs.existsSync(path.join(cache.snapshot(repository.commit), name))) missing.push(await repository.file(name));
  }
  const totalSize = missing.reduce((sum, file) => sum + (file.size ?? 0), 0);
  const interruption = new Interruption();
  let before = 0;
  for (const file of missing) {
    const blob = cache.blob(file.hash);
    const onBytes = (loaded: number, total: number): void =>
      onProgress({ file: file.name, loaded, total, totalLoaded: before + loaded, totalSize: Math.max(totalSize, before + loaded) });
    await withLock(blob, `${file.name} of ${id}`, interruption, async (check) => {
      if (!isWhole(blob, file)) await downloadBlob(file, blob, { name: repository.name, revision }, settings, { check, onBytes });
    });
    cache.link(repository.commit, file.name, file.hash);
    before += file.size ?? fs.statSync(blob).size;
  }
}

function isWhole(blob: string, { size }: RemoteFile): boolean {
  const stat = fs.statSync(blob, { throwIfNoEntry: false });
  return stat !== undefined && (size === undefined || stat.size === size);
}
