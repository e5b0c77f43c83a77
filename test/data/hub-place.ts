/** What the tests of the Hub client share: a local Hub with a small model or dataset, an empty cache, and an environment that names both. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { UserError } from '../../lib/errors';
import { type HubServer, startHub } from './hub-server';

export const ID = 'tester/tiny-model';
export const weights = randomBytes(300_000);
export const config = Buffer.from('{"model_type": "llama"}');
export const model = {
  'config.json': config,
  'tokenizer.json': '{}',
  'model.safetensors': weights,
  'README.md': '# hi',
  'pytorch_model.bin': 'pickle',
  'modeling.py': 'import os',
};

export interface Place {
  hub: HubServer;
  home: string;
  cache: string;
  repository: string;
  env: (name: string, value: string | undefined) => void;
}

/** A hub that holds one model, an empty cache, and an environment that names both; all put back afterwards. */
export async function withHub(
  files: Record<string, string | Buffer>,
  run: (place: Place) => Promise<void>,
  kind: 'model' | 'dataset' = 'model',
): Promise<void> {
  const hub = await startHub(ID, files, kind);
  const home = fs.mkdtempSync(path.join(tmpdir(), 'hub-'));
  const names = [
    'HF_ENDPOINT',
    'HF_HOME',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_TOKEN_PATH',
    'HF_HUB_OFFLINE',
    'TRANSFORMERS_OFFLINE',
    ...['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]),
  ];
  const before = Object.fromEntries(names.map((name) => [name, process.env[name]]));
  const env: Place['env'] = (name, value) => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  for (const name of names) env(name, undefined);
  env('HF_ENDPOINT', `${hub.endpoint}/`);
  env('HF_HOME', home);
  const cache = path.join(home, 'hub');
  try {
    await run({ hub, home, cache, repository: path.join(cache, `${kind}s--tester--tiny-model`), env });
  } finally {
    for (const name of names) env(name, before[name]);
    await hub.close();
    fs.rmSync(home, { recursive: true, force: true });
  }
}

/** Checks that an error is one sentence for the user, and what it says. */
export function says(...patterns: RegExp[]): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof UserError, String((error as Error).stack));
    assert.ok(!error.message.includes('\n'));
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}
