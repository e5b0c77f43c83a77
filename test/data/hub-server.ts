/** A server that speaks the part of the Hub's protocol that downloads use, on loopback, with faults to order. */
import { createHash } from 'node:crypto';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export const COMMIT = '0123456789abcdef0123456789abcdef01234567';

export interface HubServer {
  readonly endpoint: string;
  /** Every request: method, path, and whether it carried a token or a range. */
  readonly seen: Array<{ method: string; path: string; token: string | undefined; range: string | undefined }>;
  readonly faults: Faults;
  close(): Promise<void>;
}

export interface Faults {
  /** How many more downloads break after half of what was asked for. */
  breaks: number;
  /** How many more requests are answered with 503. */
  busy: number;
  /** What the Hub itself answers in place of all else. */
  answer: ((response: http.ServerResponse) => void) | undefined;
  /** What the storage of large files answers in place of all else. */
  storage: ((response: http.ServerResponse) => void) | undefined;
  /** Content served in place of a file's own. */
  replaced: Map<string, Buffer>;
  /** Only this token may read. */
  gatedFor: string | undefined;
  /** The API is missing, as on plain mirrors. */
  noApi: boolean;
  /** Ranges are ignored and the whole is sent. */
  noRanges: boolean;
}

/** @param files content by name; names ending in .safetensors or .parquet are "large files" that live on the CDN, at another origin */
export async function startHub(
  id: string,
  files: Record<string, string | Buffer>,
  kind: 'model' | 'dataset' = 'model',
): Promise<HubServer> {
  const [apiRoot, root] = [`/api/${kind}s/`, kind === 'dataset' ? `/datasets/${id}` : `/${id}`];
  const content = new Map(Object.entries(files).map(([name, data]) => [name, Buffer.from(data)]));
  const seen: HubServer['seen'] = [];
  const faults: Faults = {
    breaks: 0,
    busy: 0,
    answer: undefined,
    storage: undefined,
    replaced: new Map(),
    gatedFor: undefined,
    noApi: false,
    noRanges: false,
  };
  let cdn = '';

  const serve = (request: http.IncomingMessage, response: http.ServerResponse, name: string): void => {
    const data = faults.replaced.get(name) ?? (content.get(name) as Buffer);
    const range = faults.noRanges ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    if (range && start >= data.length) {
      response.writeHead(416, { 'content-range': `bytes */${data.length}` }).end();
      return;
    }
    const part = data.subarray(start);
    const partial = range ? { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` } : {};
    response.writeHead(range ? 206 : 200, { 'content-length': part.length, ...partial });
    if (faults.breaks > 0 && isLarge(name)) {
      faults.breaks--;
      response.write(part.subarray(0, Math.floor(part.length / 2)), () => setTimeout(() => response.destroy(), 30));
    } else response.end(part);
  };

  const hub = http.createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://x').pathname);
    const token = request.headers.authorization;
    seen.push({ method: request.method ?? '', path, token, range: request.headers.range });
    const refuse = (status: number, code?: string): void => void response.writeHead(status, code ? { 'x-error-code': code } : {}).end();
    if (faults.busy > 0) {
      faults.busy--;
      return refuse(503);
    }
    if (faults.answer) return faults.answer(response);
    const api = path.startsWith(apiRoot);
    if (api && faults.noApi) return refuse(404);
    if (!path.startsWith(api ? `${apiRoot}${id}/` : `${root}/`)) return refuse(401, 'RepoNotFound');
    if (faults.gatedFor !== undefined && token !== `Bearer ${faults.gatedFor}`) return refuse(token ? 403 : 401, 'GatedRepo');
    const revision = path.slice((api ? `${apiRoot}${id}/revision/` : `${root}/resolve/`).length).split('/')[0];
    if (revision !== 'main' && revision !== COMMIT) return refuse(404, 'RevisionNotFound');
    if (api) {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ id, sha: COMMIT, siblings: [...content].map(sibling) }));
      return;
    }
    const name = path.slice(`${root}/resolve/${revision}/`.length);
    const data = content.get(name);
    if (!data) return refuse(404, 'EntryNotFound');
    response.setHeader('x-repo-commit', COMMIT);
    if (isLarge(name)) {
      response
        .writeHead(302, { location: `${cdn}/storage/${name}`, 'x-linked-etag': `"${sha256(data)}"`, 'x-linked-size': data.length })
        .end();
    } else if (request.method === 'HEAD') response.writeHead(200, { etag: `W/"${gitSha1(data)}"`, 'content-length': data.length }).end();
    else serve(request, response, name);
  });
  const storage = http.createServer((request, response) => {
    seen.push({
      method: request.method ?? '',
      path: request.url ?? '',
      token: request.headers.authorization,
      range: request.headers.range,
    });
    if (faults.storage) return faults.storage(response);
    serve(request, response, (request.url ?? '').slice('/storage/'.length));
  });
  cdn = await listen(storage);
  const endpoint = await listen(hub);
  const close = async (): Promise<void> => {
    for (const server of [hub, storage]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  };
  return { endpoint, seen, faults, close };
}

function isLarge(name: string): boolean {
  return name.endsWith('.safetensors') || name.endsWith('.parquet');
}

function sibling([name, data]: [string, Buffer]): object {
  const small = { rfilename: name, size: data.length, blobId: gitSha1(data) };
  return isLarge(name)
    ? { ...small, blobId: gitSha1(Buffer.from('pointer')), lfs: { sha256: sha256(data), size: data.length, pointerSize: 134 } }
    : small;
}

function listen(server: http.Server): Promise<string> {
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)),
  );
}

export function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

export function gitSha1(data: Buffer): string {
  return createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');
}
