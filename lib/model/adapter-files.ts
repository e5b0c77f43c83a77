/** Adapters on disk, as PEFT writes and reads them: adapter_config.json and adapter_model.safetensors. */
import { existsSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import type * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { readJson } from '../files';
import { isObject, showValue } from '../json';
import { rowsOfAdapter, tablesIn, takeTables } from './adapter-tables';
import type { Parameter } from './layers';
import { type AdapterBase, declareLayer, LoraAdapter, type LoraLayer, type LoraSettings, partsOf, peftKeys, trainedOf } from './lora';
import { isListOfNames, settingsFor, stacksOf } from './lora-targets';
import { oldNameOf, partsToTrain, tiedCopyOf } from './modules-to-save';
import { moduleOf } from './names';
import { faultOf, type Patterns } from './rank-patterns';
import { openSafetensors, readInto, type SafetensorsFile, tensorsOf, writeSafetensors } from './safetensors';
import { declareUpdates } from './stack-updates';
import { isTrainableTokens } from './token-indices';
import { checkTokens, rowsToTrain } from './trainable-tokens';
import type { CausalLM, SavedDtype } from './types';

export const ADAPTER_CONFIG = 'adapter_config.json';
export const ADAPTER_WEIGHTS = 'adapter_model.safetensors';
/** What PEFT wrote before. */
const PICKLED_WEIGHTS = 'adapter_model.bin';

/** adapter_config.json, parsed. */
export interface AdapterConfig {
  readonly file: string;
  readonly settings: LoraSettings;
  readonly base: AdapterBase;
}

/** Keys that say nothing of how an adapter computes: where it comes from, and which layers have one, which the names of its tensors say. */
const INFORMATIVE = new Set([
  ...['auto_mapping', 'inference_mode', 'peft_version', 'task_type', 'exclude_modules', 'layers_pattern', 'layers_to_transform'],
  ...['loftq_config', 'megatron_core', 'qalora_group_size', 'modules_to_tie', 'fan_in_fan_out'],
]);

/** Ways in which an adapter begins that leave the base model's weights as they were; what was trained since is in its matrices. */
const BASE_AS_IT_WAS: readonly string[] = ['gaussian', 'orthogonal', 'eva'];
const EXPECTED_BEGINNING =
  `true, false or one of ${BASE_AS_IT_WAS.join(', ')}; others change the base model: save the adapter by PEFT with ` +
  'path_initial_model_for_weight_conversion, which makes it one of the usual kind';

/**
 * Reads the adapter_config.json of a folder.
 * @returns undefined where there is none
 * @throws UserError when it is broken, another kind of adapter than LoRA, or asks for a kind of LoRA that is not there
 */
export function readAdapterConfig(directory: string): AdapterConfig | undefined {
  const file = path.join(directory, ADAPTER_CONFIG);
  if (!existsSync(file)) return undefined;
  const raw = readJson(file);
  if (!isObject(raw)) throw new UserError(`${file} is not a JSON object; save the adapter again.`);
  const { peft_type: type, base_model_name_or_path: base, revision, ...rest } = raw;
  const {
    r,
    lora_alpha: loraAlpha,
    lora_dropout: loraDropout = 0,
    use_rslora: useRslora = false,
    use_dora: useDora = false,
    target_modules: modulesOrNull,
    target_parameters: parameters,
    rank_pattern: ranks,
    alpha_pattern: alphas,
    modules_to_save: modules,
    ensure_weight_tying: ensureWeightTying = false,
    trainable_token_indices: tokens,
    ...others
  } = rest;
  const refuse = (key: string, value: unknown, range: string): never => {
    throw new UserError(`${file}: ${key} is ${showValue(value)}, but must be ${range}.`);
  };
  if (type !== 'LORA') refuse('peft_type', type, '"LORA", the only kind of adapter that can be read');
  if (typeof base !== 'string' || base === '')
    refuse('base_model_name_or_path', base, 'the folder or the Hub id of the base model; write it there');
  if (!Number.isInteger(r) || (r as number) < 1) refuse('r', r, 'a whole number, at least 1');
  if (!(typeof loraAlpha === 'number' && loraAlpha > 0)) refuse('lora_alpha', loraAlpha, 'a number above 0');
  if (typeof useRslora !== 'boolean') refuse('use_rslora', useRslora, 'true or false');
  if (typeof useDora !== 'boolean') refuse('use_dora', useDora, 'true or false');
  if (!(typeof loraDropout === 'number' && loraDropout >= 0 && loraDropout < 1))
    refuse('lora_dropout', loraDropout, 'a number, at least 0 and below 1');
  const targetParameters = parameters ?? [];
  if (!isListOfNames(targetParameters)) refuse('target_parameters', parameters, 'a list of names');
  // by parameters alone
  const targets = modulesOrNull ?? (isListOfNames(parameters) ? [] : modulesOrNull);
  const names = typeof targets === 'string' ? [targets] : targets;
  if (!Array.isArray(names) || !names.every((name) => typeof name === 'string')) refuse('target_modules', targets, 'a list of names');
  const modulesToSave = modules ?? [];
  if (!isListOfNames(modulesToSave)) refuse('modules_to_save', modules, 'a list of names');
  if (typeof ensureWeightTying !== 'boolean') refuse('ensure_weight_tying', ensureWeightTying, 'true or false');
  const trainableTokenIndices = tokens ?? undefined;
  if (trainableTokenIndices !== undefined && !isTrainableTokens(trainableTokenIndices))
    refuse('trainable_token_indices', tokens, 'a list of ids, or such lists by the names of modules');
  const patterns = {
    rankPattern: readPatterns('rank_pattern', ranks, refuse),
    alphaPattern: readPatterns('alpha_pattern', alphas, refuse),
  };
  refuseOtherKinds(others, refuse);
  const made = {
    ...{ r, loraAlpha, loraDropout, useRslora, useDora, targetModules: targets, targetParameters, modulesToSave, ensureWeightTying },
    ...{ trainableTokenIndices, ...patterns },
  };
  const settings = made as unknown as LoraSettings;
  return { file, settings, base: { name: base as string, revision: typeof revision === 'string' ? revision : undefined } };
}

type Refuse = (key: string, value: unknown, range: string) => never;

/** Ranks or alphas by patterns of names; undefined where there are none. */
function readPatterns(key: 'rank_pattern' | 'alpha_pattern', value: unknown, refuse: Refuse): Patterns | undefined {
  if (value === undefined || isOff(value)) return undefined;
  const isInRange = (x: unknown): boolean =>
    key === 'rank_pattern' ? Number.isInteger(x) && (x as number) > 0 : typeof x === 'number' && x > 0;
  if (!isObject(value) || !Object.values(value).every(isInRange))
    return refuse(key, value, `a table of ${key === 'rank_pattern' ? 'whole ' : ''}numbers above 0 by patterns of names`);
  const fault = faultOf(value as Patterns);
  return fault === undefined ? (value as Patterns) : refuse(key, value, `by regular expressions, and one is none: ${fault}`);
}

/** What else an adapter may be made of changes what it computes; whatever is switched on is refused. */
function refuseOtherKinds(others: Record<string, unknown>, refuse: Refuse): void {
  const { bias = 'none', init_lora_weights: initial = true, ...switches } = others;
  if (bias !== 'none') refuse('bias', bias, '"none"; adapters with biases cannot be read');
  if (typeof initial === 'string' && !BASE_AS_IT_WAS.includes(initial)) refuse('init_lora_weights', initial, EXPECTED_BEGINNING);
  for (const [key, value] of Object.entries(switches)) {
    if (!INFORMATIVE.has(key) && !isOff(value)) refuse(key, value, 'off; adapters of this kind cannot be read');
  }
}

function isOff(value: unknown): boolean {
  return value === null || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
}

/**
 * Gives a model the adapter of a folder.
 * @param base where the model came from, for when the adapter is saved again
 * @throws UserError when the file is missing, damaged, or another model's
 */
export async function attachAdapter(model: CausalLM, directory: string, { settings }: AdapterConfig, base: AdapterBase): Promise<void> {
  const file = await openSafetensors(weightsIn(directory));
  try {
    const layers = layersIn(file, model, settings);
    const stacks = stacksOf(
      settings,
      layers.map(({ linear }) => linear),
      model,
    );
    const parts = { layers, updates: declareUpdates(stacks, settings) };
    const names = [...layers.map(({ linear }) => linear.name), ...stacks.map(({ name }) => moduleOf(name))];
    checkTokens(model, settings);
    const modules = partsToTrain(model, settings, names);
    const saved = modulesIn(file, modules);
    const rows = rowsToTrain(model, settings);
    const matrices = [...trainedOf(parts), ...rows.map(({ values }) => values as unknown as Parameter)];
    try {
      for (const { name, shape } of matrices) checkTensor(file, name, shape);
      const known = new Set([...[...matrices, ...saved].map(({ name }) => name), ...tiedCopyOf(model, modules).keys()]);
      const tables = tablesIn(file, model, known);
      refuseUnknown(file, new Set([...known, ...tables]));
      for (const matrix of matrices) matrix.fill(await file.read(matrix.name));
      for (const { name, variable } of saved) await readInto(variable, file, name);
      const changed = await takeTables(file, model, tables, rows);
      model.adapter = new LoraAdapter(settingsFor(settings, layers, model), parts, changed ? null : base, modules, rows);
    } catch (error) {
      for (const part of [...matrices, ...rows]) part.dispose();
      throw error;
    }
  } finally {
    await file.close();
  }
}

/**
 * How many rows embedding and head have in the model that the adapter of a folder was trained in.
 * @param base rows of the base model
 * @param tokens of the folder's own tokenizer; undefined where it has none
 */
export function rowsFor(directory: string, config: AdapterConfig, sizes: { base: number; tokens?: number }): Promise<number> {
  return rowsOfAdapter(weightsIn(directory), config, sizes);
}

function weightsIn(directory: string): string {
  const file = path.join(directory, ADAPTER_WEIGHTS);
  if (!existsSync(file) && existsSync(path.join(directory, PICKLED_WEIGHTS)))
    throw new UserError(
      `${directory} has its weights in ${PICKLED_WEIGHTS}, which is not read, as it may hold code; open it with PEFT and save it again, which writes ${ADAPTER_WEIGHTS}.`,
    );
  return file;
}

/** The model's layers for which the file has matrices. @throws UserError when the file is empty */
function layersIn(file: SafetensorsFile, model: CausalLM, settings: LoraSettings): LoraLayer[] {
  const layers = [...model.linears.values()]
    .map((layer) => declareLayer(layer, settings))
    .filter((layer) => partsOf(layer).some(({ name }) => file.tensors.has(name)));
  if (file.tensors.size === 0) throw new UserError(`${file.file} holds no tensors; save the adapter again.`);
  return layers;
}

/** A parameter of the model that the file has a value for. */
interface SavedPart {
  /** Its name in the file. */
  readonly name: string;
  readonly variable: tf.Variable;
}

/** Where the file has the values of modules that are trained whole. @throws UserError when one is missing, or has another shape */
function modulesIn(file: SafetensorsFile, parts: ReadonlyMap<string, tf.Variable>): SavedPart[] {
  return [...parts].map(([usual, variable]) => {
    const name = file.tensors.has(oldNameOf(usual)) ? oldNameOf(usual) : usual;
    checkTensor(file, name, variable.shape);
    return { name, variable };
  });
}

function checkTensor({ file, tensors }: SafetensorsFile, name: string, shape: readonly number[]): void {
  const found = tensors.get(name)?.shape;
  if (!found) throw new UserError(`${file}: the tensor "${name}" is missing; the file is incomplete: save the adapter again.`);
  if (found.join() !== shape.join())
    throw new UserError(
      `${file}: the tensor "${name}" has shape [${found}], but this model and r ask for [${shape}]; it is another model's.`,
    );
}

/** @throws UserError when the file has tensors that are no part of the adapter */
function refuseUnknown({ file, tensors }: SafetensorsFile, known: ReadonlySet<string>): void {
  const unknown = [...tensors.keys()].find((name) => !known.has(name));
  if (unknown !== undefined && /\.experts\.\d+\./.test(unknown))
    throw new UserError(
      `${file} holds the tensor "${unknown}", matrices for each expert by itself, as PEFT wrote them with transformers 4; open the adapter with PEFT 0.21 ` +
        'and transformers 5, and save it again.',
    );
  if (unknown !== undefined)
    throw new UserError(
      `${file} holds the tensor "${unknown}", which is no matrix of a linear layer of this model, nor in a module to save; the adapter is another model's.`,
    );
}

/** Writes a model's adapter into a folder. */
export async function writeAdapter(
  model: CausalLM,
  { settings, parameters, base }: LoraAdapter,
  { directory, dtype }: { directory: string; dtype: SavedDtype },
): Promise<void> {
  const tensors = tensorsOf(new Map([...parameters, ...tiedCopyOf(model, parameters)]));
  await writeSafetensors(path.join(directory, ADAPTER_WEIGHTS), tensors, { dtype });
  writeFileSync(path.join(directory, ADAPTER_CONFIG), `${JSON.stringify(configJson(model, settings, base), null, 2)}\n`);
}

function configJson({ transposed }: CausalLM, settings: LoraSettings, base: AdapterBase | null): Record<string, unknown> {
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: base?.name ?? null,
    revision: base?.revision ?? null,
    ...{ modules_to_save: null, ...peftKeys(settings) },
    ...{ bias: 'none', fan_in_fan_out: transposed.size > 0, init_lora_weights: true, inference_mode: true },
  };
}
