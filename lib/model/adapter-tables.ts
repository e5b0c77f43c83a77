/**
 * Embedding and output head in PEFT's files of adapters. Where the vocabulary was resized, PEFT saves both whole, beside what was trained of
 * them; what is not trained there is the base model's, or rows that it never had.
 */
import { UserError } from '../errors';
import type { AdapterConfig } from './adapter-files';
import { HEAD, moduleOf, OLD_HEAD, PEFT_PREFIX } from './names';
import { TABLES } from './resize';
import { openSafetensors, readInto, type SafetensorsFile } from './safetensors';
import type { TrainedRows } from './trainable-tokens';
import type { CausalLM } from './types';

/** Where PEFT has the values of a module: as it is, or inside of what it wraps it in. */
const WRAPPED = ['weight', 'token_adapter.base_layer.weight', 'modules_to_save.weight', 'original_module.weight'];
const TABLE = new RegExp(`(?:${TABLES})\\.(?:token_adapter\\.base_layer\\.|modules_to_save\\.)?weight$`);

/**
 * How many rows embedding and head have in the model that an adapter was trained in.
 * @param base rows of the base model
 * @param tokens of the adapter's own tokenizer; undefined where it has none
 * @throws UserError when what the file has of them is no matrix
 */
export async function rowsOfAdapter(
  file: string,
  { settings: { trainableTokenIndices: indices = [] } }: AdapterConfig,
  { base, tokens }: { base: number; tokens?: number },
): Promise<number> {
  const opened = await openSafetensors(file);
  try {
    for (const [name, { shape }] of opened.tensors) {
      if (!TABLE.test(name)) continue;
      // of a table without features any number of rows takes no bytes, but memory once the model's are as many
      if (shape.length !== 2 || shape.includes(0))
        throw new UserError(
          `${file}: the tensor "${name}" has shape [${shape}], but a row for each token was expected; save the adapter again.`,
        );
      return shape[0];
    }
  } finally {
    await opened.close();
  }
  if (tokens === undefined) return base;
  // where its last token is trained, the tables were made for the tokenizer: they may have had more rows before
  const trainsLast = [Object.values(indices)].flat(2).includes(tokens - 1);
  return trainsLast ? tokens : Math.max(base, tokens);
}

/** What of a file is a table of the model, or of what PEFT wraps it in, and no part of what is trained. */
export function tablesIn({ tensors }: SafetensorsFile, model: CausalLM, trained: ReadonlySet<string>): string[] {
  const names = modulesOf(model).flatMap((module) => WRAPPED.map((place) => `${PEFT_PREFIX}${module}.${place}`));
  // of a head that is the embedding, its rows too
  const copies = model.config.tieWordEmbeddings ? [`${PEFT_PREFIX}${HEAD}.token_adapter.trainable_tokens_delta`] : [];
  return [...names, ...copies].filter((name) => tensors.has(name) && !trained.has(name));
}

/**
 * Gives the tables of a model the rows that a file has of them, but for those that are trained.
 * @param names of the file's tensors, those of `tablesIn`
 * @returns whether they were others than the model's
 */
export async function takeTables(
  file: SafetensorsFile,
  model: CausalLM,
  names: readonly string[],
  rows: readonly TrainedRows[],
): Promise<boolean> {
  let changed = false;
  for (const [parameter, variable] of model.parameters) {
    const module = moduleOf(parameter).replace(OLD_HEAD, HEAD);
    // the first two are what the model computes with where the module is not trained whole
    const found = WRAPPED.slice(0, 2).find((place) => names.includes(`${PEFT_PREFIX}${module}.${place}`));
    const isTrained = [...file.tensors.keys()].some((name) => name === `${PEFT_PREFIX}${module}.weight` && !names.includes(name));
    if (found === undefined || isTrained) continue;
    const values = await file.read(`${PEFT_PREFIX}${module}.${found}`);
    const own = await variable.data<'float32'>();
    const ids = new Set(rows.filter(({ table }) => table === variable).flatMap(({ ids }) => ids));
    const features = variable.shape[1] as number;
    if (own.length !== values.length || own.every((x, i) => x === values[i] || ids.has(Math.floor(i / features)))) continue;
    await readInto(variable, file, `${PEFT_PREFIX}${module}.${found}`);
    changed = true;
  }
  return changed;
}

function modulesOf({ embeddings }: CausalLM): string[] {
  return [moduleOf(embeddings[0].weight.name), HEAD, OLD_HEAD];
}
