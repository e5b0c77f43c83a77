/** The proxy that the environment names, as in many companies: requests go through it, as Python's do. */
import type { Dispatcher } from 'undici';
import { UserError } from '../../errors';

export interface ProxySettings {
  /** Address of the proxy for addresses with https, and for those with http; undefined where these are asked without one. */
  readonly https: string | undefined;
  readonly http: string | undefined;
  /** Hosts that are asked without a proxy, divided by commas; `*` is all. */
  readonly except: string;
}

/**
 * HTTPS_PROXY and HTTP_PROXY, else ALL_PROXY; NO_PROXY. Names in small letters count more, as in curl and Python.
 * @throws UserError for a proxy whose address can be none
 */
export function proxySettings(env: NodeJS.ProcessEnv): ProxySettings {
  const all = proxyOf(env, 'ALL_PROXY');
  return {
    https: proxyOf(env, 'HTTPS_PROXY') ?? all,
    http: proxyOf(env, 'HTTP_PROXY') ?? all,
    except: env.no_proxy ?? env.NO_PROXY ?? '',
  };
}

function proxyOf(env: NodeJS.ProcessEnv, variable: string): string | undefined {
  const name = env[variable.toLowerCase()] ? variable.toLowerCase() : variable;
  const text = env[name]?.trim() ?? '';
  if (text === '') return undefined;
  // where names are looked up, which the h of socks5h says, undici leaves to the proxy in any case
  const address = (text.includes('://') ? text : `http://${text}`).replace(/^socks5h:/, 'socks5:');
  const protocol = URL.canParse(address) ? new URL(address).protocol : '';
  if (['http:', 'https:', 'socks5:'].includes(protocol)) return address;
  const shown = text.includes('@') ? 'an address with a user or password' : JSON.stringify(text);
  throw new UserError(
    `${name} is ${shown}, but the address of an HTTP or SOCKS5 proxy was expected; give one like http://proxy.example:3128, or unset it.`,
  );
}

/** The proxy that a request goes through, unless NO_PROXY names its host. */
export function proxyFor(url: URL, proxies: ProxySettings): string | undefined {
  return url.protocol === 'https:' ? proxies.https : proxies.http;
}

/** The address of a proxy without the user and password in it. */
export function shownProxy(proxy: string): string {
  const { protocol, host } = new URL(proxy);
  return `${protocol}//${host}`;
}

const agents = new Map<string, Dispatcher>();

/** `fetch`, through a proxy where there is one. Node's own knows none before version 24: that is undici's, of which Node's is a copy. */
export async function fetchThrough(proxies: ProxySettings, url: URL, init: RequestInit): Promise<Response> {
  const proxy = proxyFor(url, proxies);
  if (proxy === undefined) return fetch(url, init);
  const undici = await import('undici');
  const key = `${proxy} ${proxies.except}`;
  const dispatcher = agents.get(key) ?? new undici.EnvHttpProxyAgent({ httpProxy: proxy, httpsProxy: proxy, noProxy: proxies.except });
  agents.set(key, dispatcher);
  const response = await undici.fetch(url, { ...(init as Parameters<typeof undici.fetch>[1]), dispatcher });
  return response as unknown as Response;
}
