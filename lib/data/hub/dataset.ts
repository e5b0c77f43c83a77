/** A dataset on the Hugging Face Hub: what files it has, and those that are wanted brought into the shared cache. */
import fs from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { filesIn } from '../../files';
import { isPlainPath, RepositoryCache } from './cache';
import { HubUnreachable } from './client';
import { fetchFiles } from './fetch';
import { checkRevision } from './ids';
import { listRepository } from './listing';
import type { HubName } from './name';
import { type DownloadProgress, progressLine } from './progress';
import { hubSettings } from './settings';

/** A dataset's files. */
export interface DatasetRepository {
  /** Where the files are, or will be. */
  readonly folder: string;
  /** Names of all files, with `/` between folders; of those in the cache where the Hub was not asked and nobody has noted them. */
  readonly names: readonly string[];
  /** Sees to it that these are in the folder. */
  fetch(names: readonly string[]): Promise<void>;
}

export interface DatasetOptions {
  /** Branch, tag or commit. Default `main`. */
  revision?: string;
  onProgress?: (progress: DownloadProgress) => void;
}

/** Says of a dataset which of its files are data. */
export const CARD = 'README.md';

/**
 * Opens a dataset of the Hub; where the Hub cannot be reached or must not be asked, what the cache has of it.
 * @throws UserError when it does not exist or is gated, when the network fails or is forbidden and the cache has nothing
 */
export async function openDataset(id: string, { revision = 'main', onProgress }: DatasetOptions = {}): Promise<DatasetRepository> {
  checkRevision(revision);
  const settings = hubSettings();
  const name: HubName = { kind: 'dataset', id };
  const cache = new RepositoryCache(settings.cache, name);
  const cached = cachedDataset(id, cache, revision);
  if (settings.offline) {
    if (cached) return cached;
    throw new UserError(
      `The dataset ${id} is not in the cache ${settings.cache} and HF_HUB_OFFLINE forbids downloading it; run once without HF_HUB_OFFLINE, or give a local file.`,
    );
  }
  try {
    const repository = await listRepository(name, revision, [CARD], settings);
    const fetching = { repository, revision, cache, settings, onProgress: onProgress ?? progressLine(id) };
    return {
      folder: cache.snapshot(repository.commit),
      names: repository.names,
      fetch: async (names) => {
        await fetchFiles(names, fetching, isPlainPath);
        // the card alone is not yet a dataset: until there is more, what was downloaded before serves where the Hub is not asked
        if (names.every((file) => file === CARD)) return;
        if (repository.isListed) cache.rememberNames(repository.commit, repository.names);
        cache.remember(revision, repository.commit);
      },
    };
  } catch (error) {
    if (!(error instanceof HubUnreachable)) throw error;
    // a name that was mistyped looks like one on the Hub
    if (!cached) throw new UserError(`There is no file or folder ${id} in ${process.cwd()}, and ${error.message}`, { cause: error });
    console.warn(`${error.trouble}; the dataset ${id} is taken from the cache.`);
    return cached;
  }
}

/** What was downloaded of it before. */
function cachedDataset(id: string, cache: RepositoryCache, revision: string): DatasetRepository | undefined {
  const commit = cache.commitOf(revision);
  const folder = commit === undefined ? undefined : cache.snapshot(commit);
  if (folder === undefined || !fs.existsSync(folder)) return undefined;
  const listed = cache.namesOf(path.basename(folder));
  const isHere = (name: string): boolean => isPlainPath(name) && fs.existsSync(path.join(folder, name));
  const fetch = async (names: readonly string[]): Promise<void> => {
    // where another program has filled the cache, only names tell of what it left out
    const absent = names.find((name) => !isHere(name)) ?? (listed ? undefined : absentShard(names));
    if (absent !== undefined)
      throw new UserError(`${absent} of the dataset ${id} is not in the cache, and the Hub is not asked; run again when it can be.`);
  };
  return { folder, names: listed ?? filesIn(folder), fetch };
}

/** A file that others say there is: `train-00000-of-00002.parquet` has a second one. */
function absentShard(names: readonly string[]): string | undefined {
  for (const name of names) {
    const [, before, count, after] = /^(.*-)\d{5}(?=-of-(\d{5}))(.*)$/.exec(name) ?? [];
    for (let shard = 0; shard < Number(count ?? 0); shard++) {
      const other = `${before}${String(shard).padStart(5, '0')}${after}`;
      if (!names.includes(other)) return other;
    }
  }
  return undefined;
}
