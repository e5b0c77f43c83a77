/** A model by name: a local folder as it is, or a repository of the Hugging Face Hub, downloaded into the shared cache. */
import fs from 'node:fs';
import * as path from 'node:path';
import { codeOf, UserError } from '../../errors';
import { readError } from '../../files';
import { isCommit, isComplete, isPlainName, RepositoryCache, shardsOf } from './cache';
import { HubRefusal, HubUnreachable } from './client';
import { fetchFiles } from './fetch';
import { checkRevision, isId } from './ids';
import { listRepository } from './listing';
import { type DownloadProgress, progressLine } from './progress';
import { type HubSettings, hubSettings } from './settings';

export { CARD, type DatasetOptions, openDataset } from './dataset';
export { isId } from './ids';
export type { DownloadProgress } from './progress';

export interface ResolveOptions {
  /** Branch, tag or commit of a Hub repository. Default `main`. */
  revision?: string;
  /** Which files are wanted; default `model`: configuration, tokenizer and safetensors weights. `tokenizer` leaves out the weights. */
  files?: 'model' | 'tokenizer';
  /** Told about each piece that arrives; default: a line in the notebook's cell or the terminal. */
  onProgress?: (progress: DownloadProgress) => void;
}

/** The files that a tokenizer may consist of. */
export const TOKENIZER_FILES: readonly string[] = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'chat_template.jinja',
  'chat_template.json',
];
/** Everything but weights that is ever downloaded; never anything that could run code when it is read. */
const SMALL_FILES = ['config.json', 'generation_config.json', ...TOKENIZER_FILES, 'adapter_config.json'];
const smallFiles = (files: 'model' | 'tokenizer'): readonly string[] => (files === 'model' ? SMALL_FILES : TOKENIZER_FILES);
const INDEX = 'model.safetensors.index.json';
const WEIGHTS = ['model.safetensors', 'adapter_model.safetensors'];

/**
 * The local folder of a model: the folder itself, or the snapshot of a Hub repository, downloaded into the Hugging Face cache
 * where it is missing there. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and HF_HUB_CACHE are honoured.
 * @throws UserError for a missing folder, a model that does not exist, is gated or has no safetensors weights, a network that
 *   fails (what has arrived is kept), content whose hash is wrong, and in offline mode for a model that is not in the cache
 */
export async function resolveModel(
  dirOrId: string,
  { revision = 'main', files = 'model', onProgress }: ResolveOptions = {},
): Promise<string> {
  const local = localFolder(dirOrId);
  if (local !== undefined) return local;
  checkId(dirOrId);
  checkRevision(revision);
  const settings = hubSettings();
  const cache = new RepositoryCache(settings.cache, { kind: 'model', id: dirOrId });
  const cached = cachedSnapshot(cache, revision, files);
  if (settings.offline) {
    if (cached) return cached;
    throw new UserError(
      `${dirOrId} is not in the cache ${settings.cache} and HF_HUB_OFFLINE forbids downloading it; run once without HF_HUB_OFFLINE, or give a local folder.`,
    );
  }
  // what a commit holds never changes; but another program may have taken only a part of it
  if (cached && path.basename(cached) === revision && cache.knows(revision, smallFiles(files))) return cached;
  try {
    return await download(dirOrId, revision, files, cache, settings, onProgress ?? progressLine(dirOrId));
  } catch (error) {
    // a path that was mistyped looks like a name on the Hub
    if (!cached && error instanceof HubUnreachable)
      throw new UserError(`There is no folder ${dirOrId} in ${process.cwd()}, and ${error.message}`, { cause: error });
    const trouble = cached && whyCached(error, dirOrId, revision, cached, settings);
    if (!trouble) throw error;
    console.warn(`${trouble}; ${dirOrId} is taken from the cache.`);
    return cached;
  }
}

/** What has happened, where it is a reason to be content with the cached snapshot. */
function whyCached(error: unknown, id: string, revision: string, cached: string, settings: HubSettings): string | undefined {
  if (error instanceof HubUnreachable) return error.trouble;
  // a branch may have gone on; a commit is still the same, and was asked for only because a small file may be missing
  const isEnough = isCommit(revision) && isComplete(cached, 'tokenizer');
  return error instanceof HubRefusal && isEnough ? `${settings.endpoint} does not give ${id} now` : undefined;
}

/** The folder itself where the name is a folder's; undefined where it can only be a Hub id. */
function localFolder(dirOrId: string): string | undefined {
  const stat = statOf(dirOrId);
  if (stat?.isDirectory()) return dirOrId;
  if (stat)
    throw new UserError(`${dirOrId} is a file, but the folder of a model was expected; name the folder that holds its config.json.`);
  const pathLike = /^[./~]|\\|^[A-Za-z]:|\/$/.test(dirOrId) || dirOrId.split('/').length > 2;
  if (pathLike) throw new UserError(`There is no folder ${dirOrId}; check the path (it is taken from ${process.cwd()}).`);
  return undefined;
}

/** @throws UserError where the system does not say what a path leads to */
function statOf(name: string): fs.Stats | undefined {
  try {
    return fs.statSync(name, { throwIfNoEntry: false });
  } catch (error) {
    // too long for a path here, so that there is none; whether it may be an id is another question
    if (codeOf(error) === 'ENAMETOOLONG') return undefined;
    throw readError(name, error);
  }
}

function checkId(id: string): void {
  if (isId(id)) return;
  throw new UserError(
    `${JSON.stringify(id)} is neither a folder nor a model's name on the Hugging Face Hub (like org/name); check the spelling.`,
  );
}

function cachedSnapshot(cache: RepositoryCache, revision: string, files: 'model' | 'tokenizer'): string | undefined {
  const commit = cache.commitOf(revision);
  if (commit === undefined) return undefined;
  const folder = cache.snapshot(commit);
  return fs.existsSync(folder) && isComplete(folder, files) ? folder : undefined;
}

async function download(
  id: string,
  revision: string,
  files: 'model' | 'tokenizer',
  cache: RepositoryCache,
  settings: HubSettings,
  onProgress: (progress: DownloadProgress) => void,
): Promise<string> {
  const repository = await listRepository({ kind: 'model', id }, revision, [...SMALL_FILES, INDEX, ...WEIGHTS], settings);
  const folder = cache.snapshot(repository.commit);
  const fetching = { repository, revision, cache, settings, onProgress };
  const fetchThese = (names: readonly string[]): Promise<void> => fetchFiles(names, fetching, isPlainName);
  const has = (name: string): boolean => repository.names.includes(name);
  await fetchThese(SMALL_FILES.filter(has));
  if (files === 'model') {
    const weights = WEIGHTS.filter(has);
    if (weights.length === 0 && has(INDEX)) {
      await fetchThese([INDEX]);
      weights.push(...shardsOf(path.join(folder, INDEX)));
    }
    if (weights.length === 0) throw noWeights(id, repository.names);
    await fetchThese(weights);
  }
  if (repository.isListed)
    cache.rememberAbsent(
      repository.commit,
      SMALL_FILES.filter((name) => !has(name)),
    );
  // only now: a revision that is remembered has been downloaded whole
  cache.remember(revision, repository.commit);
  return folder;
}

function noWeights(id: string, names: readonly string[]): UserError {
  const other = names.find((name) => /\.(bin|pt|pth|ckpt|h5|msgpack|gguf|onnx)$/.test(name));
  const found = other
    ? `only ${other} and its like, which are not read because such files can run code or are of another kind`
    : 'no weights at all';
  return new UserError(
    `${id} has no safetensors weights (${found}); choose a model with model.safetensors, or convert it with transformers' save_pretrained.`,
  );
}
