/** Talking to the Hub: requests, redirects, and what its refusals mean. The token goes to the Hub itself and to nobody else. */
import { codeOf, messageOf, UserError } from '../../errors';
import { type HubName, sitePath } from './name';
import { fetchThrough, proxyFor, shownProxy } from './proxy';
import type { HubSettings } from './settings';

/** The Hub cannot be reached; a cached copy may still serve. */
export class HubUnreachable extends UserError {
  /**
   * @param trouble what has happened: the sentence's beginning
   * @param remedy what to do where no copy serves: its end
   */
  constructor(
    readonly trouble: string,
    remedy: string,
    options?: { cause?: unknown },
  ) {
    super(`${trouble}; ${remedy}.`, options);
  }
}

/** The Hub was reached, and asked again where that may help, but is out of order, so that nothing is learnt about the model. */
export class HubOutage extends HubUnreachable {}

/** The Hub does not give what was asked for: it does not exist, or not for everybody. */
export class HubRefusal extends UserError {}

/** A server that says nothing for this long is given up. */
export const PATIENCE_MS = 30_000;
const ATTEMPTS = 4;
const REDIRECTS = 10;

export interface HubRequest {
  method?: 'GET' | 'HEAD';
  headers?: Record<string, string>;
  /** Whether redirects to other hosts are followed; a HEAD wants the Hub's own answer. Default true. */
  follow?: boolean;
  /** Ends the request and the reading of its body; without it both get PATIENCE_MS. */
  signal?: AbortSignal;
}

/** Sends a request, following redirects; repeats it while the server is overloaded. Errors of status 400 and above are for the caller. */
export async function request(url: string, settings: HubSettings, options: HubRequest = {}): Promise<Response> {
  for (let attempt = 1; ; attempt++) {
    const last = attempt === ATTEMPTS;
    const response = await once(url, settings, options).catch((error: unknown) => {
      if (last || !mayPass(error)) throw error;
      return undefined;
    });
    const busy = response === undefined || isOutage(response.status);
    if (response && (!busy || last)) return response;
    await response?.body?.cancel();
    await pause(attempt);
  }
}

/** Whether a status speaks of the server's state and not of what was asked for. */
function isOutage(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

async function once(
  start: string,
  settings: HubSettings,
  { method = 'GET', headers = {}, follow = true, signal }: HubRequest,
): Promise<Response> {
  let url = new URL(start);
  const home = new URL(settings.endpoint).origin;
  for (let hop = 0; hop <= REDIRECTS; hop++) {
    const authorization: Record<string, string> =
      settings.token && url.origin === home ? { authorization: `Bearer ${settings.token}` } : {};
    const response = await send(url, settings, { method, headers: { ...headers, ...authorization }, redirect: 'manual', signal });
    const location = response.status >= 300 && response.status < 400 ? response.headers.get('location') : null;
    if (location === null) return response;
    const next = addressOf(location, url);
    if (!next) {
      await response.body?.cancel();
      throw new HubOutage(
        `${url.origin} redirects to ${shown(location)}, which is no web address`,
        `check HF_ENDPOINT (${settings.endpoint}), or use a local folder`,
      );
    }
    if (!follow && next.origin !== home) return response;
    // the metadata of a large file is on the redirect itself, not on the storage that it points to
    if (!follow && response.headers.has('x-linked-etag')) return response;
    await response.body?.cancel();
    url = next;
  }
  throw new HubOutage(`${start} redirects more than ${REDIRECTS} times`, `check HF_ENDPOINT (${settings.endpoint}), or use a local folder`);
}

/** Where a redirect goes; undefined where no request can go there. */
function addressOf(location: string, from: URL): URL | undefined {
  const url = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  return url && /^https?:$/.test(url.protocol) && !url.username && !url.password ? url : undefined;
}

/** An address that may hold a password or a signature, without these. */
function shown(location: string): string {
  return location.includes('@') ? 'an address with a user or password' : JSON.stringify(location.replace(/[?#].*/s, ''));
}

async function send(url: URL, { proxies }: HubSettings, init: RequestInit): Promise<Response> {
  try {
    return await fetchThrough(proxies, url, { ...init, signal: init.signal ?? AbortSignal.timeout(PATIENCE_MS) });
  } catch (error) {
    const proxy = proxyFor(url, proxies);
    const suspects = proxy === undefined ? 'the network and HF_ENDPOINT' : `the proxy ${shownProxy(proxy)}, the network and HF_ENDPOINT`;
    const trouble = `${url.origin} cannot be reached (${reasonOf(error)})`;
    throw new HubUnreachable(trouble, `check ${suspects}, or use a local folder`, { cause: error });
  }
}

/** True for troubles that often are gone a moment later; a refused connection or an unknown host is not one. */
function mayPass(error: unknown): boolean {
  const reason = error instanceof HubUnreachable ? reasonOf(error.cause) : '';
  return ['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'UND_ERR_SOCKET', 'UND_ERR_BODY_TIMEOUT', 'EAI_AGAIN'].includes(reason);
}

/** fetch says only "fetch failed"; why is in its cause. */
export function reasonOf(error: unknown): string {
  const cause = (error as { cause?: unknown } | null)?.cause;
  const refused = /^Proxy response \((\d+)\)/.exec(messageOf((cause as { cause?: unknown } | null)?.cause));
  if (refused) return `the proxy answered with status ${refused[1]}`;
  return codeOf(cause) ?? codeOf(error) ?? (cause instanceof Error ? cause.message : messageOf(error));
}

/** Waits longer after each attempt: 0.3, 0.6, 1.2, ... seconds. */
export function pause(attempt: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 150 * 2 ** attempt));
}

/** The error that a refusal means, for a repository at `revision`. */
export function refusal(response: Response, name: HubName, revision: string, settings: HubSettings): UserError {
  const { kind, id } = name;
  const code = response.headers.get('x-error-code') ?? '';
  const where = `${settings.endpoint}/${sitePath(name)}`;
  const withToken = settings.token !== undefined;
  if (response.status === 429)
    return new HubOutage(`${settings.endpoint} limits the number of requests (status 429)`, 'wait some minutes, or set HF_TOKEN');
  if (isOutage(response.status))
    return new HubOutage(`${settings.endpoint} is out of order (status ${response.status})`, 'try again later, or use a local folder');
  if (code === 'GatedRepo' || (response.status === 403 && code === '')) {
    return new HubRefusal(
      `${id} is gated: its owner grants access on request; ask for it at ${where}, then ${withToken ? 'use an HF_TOKEN of the account that was granted it' : 'set HF_TOKEN to a token of that account'}.`,
    );
  }
  if (code === 'RevisionNotFound')
    return new HubRefusal(`${id} has no revision ${JSON.stringify(revision)}; see ${where}/tree/main for its branches and tags.`);
  if (code === 'RepoNotFound' || response.status === 404 || response.status === 401) {
    const token = withToken ? 'the HF_TOKEN that is set may not read it' : 'if it is private, set HF_TOKEN';
    return new HubRefusal(
      `${id} is neither ${kind === 'model' ? 'a folder' : 'a file or folder'} here nor a ${kind} at ${settings.endpoint} (status ${response.status}); check the spelling, and ${token}.`,
    );
  }
  return new HubRefusal(`${settings.endpoint} refused ${id} (status ${response.status}${code && `, ${code}`}); try again later.`);
}
