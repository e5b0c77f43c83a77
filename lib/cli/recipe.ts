/** The settings of `sft`: a YAML recipe as for `trl sft`, with flags over it. */
import { type Document, isMap, isScalar, LineCounter, parseDocument } from 'yaml';
import { UserError } from '../errors';
import { readText } from '../files';
import { fieldList, parseConfig, type SFTConfig } from '../train/config';
import type { DeviceFlags } from './device';
import { type GivenFlag, oneValue, readFlags, splitWords } from './flags';
import { readScriptArguments, type ScriptArguments, scriptField, scriptKeys } from './script-fields';
import { sftFlags } from './verbs';

/** All that `sft` was asked for. */
export interface Recipe {
  config: SFTConfig;
  script: ScriptArguments & { model_name_or_path: string };
  device: DeviceFlags;
  notes: string[];
}

/** Where TRL writes to if it is not told. */
const OUTPUT_DIR = 'trainer_output';

/** @throws UserError for broken YAML (with line and column), an unknown key, a value out of range, a missing model or dataset */
export function readRecipe(words: readonly string[]): Recipe {
  const given = splitWords(words, 'tunebook sft');
  const own = readFlags(
    given.filter(({ name }) => Object.hasOwn(sftFlags, name)),
    sftFlags,
    'tunebook sft',
  );
  const file = own.config === null ? undefined : readRecipeFile(own.config);
  const flags = settingsOf(given.filter(({ name }) => !Object.hasOwn(sftFlags, name)));
  const short = { model_name_or_path: own.model, dataset_name: own.data };
  for (const [key, value] of Object.entries(short))
    if (value !== null) addOnce(flags, key, value, `--${key} and its short form are both given; keep one.`);
  const placeOf = (key: string): string | undefined => (Object.hasOwn(flags, key) ? undefined : file?.placeOf(key));
  const { script, rest, notes: ofScript } = readScriptArguments({ ...file?.settings, ...flags }, placeOf);
  const notes = [...repeatedFlags(given), ...ofScript];
  const config = parseConfig(withOutput(rest), { otherKeys: scriptKeys, onNote: (line) => notes.push(line), place: placeOf });
  const { model_name_or_path: model, datasets, dataset_name: dataset } = script;
  if (model === null) throw new UserError('tunebook sft needs a model; give --model DIR_OR_ID, or model_name_or_path in the recipe.');
  if (datasets === null && dataset === null)
    throw new UserError('tunebook sft needs data; give --data FILE, or dataset_name in the recipe.');
  if (datasets !== null && dataset !== null) notes.push('Both datasets and dataset_name are given; datasets is used, dataset_name is not.');
  return {
    config,
    script: { ...script, model_name_or_path: model },
    device: { device: own.device, threads: own.threads },
    notes,
  };
}

/** Settings with an output_dir, TRL's own where none is given. */
function withOutput(settings: Record<string, unknown>): Record<string, unknown> {
  const key = Object.hasOwn(settings, 'outputDir') ? 'outputDir' : 'output_dir';
  return { ...settings, [key]: settings[key] ?? OUTPUT_DIR };
}

/** Of a repeated flag the last value counts, as with argparse. */
function repeatedFlags(given: readonly GivenFlag[]): string[] {
  const last = new Map(given.map(({ name, values }) => [name, values.join(' ')]));
  const differing = new Set(given.filter(({ name, values }) => values.join(' ') !== last.get(name)).map(({ name }) => name));
  return [...differing].map((name) => `--${name} is given more than once; the last value, ${last.get(name) || 'true'}, counts.`);
}

/** Flags as the values of a recipe: a bare one is true, several words are a list. */
function settingsOf(given: readonly GivenFlag[]): Record<string, unknown> {
  const settings = given.map((flag): [string, unknown] => {
    const known = fieldList.find(({ key }) => key === flag.name);
    if (flag.values.length === 0) checkSwitch(flag.name, known ?? scriptField(flag.name));
    return [flag.name, known || flag.values.length < 2 ? oneValue(flag) : flag.values];
  });
  return Object.fromEntries(settings);
}

/** @throws UserError for a bare flag that cannot be true */
function checkSwitch(name: string, field: { isSwitch: boolean; range: string } | undefined): void {
  if (field && !field.isSwitch) throw new UserError(`--${name} needs a value: ${field.range}.`);
}

function addOnce(settings: Record<string, unknown>, key: string, value: unknown, complaint: string): void {
  if (Object.hasOwn(settings, key)) throw new UserError(complaint);
  settings[key] = value;
}

interface RecipeFile {
  settings: Record<string, unknown>;
  /** `recipe.yaml line 3` */
  placeOf(key: string): string;
}

/** Reads a recipe and, as TRL does, puts its `env` into the environment. */
function readRecipeFile(file: string): RecipeFile {
  const text = readText(file);
  const lines = new LineCounter();
  const document = parseDocument(text, { version: '1.1', lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    const [{ message, pos }] = document.errors;
    const { line, col } = lines.linePos(pos[0]);
    throw new UserError(
      `${file} is not valid YAML: line ${line}, column ${col}: ${message.split('\n', 1)[0].replace(/[.:]$/, '')}; correct it there.`,
    );
  }
  if (document.contents === null)
    throw new UserError(`${file} is empty, but a recipe was expected; write settings such as "learning_rate: 1e-4" into it.`);
  if (!isMap(document.contents)) throw new UserError(`${file} is not a table of settings; write lines such as "learning_rate: 1e-4".`);
  const placeOf = (key: string): string => `${file} line ${lineOf(document, key, lines)}`;
  const settings = toSettings(document, file);
  applyEnvironment(settings.env, placeOf);
  return { settings, placeOf };
}

function toSettings(document: Document, file: string): Record<string, unknown> {
  let table: unknown;
  try {
    table = document.toJS();
  } catch (error) {
    // aliases that would unfold into something huge
    throw new UserError(`${file} cannot be read: ${(error as Error).message}.`, { cause: error });
  }
  if (table instanceof Set) throw new UserError(`${file} is a set, but a table of settings was expected; remove its tag !!set.`);
  const settings = Object.entries(table as object).map(([key, value]): [string, unknown] => {
    // in YAML 1.1, which Python reads, a bare "no" is false
    return [key, value === false && key.endsWith('_strategy') ? 'no' : value];
  });
  return Object.fromEntries(settings);
}

function lineOf(document: Document, key: string, lines: LineCounter): number {
  if (!isMap(document.contents)) return 1;
  const pair = document.contents.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
  return isScalar(pair?.key) && pair.key.range ? lines.linePos(pair.key.range[0]).line : 1;
}

function applyEnvironment(env: unknown, placeOf: (key: string) => string): void {
  if (env === undefined || env === null) return;
  if (typeof env !== 'object' || Array.isArray(env))
    throw new UserError(`${placeOf('env')}: env must be a table of environment variables, such as {HF_HUB_OFFLINE: "1"}.`);
  for (const [name, value] of Object.entries(env)) process.env[name] = String(value);
}
