/** What the environment says about the Hugging Face Hub, read anew at each call; the variables are those of huggingface_hub. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import * as path from 'node:path';
import { UserError } from '../../errors';
import { readText } from '../../files';

export interface HubSettings {
  /** Base address without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  /** Folder that holds `models--org--name` folders. */
  readonly cache: string;
}

/** HF_ENDPOINT; HF_TOKEN, else the file that `hf auth login` writes; HF_HUB_OFFLINE; HF_HUB_CACHE, else HF_HOME/hub. @throws UserError for a token that can be none, or a file of it that cannot be read */
export function hubSettings(env: NodeJS.ProcessEnv = process.env): HubSettings {
  const home = expand(env.HF_HOME || path.join(env.XDG_CACHE_HOME || path.join(homedir(), '.cache'), 'huggingface'));
  return {
    endpoint: (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, ''),
    token: tokenOf(env, home),
    offline: isTrue(env.HF_HUB_OFFLINE) || isTrue(env.TRANSFORMERS_OFFLINE),
    cache: expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || path.join(home, 'hub')),
  };
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
