/** Keys of `trl sft` beside the settings of training: which model and which data (TRL's ModelConfig, ScriptArguments, DatasetMixtureConfig). */
import { UserError } from '../errors';
import { showValue } from '../json';
import type { LoraConfig } from '../model';
import { isTrainableTokens, type TrainableTokens } from '../model/token-indices';
import { WEIGHT_DTYPES } from '../model/weight-dtypes';
import { choice, type Field, type FieldValue, flag, integer, number, optional, text, toTable } from '../train/fields';

export const scriptFields = {
  model_name_or_path: optional(text('', 'Folder of a checkpoint, or the name of a model on the Hugging Face Hub.')),
  model_revision: text('main', 'Branch, tag or commit of a model on the Hub.'),
  eos_token: optional(text('', 'Token that ends a text, in the place of the one that the tokenizer names.')),
  dataset_name: optional(
    text('', 'Dataset: a file in JSON, JSONL, Parquet or CSV, a folder with files for each split, or a name on the Hugging Face Hub.'),
  ),
  dataset_config: optional(text('', 'Which of the datasets in a folder or on the Hub, where it holds several.')),
  dataset_train_split: text('train', 'Split to train on, of a folder or a dataset on the Hub; train[:1000] takes a part.'),
  dataset_test_split: text('test', 'Split to evaluate on.'),
  dataset_text_field: text('text', 'Column that holds plain text.'),
  eval_dataset_name: optional(text('', 'Dataset to evaluate on, where dataset_name has no test split (own key, not in TRL).')),
  test_split_size: optional(number(0.1, { above: 0 }, 'Part of the rows, or their number, held out to evaluate on.')),
  datasets: mixture('Mixture of datasets: a list of {path, name, data_dir, data_files, split, columns, fraction}.'),
  dtype: optional(
    choice(
      'float32',
      WEIGHT_DTYPES,
      'Number format in which the weights beside an adapter are kept, with use_peft; products are in float32. Default float32.',
    ),
  ),
  load_in_4bit: flag(false, 'Keep the weights of linear layers in 4 bits, in an eighth of the memory: QLoRA, with use_peft.'),
  bnb_4bit_quant_type: choice('nf4', ['nf4'], 'Kind of numbers in 4 bits.'),
  use_peft: flag(false, 'Train a LoRA adapter in the place of all weights, and save it alone.'),
  lora_r: integer(16, { min: 1 }, 'Rank of the adapter.'),
  lora_alpha: number(32, { above: 0 }, 'What the adapter adds is scaled by lora_alpha / lora_r.'),
  lora_dropout: number(0.05, { min: 0, below: 1 }, "Share of the adapter's inputs that is dropped while training."),
  lora_target_modules: optional(
    modules("Linear layers that get an adapter, by the ends of their names, or all-linear. Default: PEFT's for the model."),
  ),
  lora_target_parameters: optional(
    modules('Parameters of experts that get an adapter, by the ends of their names, such as experts.gate_up_proj; with lora_dropout 0.'),
  ),
  lora_modules_to_save: optional(modules('Modules that are trained whole and saved with the adapter, by the ends of their names.')),
  trainable_token_indices: optional(
    tokenIds(
      'Ids of tokens whose rows of the embedding are trained and saved with the adapter, or such ids by module (own key, not in TRL).',
    ),
  ),
  use_rslora: flag(false, 'Scale by lora_alpha / √lora_r instead.'),
  use_dora: flag(false, "DoRA: train the lengths of the adapted weights' rows on their own."),
};

/** Which model, which data. */
export type ScriptArguments = { [K in keyof typeof scriptFields]: FieldValue<(typeof scriptFields)[K]> };

/** One dataset of a mixture. */
export interface MixtureEntry {
  path: string;
  name?: string;
  data_dir?: string;
  data_files?: string[];
  columns?: string[];
  split: string;
  fraction?: number;
}

/** Keys of TRL that mean nothing here: accepted whatever their value. */
const WITHOUT_EFFECT = [
  ...['ignore_bias_buffers', 'dataset_streaming', 'streaming', 'attn_implementation', 'env', 'lora_task_type'],
  ...['bnb_4bit_quant_storage', 'bnb_4bit_compute_dtype'],
];

/** Keys whose value is another one here, unless switched off; a note says so. */
const NOTED: Readonly<Record<string, string>> = {
  use_bnb_nested_quant: 'scales of weights in 4 bits stay in float32',
};

/** What keys were called in older versions. */
const OLDER_NAMES: ReadonlyMap<string, string> = new Map([['torch_dtype', 'dtype']]);

/** Keys that ask for what is not there; refused unless switched off. */
const REFUSED: Readonly<Record<string, string>> = {
  load_in_8bit: 'weights in 8 bits are not available: set load_in_8bit: false, and load_in_4bit: true if memory is short',
};

/** Every key of this file, for finding what a misspelt one was meant to be. */
export const scriptKeys: readonly string[] = [
  ...Object.keys(scriptFields),
  ...Object.keys(REFUSED),
  ...WITHOUT_EFFECT,
  ...Object.keys(NOTED),
  ...OLDER_NAMES.keys(),
];

/** A setting of this file, as those of `fieldList` are described; undefined for other keys. */
export function scriptField(key: string): { range: string; isSwitch: boolean } | undefined {
  if (!Object.hasOwn(scriptFields, key)) return undefined;
  const { parse, range }: Field<unknown> = scriptFields[key as keyof ScriptArguments];
  return { range, isSwitch: parse(true) !== undefined };
}

/**
 * Takes the keys of this file out of a table of settings.
 * @param placeOf where a key was written, for errors: `recipe.yaml line 3`
 * @returns the arguments, the table without them, and notes for the user
 */
export function readScriptArguments(
  raw: Readonly<Record<string, unknown>>,
  placeOf: (key: string) => string | undefined,
): { script: ScriptArguments; rest: Record<string, unknown>; notes: string[] } {
  const script = Object.fromEntries(Object.entries(scriptFields).map(([key, field]) => [key, field.default])) as ScriptArguments;
  const rest: Array<[string, unknown]> = [];
  const notes: string[] = [];
  for (const [written, value] of Object.entries(raw)) {
    const key = OLDER_NAMES.get(written) ?? written;
    const place = placeOf(written);
    const fail = (sentence: string): never => {
      throw new UserError(place === undefined ? sentence : `${place}: ${sentence}`);
    };
    if (Object.hasOwn(scriptFields, key)) {
      const { parse, range }: Field<unknown> = scriptFields[key as keyof ScriptArguments];
      const parsed = parse(value);
      if (!parsed) return fail(`${written} is ${showValue(value)}, but must be ${range}.`);
      Object.assign(script, { [key]: parsed.value });
    } else if (Object.hasOwn(REFUSED, key)) {
      if (!isOff(value)) fail(`${key} is ${showValue(value)}, but ${REFUSED[key]}.`);
    } else if (Object.hasOwn(NOTED, key)) {
      if (!isOff(value)) notes.push(`${key} has no effect here: ${NOTED[key]}.`);
    } else if (!WITHOUT_EFFECT.includes(key)) {
      rest.push([key, value]);
    }
  }
  const isOfAdapters = (key: string): boolean => Object.hasOwn(scriptFields, key) && /^(lora_|use_rslora$|use_dora$)/.test(key);
  const unused = Object.keys(raw).filter((key) => isOfAdapters(key) && !isOff(raw[key]));
  if (!script.use_peft) for (const key of unused) notes.push(`${key} has no effect: use_peft is false.`);
  notes.push(...notesOnDtype(script));
  return { script, rest: Object.fromEntries(rest), notes };
}

/** TRL would compute in that format, too. */
function notesOnDtype({ dtype, use_peft }: ScriptArguments): string[] {
  if (dtype === null || dtype === 'float32') return [];
  const kept = dtype === 'auto' ? 'as the checkpoint has them' : `in ${dtype}`;
  return [
    use_peft
      ? `The weights beside the adapter are kept ${kept} (dtype); products are computed in float32.`
      : 'dtype has no effect: all weights are trained, in float32.',
  ];
}

/** What the adapter is made like; undefined where all weights are trained. */
export function peftConfigOf(script: ScriptArguments): LoraConfig | undefined {
  const { lora_r: r, lora_alpha: loraAlpha, lora_dropout: loraDropout, use_rslora: useRslora, use_dora: useDora } = script;
  const modulesToSave = [script.lora_modules_to_save ?? []].flat();
  const targetParameters = [script.lora_target_parameters ?? []].flat();
  const targets = script.lora_target_modules;
  // as in TRL, a list of one is its entry, which may be all-linear or a pattern
  const targetModules = Array.isArray(targets) && targets.length === 1 ? targets[0] : (targets ?? undefined);
  const trainableTokenIndices = script.trainable_token_indices ?? undefined;
  const settings = { r, loraAlpha, loraDropout, useRslora, useDora, targetModules, targetParameters, modulesToSave, trainableTokenIndices };
  return script.use_peft ? settings : undefined;
}

/** Ids of tokens: a list, on the command line in words, or a table of such lists by the names of modules, also as JSON text. */
function tokenIds(help: string): Field<TrainableTokens> {
  const id = integer(0, { min: 0 }, '');
  const readList = (value: unknown): unknown[] => [value].flat().map((item) => id.parse(item)?.value ?? item);
  const parse = (value: unknown) => {
    const table = Array.isArray(value) ? undefined : toTable(value);
    const read = table ? Object.fromEntries(Object.entries(table).map(([name, list]) => [name, readList(list)])) : readList(value);
    return isTrainableTokens(read) ? { value: read } : undefined;
  };
  return { default: [], help, range: 'a list of ids of tokens, or a table of such lists by the names of modules', parse };
}

/** Names of modules: one or a pattern, a list, or names that commas part, which no name and no pattern of names has. */
function modules(help: string): Field<string | string[]> {
  const isName = (value: unknown): value is string => typeof value === 'string' && value !== '';
  const parted = (text: string): string[] => {
    const names = text.split(',').map((name) => name.trim());
    return names.some(isName) && names.every((name) => /^[\w.-]*$/.test(name)) ? names.filter(isName) : [text];
  };
  const parse = (value: unknown) => {
    const given = [value].flat();
    if (!given.every(isName)) return undefined;
    const names = given.flatMap(parted);
    return { value: Array.isArray(value) || names.length > 1 ? names : names[0] };
  };
  return { default: '', help, range: 'a text, or a list of names', parse };
}

function isOff(value: unknown): boolean {
  return [undefined, null, false, 'false', 'False', 'null', 'none', 'None'].includes(value as null);
}

/** TRL's `datasets:` list. */
function mixture(help: string): Field<MixtureEntry[] | null> {
  const fraction = optional(number(1, { above: 0 }, ''));
  const parseEntry = (value: unknown): MixtureEntry | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    const { path, split = 'train', name, data_dir, data_files, columns, fraction: share, ...other } = value as Record<string, unknown>;
    const part = fraction.parse(isOff(share) ? null : share);
    const list = (item: unknown): unknown[] | undefined => (isOff(item) ? undefined : [item].flat());
    const [files, chosen] = [list(data_files), list(columns)];
    const texts = [path, split, ...[name, data_dir].filter((item) => !isOff(item)), ...(files ?? []), ...(chosen ?? [])];
    const isKnown = Object.keys(other).length === 0 && texts.every((item) => typeof item === 'string' && item !== '');
    if (!part || !isKnown) return undefined;
    const given = (item: unknown): string | undefined => (isOff(item) ? undefined : (item as string));
    return {
      ...{ path: path as string, split: split as string, fraction: part.value ?? undefined },
      ...{ name: given(name), data_dir: given(data_dir) },
      ...{ data_files: files as string[] | undefined, columns: chosen as string[] | undefined },
    };
  };
  const parse = (value: unknown) => {
    // TRL's default is an empty list
    if (value === null || (Array.isArray(value) && value.length === 0)) return { value: null };
    const entries = Array.isArray(value) ? value.map(parseEntry) : [undefined];
    return entries.every((entry) => entry !== undefined) ? { value: entries } : undefined;
  };
  return {
    default: null,
    help,
    range:
      'a list of datasets such as {path: data.jsonl, split: train, fraction: 0.5}, also with name, data_dir, data_files and columns; a single one is dataset_name',
    parse,
  };
}
