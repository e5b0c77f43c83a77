/** What the environment says about the Hugging Face Hub, read anew at each call; the variables are those of huggingface_hub. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import * as path from 'node:path';

export interface HubSettings {
  /** Base address without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  /** Folder that holds `models--org--name` folders. */
  readonly cache: string;
}

/** HF_ENDPOINT; HF_TOKEN, else the file that `hf auth login` writes; HF_HUB_OFFLINE; HF_HUB_CACHE, else HF_HOME/hub. */
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
  const named = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || '').trim();
  if (named !== '') return named;
  const file = expand(env.HF_TOKEN_PATH || path.join(home, 'token'));
  if (isTrue(env.HF_HUB_DISABLE_IMPLICIT_TOKEN) || !existsSync(file)) return undefined;
  return readFileSync(file, 'utf8').trim() || undefined;
}

function isTrue(value: string | undefined): boolean {
  return value !== undefined && ['1', 'ON', 'YES', 'TRUE'].includes(value.toUpperCase());
}

function expand(folder: string): string {
  return folder === '~' || folder.startsWith('~/') ? path.join(homedir(), folder.slice(1)) : path.resolve(folder);
}
