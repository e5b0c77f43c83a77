/** What the environment says about the Hugging Face Hub, read anew at each call; the variables are those of huggingface_hub. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { readText } from '../../files';
import { type ProxySettings, proxySettings } from './proxy';

export interface HubSettings {
  /** Base address without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  /** Folder that holds `models--org--name` folders. */
  readonly cache: string;
  readonly proxies: ProxySettings;
}

const HUB = 'https://huggingface.co';

/**
 * HF_ENDPOINT; HF_TOKEN, else the file that `hf auth login` writes; HF_HUB_OFFLINE; HF_HUB_CACHE, else HF_HOME/hub; HTTPS_PROXY and its
 * like. Addresses and token are not looked at where nobody will be asked.
 * @throws UserError for an address or a token that can be none, or a file of the token that cannot be read
 */
export function hubSettings(env: NodeJS.ProcessEnv = process.env): HubSettings {
  const home = expand(env.HF_HOME || path.join(env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'huggingface'));
  const offline = isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE);
  return {
    endpoint: offline ? HUB : endpointOf(env.HF_ENDPOINT ?? ''),
    token: offline ? undefined : tokenOf(env, home),
    offline,
    cache: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || path.join(home, 'hub')),
    proxies: proxySettings(offline ? {} : env),
  };
}

/** The address that HF_ENDPOINT names. What may hold a password is not shown. */
function endpointOf(text: string): string {
  const named = text.trim();
  if (named === '') return HUB;
  const url = URL.canParse(named) ? new URL(named) : undefined;
  const isAddress = url?.protocol === 'https:' || url?.protocol === 'http:';
  if (isAddress && !url.username && !url.password && !url.search && !url.hash) return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  if (named.includes('@'))
    throw new UserError(
      'HF_ENDPOINT holds a user or a password, which are not sent; give the address without them, and a token in HF_TOKEN.',
    );
  const shown = JSON.stringify(named.replace(/[?#].*/s, ''));
  if (isAddress)
    throw new UserError(`HF_ENDPOINT (${shown}) goes on with a query (? or #), but a base address was expected; leave the query out.`);
  throw new UserError(`HF_ENDPOINT is ${shown}, which is no web address; give a whole one like ${HUB}, or unset it.`);
}

function tokenOf(env: NodeJS.ProcessEnv, home: string): string | undefined {
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const named = checkedToken(env[name] ?? '', name);
    if (named !== undefined) return named;
  }
  const file = expand(env.HF_TOKEN_PATH || path.join(home, 'token'));
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN) || !existsSync(file)) return undefined;
  return checkedToken(readText(file), file);
}

/** A token without the space around it; undefined where there is none. What is wrong with it is said without showing it: it is a secret. */
function checkedToken(text: string, place: string): string | undefined {
  const token = text.trim();
  if (token === '') return undefined;
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  const fault = /[\r\n]/.test(token) ? 'more than one line' : 'a space or another character that no token has';
  throw new UserError(
    `${place} holds ${fault}, so it is no token of the Hugging Face Hub; put the token there alone, or nothing to do without one.`,
  );
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && ['1', 'ON', 'YES', 'TRUE'].includes(value.toUpperCase());
}

function expand(folder: string): string {
  return folder === '~' || folder.startsWith('~/') ? path.join(homedir(), folder.slice(1)) : path.resolve(folder);
}
