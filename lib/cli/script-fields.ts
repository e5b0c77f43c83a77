/** Keys of `trl sft` beside the settings of training: which model and which data (TRL's ModelConfig, ScriptArguments, DatasetMixtureConfig). */
import { UserError } from '../errors';
import { showValue } from '../json';
import { type Field, number, optional, text } from '../train/fields';

export const scriptFields = {
  model_name_or_path: optional(text('', 'Folder of a checkpoint, or the name of a model on the Hugging Face Hub.')),
  model_revision: text('main', 'Branch, tag or commit of a model on the Hub.'),
  dataset_name: optional(text('', 'Dataset in JSON or JSONL, or a folder with a file for each split (train.jsonl, test.jsonl).')),
  dataset_train_split: text('train', 'Split to train on, of a folder.'),
  dataset_test_split: text('test', 'Split to evaluate on, of a folder.'),
  eval_dataset_name: optional(text('', 'Dataset to evaluate on, where dataset_name has no test split (own key, not in TRL).')),
  test_split_size: optional(number(0.1, { above: 0 }, 'Part of the rows, or their number, held out to evaluate on.')),
  datasets: mixture('Mixture of datasets: a list of {path, split, fraction}.'),
};

type FieldValue<F> = F extends Field<infer T> ? T : never;

/** Which model, which data. */
export type ScriptArguments = { [K in keyof typeof scriptFields]: FieldValue<(typeof scriptFields)[K]> };

/** One dataset of a mixture. */
export interface MixtureEntry {
  path: string;
  data_files?: string;
  split: string;
  fraction?: number;
}

/** Keys of TRL that mean nothing here: accepted whatever their value. */
const WITHOUT_EFFECT = ['ignore_bias_buffers', 'dataset_streaming', 'streaming', 'attn_implementation', 'env'];
const ADAPTER_KEYS = /^(?:lora_\w+|use_rslora|use_dora|bnb_4bit_\w+|use_bnb_nested_quant)$/;

/** Keys that ask for what is not there; refused unless switched off. */
const REFUSED: Readonly<Record<string, string>> = {
  use_peft: 'adapters (LoRA) are not available; all weights are trained: set use_peft: false',
  load_in_8bit: 'quantized weights are not available: set load_in_8bit: false',
  load_in_4bit: 'quantized weights are not available: set load_in_4bit: false',
  dataset_config: 'a local dataset has no configurations: remove it',
};

/** Every key of this file, for finding what a misspelt one was meant to be. */
export const scriptKeys: readonly string[] = [
  ...Object.keys(scriptFields),
  ...Object.keys(REFUSED),
  ...WITHOUT_EFFECT,
  'dtype',
  'torch_dtype',
];

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
  for (const [key, value] of Object.entries(raw)) {
    const place = placeOf(key);
    const fail = (sentence: string): never => {
      throw new UserError(place === undefined ? sentence : `${place}: ${sentence}`);
    };
    if (Object.hasOwn(scriptFields, key)) {
      const { parse, range }: Field<unknown> = scriptFields[key as keyof ScriptArguments];
      const parsed = parse(value);
      if (!parsed) return fail(`${key} is ${showValue(value)}, but must be ${range}.`);
      Object.assign(script, { [key]: parsed.value });
    } else if (Object.hasOwn(REFUSED, key)) {
      if (!isOff(value)) fail(`${key} is ${showValue(value)}, but ${REFUSED[key]}.`);
    } else if (key === 'dtype' || key === 'torch_dtype') {
      if (!isOff(value) && value !== 'float32') notes.push(`${key} has no effect here: computes in float32.`);
    } else if (!WITHOUT_EFFECT.includes(key) && !ADAPTER_KEYS.test(key)) {
      rest.push([key, value]);
    }
  }
  return { script, rest: Object.fromEntries(rest), notes };
}

function isOff(value: unknown): boolean {
  return [undefined, null, false, 'false', 'False', 'null', 'none', 'None'].includes(value as null);
}

/** TRL's `datasets:` list. */
function mixture(help: string): Field<MixtureEntry[] | null> {
  const fraction = optional(number(1, { above: 0 }, ''));
  const parseEntry = (value: unknown): MixtureEntry | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    const { path, split = 'train', data_files: file, fraction: share = null, ...other } = value as Record<string, unknown>;
    const known = Object.entries(other).every(([key, setting]) => ['name', 'data_dir', 'columns'].includes(key) && isOff(setting));
    const part = fraction.parse(share);
    const texts =
      typeof path === 'string' && typeof split === 'string' && (file === undefined || file === null || typeof file === 'string');
    if (!known || !part || !texts) return undefined;
    return { path, split, data_files: file ?? undefined, fraction: part.value ?? undefined };
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
      'a list of datasets such as {path: data.jsonl, split: train, fraction: 0.5} (name, data_dir and columns are not supported); a single one is dataset_name',
    parse,
  };
}
