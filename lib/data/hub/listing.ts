/** What a repository on the Hub holds: its commit and, for each file, where it is, how large, and its hash. */
import { isCommit } from './cache';
import { HubOutage, HubRefusal, reasonOf, refusal, request } from './client';
import { type HubName, sitePath } from './name';
import type { HubSettings } from './settings';

export interface RemoteFile {
  readonly name: string;
  readonly url: string;
  readonly size: number | undefined;
  /** Name of the blob in the cache: the SHA-256 of a large file, the git blob id (SHA-1) of a small one. */
  readonly hash: string;
}

export interface Repository {
  readonly name: HubName;
  readonly commit: string;
  /** Names of all files; those of other folders included. */
  readonly names: readonly string[];
  /** Whether the Hub itself listed them; mirrors were asked for each known name, and what they miss may exist all the same. */
  readonly isListed: boolean;
  /** Address, size and hash of a file. */
  file(name: string): Promise<RemoteFile>;
}

interface Sibling {
  rfilename: string;
  size?: number;
  blobId?: string;
  lfs?: { sha256?: string; oid?: string; size?: number };
}

/** Asks the Hub's API; mirrors that have none are asked for each known name. */
export async function listRepository(
  repository: HubName,
  revision: string,
  known: readonly string[],
  settings: HubSettings,
): Promise<Repository> {
  const { kind, id } = repository;
  const url = `${settings.endpoint}/api/${kind}s/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const response = await request(url, settings);
  if (!response.ok) {
    await response.body?.cancel();
    const plain404 = response.status === 404 && !response.headers.has('x-error-code');
    const probed = plain404 ? await probe(repository, revision, known, settings) : undefined;
    if (probed) return probed;
    throw refusal(response, repository, revision, settings);
  }
  const { commit, siblings } = await readListing(response, id, settings);
  const byName = new Map(siblings.map((sibling) => [sibling.rfilename, sibling]));
  const file = (name: string): Promise<RemoteFile> => describe(byName.get(name), repository, commit, name, settings);
  return { name: repository, commit, names: [...byName.keys()], isListed: true, file };
}

/** @throws HubOutage for an answer that breaks off, or is none of the Hub's, like the page that asks to sign in to a network */
async function readListing(response: Response, id: string, settings: HubSettings): Promise<{ commit: string; siblings: Sibling[] }> {
  const text = await response.text().catch((error: unknown) => {
    throw new HubOutage(`${settings.endpoint} broke off its answer about ${id} (${reasonOf(error)})`, 'try again, or use a local folder', {
      cause: error,
    });
  });
  const info = parsed(text) as { sha?: unknown; siblings?: unknown } | null | undefined;
  if (typeof info?.sha !== 'string' || !isCommit(info.sha) || !Array.isArray(info.siblings)) {
    throw new HubOutage(
      `${settings.endpoint} does not answer like the Hugging Face Hub (no commit and files for ${id})`,
      'check the network and HF_ENDPOINT, or use a local folder',
    );
  }
  return { commit: info.sha, siblings: (info.siblings as Sibling[]).filter((sibling) => typeof sibling?.rfilename === 'string') };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function describe(
  sibling: Sibling | undefined,
  repository: HubName,
  commit: string,
  name: string,
  settings: HubSettings,
): Promise<RemoteFile> {
  const hash = sibling?.lfs?.sha256 ?? sibling?.lfs?.oid ?? sibling?.blobId;
  const size = sibling?.lfs?.size ?? sibling?.size;
  if (typeof hash === 'string' && /^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hash))
    return { name, url: addressOf(repository, commit, name, settings), size, hash };
  const asked = await head(repository, commit, name, settings);
  if (asked) return asked.file;
  throw new HubRefusal(`${repository.id} lists ${name} but does not hold it; try again later.`);
}

/** Finds files by asking for each name, as transformers does. */
async function probe(
  repository: HubName,
  revision: string,
  known: readonly string[],
  settings: HubSettings,
): Promise<Repository | undefined> {
  const found = new Map<string, RemoteFile>();
  let commit: string | undefined;
  for (const name of known) {
    const asked = await head(repository, revision, name, settings);
    if (!asked) continue;
    found.set(name, asked.file);
    commit ??= asked.commit;
  }
  if (found.size === 0 || !commit) return undefined;
  const file = async (name: string): Promise<RemoteFile> => {
    const asked = found.get(name) ?? (await head(repository, revision, name, settings))?.file;
    if (asked) return asked;
    throw new HubRefusal(`${repository.id} does not hold ${name}; try again later, or choose another revision.`);
  };
  return { name: repository, commit, names: [...found.keys()], isListed: false, file };
}

/** The Hub's headers for a file; undefined where it does not exist. */
async function head(
  repository: HubName,
  revision: string,
  name: string,
  settings: HubSettings,
): Promise<{ commit: string | undefined; file: RemoteFile } | undefined> {
  const url = addressOf(repository, revision, name, settings);
  const response = await request(url, settings, { method: 'HEAD', follow: false, headers: { 'accept-encoding': 'identity' } });
  await response.body?.cancel();
  if (response.status === 404) return undefined;
  if (response.status >= 400) throw refusal(response, repository, revision, settings);
  const { headers } = response;
  const etag = (headers.get('x-linked-etag') ?? headers.get('etag') ?? '').replace(/^W\//, '').replaceAll('"', '');
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(etag))
    throw new HubRefusal(`${url} has no usable ETag, so its content could not be checked; check HF_ENDPOINT.`);
  const size = Number(headers.get('x-linked-size') ?? (response.status < 300 ? headers.get('content-length') : null) ?? Number.NaN);
  const commit = headers.get('x-repo-commit') ?? (isCommit(revision) ? revision : undefined);
  return {
    commit: commit && isCommit(commit) ? commit : undefined,
    file: { name, url, size: Number.isFinite(size) ? size : undefined, hash: etag },
  };
}

function addressOf(repository: HubName, revision: string, name: string, settings: HubSettings): string {
  return `${settings.endpoint}/${sitePath(repository)}/resolve/${encodeURIComponent(revision)}/${name.split('/').map(encodeURIComponent).join('/')}`;
}
