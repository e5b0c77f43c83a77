/** From a model to a checkpoint in Hugging Face's layout, which `loadModel` and transformers open. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { TOKENIZER_FILES } from '../data/hub';
import { UserError } from '../errors';
import { isFolder, namesIn, parseJson, remove, rename, writeError } from '../files';
import { isObject } from '../json';
import { ConfigReader } from './config';
import { architectureOf } from './families';
import { writeSafetensors } from './safetensors';
import type { CausalLM, SavedDtype, SaveOptions } from './types';

/** How the name of a folder begins in which a model is written before it is moved in. */
export const STAGING = '.saving-';

/** Files by which a folder is known as the place of a model or of a training run; it may be written to again. */
const OWN_FILES = ['config.json', 'run.json', 'metrics.jsonl', 'adapter_config.json'];

/**
 * Saves a model and its tokenizer: config.json, model.safetensors, generation_config.json and the tokenizer's files.
 * All files are written beside their places first and moved in at the end, so a full disk or a crash leaves an earlier
 * checkpoint in the folder as it was.
 * @throws UserError when the folder holds something else, or the system refuses to write
 */
export async function saveModel(model: CausalLM, directory: string, { dtype = 'float32', chatTemplate }: SaveOptions = {}): Promise<void> {
  checkOutputFolder(directory);
  const staging = makeStaging(directory);
  try {
    const tensors = [...model.parameters].map(([name, variable]) => ({
      name,
      shape: variable.shape,
      data: async () => (await variable.data()) as Float32Array,
    }));
    await writeSafetensors(path.join(staging, 'model.safetensors'), tensors, { dtype });
    copyTextFiles(model, staging);
    if (chatTemplate !== undefined) writeFileSync(path.join(staging, 'chat_template.jinja'), chatTemplate);
    writeFileSync(path.join(staging, 'config.json'), configJson(model, dtype));
    moveIn(staging, directory);
  } catch (error) {
    // told of the folder that was asked for, not of the place in between
    throw writeError(directory, error instanceof UserError ? (error.cause ?? error) : error);
  } finally {
    remove(staging);
  }
}

/**
 * Makes sure that a model may be saved into a folder: it is new, or empty, or holds an earlier model or training run.
 * @throws UserError when it is a file or holds something else
 */
export function checkOutputFolder(directory: string): void {
  if (!existsSync(directory)) return;
  if (!isFolder(directory)) throw new UserError(`${directory} is a file, so no model can be saved there; choose a folder.`);
  const present = namesIn(directory).filter((name) => !name.startsWith('.') && !name.startsWith('checkpoint-'));
  if (present.length === 0 || OWN_FILES.some((name) => isOwn(path.join(directory, name)))) return;
  throw new UserError(`${directory} holds something else (${present[0]}), so no model is saved there; choose a new or empty folder.`);
}

/** config.json is the name of many programs' files; a model's names its type. */
function isOwn(file: string): boolean {
  if (!existsSync(file)) return false;
  if (path.basename(file) !== 'config.json') return true;
  try {
    const json = parseJson(readFileSync(file, 'utf8'), file);
    return isObject(json) && ('model_type' in json || 'architectures' in json);
  } catch {
    return false;
  }
}

function makeStaging(directory: string): string {
  try {
    mkdirSync(directory, { recursive: true });
    return mkdtempSync(path.join(directory, STAGING));
  } catch (error) {
    throw writeError(directory, error);
  }
}

/**
 * Moves the files in; what an earlier model had beside them goes. config.json last: a folder without it is no model, so a half-moved
 * one is never taken for one.
 */
function moveIn(staging: string, directory: string): void {
  const files = readdirSync(staging).sort((a, b) => Number(a === 'config.json') - Number(b === 'config.json'));
  for (const file of [...TOKENIZER_FILES, 'generation_config.json']) if (!files.includes(file)) remove(path.join(directory, file));
  for (const file of files) rename(path.join(staging, file), path.join(directory, file));
}

function copyTextFiles(model: CausalLM, staging: string): void {
  const generation = model.directory && path.join(model.directory, 'generation_config.json');
  const files = [...model.tokenizer.files, ...(generation && existsSync(generation) ? [generation] : [])];
  for (const file of files) copyFileSync(file, path.join(staging, path.basename(file)));
}

/** The configuration as it was read, with the number format that it is saved in. */
function configJson(model: CausalLM, dtype: SavedDtype): string {
  const { torch_dtype: _old, ...raw } = model.config.raw;
  const architectures = raw.architectures ?? [architectureOf(new ConfigReader(model.config.raw, 'the configuration')).name];
  const dtypeKey = 'torch_dtype' in model.config.raw ? 'torch_dtype' : 'dtype';
  return `${JSON.stringify({ ...raw, architectures, [dtypeKey]: dtype }, null, 2)}\n`;
}
