/** From a model to a checkpoint in Hugging Face's layout, which `loadModel` and transformers open. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { checkModel, checkOptions, checkPath } from '../arguments';
import { TOKENIZER_FILES } from '../data/hub';
import { UserError } from '../errors';
import {
  existingParent,
  isFolder,
  namesIn,
  parseJson,
  realPath,
  remove,
  rename,
  whileUnfinished,
  writeError,
  writeErrorBehind,
} from '../files';
import { isObject, showValue } from '../json';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, writeAdapter } from './adapter-files';
import { compactName, refuseCompact, withoutCompact } from './compact-weights';
import { ConfigReader, GENERATION_CONFIG } from './config';
import { architectureOf } from './families';
import { cutIntoParts } from './parts';
import { tensorsOf, writeSafetensors } from './safetensors';
import type { CausalLM, SavedDtype, SaveOptions } from './types';

/** How the name of a folder begins in which a model is written before it is moved in. */
export const STAGING = '.saving-';

const WEIGHTS = 'model.safetensors';

const DTYPES: readonly SavedDtype[] = ['float32', 'float16', 'bfloat16'];

/** Where in a model's folder its ONNX files are, as on the Hub. */
export const ONNX_FOLDER = 'onnx';

/** Files by which a folder is known as the place of a model or of a training run; it may be written to again. */
const OWN_FILES = ['config.json', 'run.json', 'metrics.jsonl', ADAPTER_CONFIG];

/**
 * Saves a model and its tokenizer: config.json, model.safetensors, generation_config.json and the tokenizer's files. Of a model with an
 * adapter the adapter alone, in PEFT's layout: adapter_config.json, adapter_model.safetensors and the tokenizer's files.
 * All files are written beside their places first and moved in at the end, so a full disk or a crash leaves an earlier
 * checkpoint in the folder as it was.
 * @throws UserError when there is no such option or number format, the folder holds something else, or the system refuses to write
 */
export async function saveModel(model: CausalLM, directory: string, options: SaveOptions = {}): Promise<void> {
  checkModel('saveModel', model);
  checkPath('saveModel', 'folder', directory);
  checkOptions('saveModel', options, { dtype: true });
  const { dtype = 'float32' } = options;
  if (!DTYPES.includes(dtype))
    throw new UserError(`There is no dtype ${showValue(dtype)} to save in; choose from ${new Intl.ListFormat('en').format(DTYPES)}.`);
  checkOutputFolder(directory);
  checkAdapter(model, directory);
  if (!model.adapter) refuseCompact(model, 'cannot be saved as a whole');
  await saveInto(directory, async (staging) => {
    writeTokenizer(model, staging);
    await (model.adapter ? writeAdapter(model, model.adapter, { directory: staging, dtype }) : writeWhole(model, staging, dtype));
  });
}

/**
 * Fills a folder with the files of a model: all are written before any takes its place.
 * @param write writes them into a folder that it is given
 * @throws UserError when the system refuses to write
 */
export async function saveInto(directory: string, write: (staging: string) => Promise<void>): Promise<void> {
  const staging = makeStaging(directory);
  try {
    await write(staging);
    moveIn(staging, directory);
  } catch (error) {
    throw writeErrorBehind(directory, error);
  } finally {
    remove(staging);
  }
}

export function writeTokenizer({ tokenizer }: CausalLM, directory: string): void {
  for (const [name, content] of tokenizer.files) writeFileSync(path.join(directory, name), content);
}

/**
 * Makes sure that a model may be saved into a folder: it is new, or empty, or holds an earlier model or training run.
 * @throws UserError when it is a file or holds something else
 */
export function checkOutputFolder(directory: string): void {
  const above = existingParent(directory);
  if (!isFolder(above))
    throw new UserError(`${existsSync(directory) ? directory : above} is a file, so no model can be saved there; choose a folder.`);
  if (!existsSync(directory)) return;
  const present = namesIn(directory).filter((name) => !name.startsWith('.') && !name.startsWith('checkpoint-'));
  if (present.length === 0 || OWN_FILES.some((name) => isOwn(path.join(directory, name)))) return;
  throw new UserError(`${directory} holds something else (${present[0]}), so no model is saved there; choose a new or empty folder.`);
}

/**
 * Makes sure that a model's adapter, if it has one, can be saved into a folder.
 * @throws UserError when no checkpoint has the weights that it belongs to, or those are in that folder
 */
export function checkAdapter(model: CausalLM, directory: string): void {
  const { adapter, directory: base } = model;
  if (!adapter) return;
  if (adapter.base === null) {
    const first = compactName(model) === undefined ? '' : `load the model without ${withoutCompact(model).option}, `;
    throw new UserError(
      `The adapter belongs to weights that no checkpoint has, so it would be of no use alone; ${first}merge it (mergeAdapter(model)), and save the whole.`,
    );
  }
  if (base !== undefined && realPath(base) === realPath(directory))
    throw new UserError(`${directory} is the folder of the adapter's base model, which it would replace; choose another folder.`);
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
    return whileUnfinished(mkdtempSync(path.join(directory, STAGING)));
  } catch (error) {
    throw writeError(directory, error);
  }
}

/** By these a folder is known as a model, or as an adapter, which comes first where both are there. */
const SIGNS = [ADAPTER_CONFIG, 'config.json'];

/**
 * Moves the files in; what an earlier model had beside them goes, the sign of another kind of model first. Their own sign last: a folder
 * without one is no model, so a half-moved one is never taken for one.
 */
function moveIn(staging: string, directory: string): void {
  const isSign = (file: string): number => Number(SIGNS.includes(file));
  const files = readdirSync(staging).sort((a, b) => isSign(a) - isSign(b));
  for (const file of [...SIGNS, WEIGHTS, ADAPTER_WEIGHTS, ...TOKENIZER_FILES, GENERATION_CONFIG, ONNX_FOLDER])
    if (!files.includes(file)) remove(path.join(directory, file));
  for (const file of files) {
    // a folder cannot take the place of one that holds something
    if (isFolder(path.join(staging, file))) remove(path.join(directory, file));
    rename(path.join(staging, file), path.join(directory, file));
  }
}

/** All but the tokenizer. */
async function writeWhole(model: CausalLM, directory: string, dtype: SavedDtype): Promise<void> {
  await writeSafetensors(path.join(directory, WEIGHTS), cutIntoParts(tensorsOf(model.parameters, model.transposed), model.inParts), {
    dtype,
  });
  writeConfigs(model, directory, dtype);
}

/** config.json and generation_config.json. @param more keys of config.json beside the model's own */
export function writeConfigs(model: CausalLM, directory: string, dtype: SavedDtype, more: Readonly<Record<string, unknown>> = {}): void {
  if (model.generationConfig) writeFileSync(path.join(directory, GENERATION_CONFIG), model.generationConfig);
  writeFileSync(path.join(directory, 'config.json'), `${withPoints({ ...configOf(model, dtype), ...more })}\n`);
}

/** Keys whose numbers transformers refuses where they are written without a point, as 0 for 0.0. */
const POINTED = new Set([
  ...[
    'router_aux_loss_coef',
    'routed_scaling_factor',
    'router_jitter_noise',
    'time_step_limit',
    'embedding_multiplier',
    'lm_head_multiplier',
    'key_multiplier',
    'attention_in_multiplier',
  ],
  ...['attention_out_multiplier', 'ssm_in_multiplier', 'ssm_out_multiplier', 'ssm_multipliers', 'mlp_multipliers'],
  ...['attn_logit_softcapping', 'final_logit_softcapping', 'initializer_range', 'init_std'],
  ...['rms_norm_eps', 'norm_eps', 'norm_epsilon', 'layer_norm_eps', 'layer_norm_epsilon', 'logit_scale', 'clip_qkv'],
]);

/** JSON in which the numbers of those keys have a point. */
function withPoints(json: Record<string, unknown>): string {
  const mark = 'number with a point: ';
  const marked = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(marked);
    return Number.isSafeInteger(value) ? `${mark}${String(value)}` : value;
  };
  const text = JSON.stringify(json, (key, value: unknown) => (POINTED.has(key) ? marked(value) : value), 2);
  return text.replace(new RegExp(`"${mark}(-?\\d+)"`, 'g'), '$1.0');
}

/** The configuration as it was read, with the number format that it is saved in. */
function configOf(model: CausalLM, dtype: SavedDtype): Record<string, unknown> {
  const { torch_dtype: _old, dtype: _new, ...raw } = model.config.raw;
  const architectures = raw.architectures ?? [architectureOf(new ConfigReader(model.config.raw, 'the configuration')).name];
  const dtypeKey = 'torch_dtype' in model.config.raw && !('dtype' in model.config.raw) ? 'torch_dtype' : 'dtype';
  return { ...raw, architectures, [dtypeKey]: dtype };
}
