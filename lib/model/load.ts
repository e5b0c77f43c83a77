/** From a checkpoint on disk or on the Hub to a model. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { checkOptions, checkPath, checkTokenizer, type OptionNames } from '../arguments';
import { resolveModel } from '../data';
import {
  type CompactMatrix,
  currentDevice,
  fitsHalf,
  fitsNormalFloat,
  type HalfDtype,
  halfMatrix,
  halfMatrixOfBits,
  normalFloatMatrix,
} from '../engine';
import { UserError } from '../errors';
import { isFolder, readBytes, readJson, realPath } from '../files';
import { describe, isObject, showValue } from '../json';
import { createRandom } from '../random';
import { loadTokenizer, type Tokenizer } from '../text';
import { ADAPTER_CONFIG, type AdapterConfig, attachAdapter, readAdapterConfig, rowsFor } from './adapter-files';
import { ConfigReader, GENERATION_CONFIG, withoutTie } from './config';
import type { Decoder } from './decoder';
import { type Architecture, architectureOf, buildModel, namesOf } from './families';
import { DECAYS, type Parameter } from './layers';
import { languageModelOf, ofLanguageModel } from './multimodal';
import { readWhole } from './parts';
import { EMBEDDING_NAME, HEAD_NAME, isVocabularyTable, resizeTable, withRows } from './resize';
import { openSafetensors, readTransposed, type SafetensorsFile } from './safetensors';
import type { CausalLM, CreateOptions, LoadOptions } from './types';
import { WEIGHT_DTYPES } from './weight-dtypes';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/**
 * Buffers that old versions of transformers saved beside the weights, which hold nothing that the configuration does not; and heads that guess
 * several tokens ahead, which transformers leaves aside, too.
 */
const HARMLESS = /^mtp\.|(?:rotary_emb\.inv_freq|\.att(?:ention|n)\.(?:bias|masked_bias|causal_mask))$/;

const OPTIONS: OptionNames<LoadOptions> = {
  dtype: true,
  onProgress: true,
  revision: true,
  loadIn4bit: true,
  eosToken: true,
  chatTemplateFrom: true,
};

const DEVICE = 'await useDevice(...) before it';

/** What transformers calls otherwise. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ...{ device: DEVICE, device_map: DEVICE, deviceMap: DEVICE },
  ...{ quantization_config: 'loadIn4bit', quantizationConfig: 'loadIn4bit' },
};

const CREATE_OPTIONS: OptionNames<CreateOptions> = { seed: true, tokenizer: true };

/**
 * Loads a model and its tokenizer.
 * @param dirOrId a folder with config.json, model.safetensors (or shards with their index) and tokenizer files, or a Hub id; or those of a
 *   LoRA adapter, with which the base model that it names is loaded
 * @throws UserError when there is no such option, or something is missing, damaged, or does not fit; it says what, where, and what to do
 */
export async function loadModel(dirOrId: string, options: LoadOptions = {}): Promise<CausalLM> {
  checkPath('loadModel', 'folder or Hub id', dirOrId);
  checkOptions('loadModel', options, OPTIONS, ELSEWHERE);
  const { onProgress, revision, dtype = 'float32' } = options;
  if (!WEIGHT_DTYPES.includes(dtype))
    throw new UserError(
      `There is no dtype ${showValue(dtype)} to keep weights in; choose from ${new Intl.ListFormat('en').format(WEIGHT_DTYPES)}.`,
    );
  await currentDevice();
  const directory = await resolveModel(dirOrId, {
    revision,
    onProgress:
      onProgress && (({ file, totalLoaded, totalSize }) => onProgress({ stage: 'download', file, loaded: totalLoaded, total: totalSize })),
  });
  return loadFolder(directory, dirOrId, options);
}

/**
 * Loads a model and its tokenizer from a folder.
 * @param source what the model is called: the folder, or the Hub id that it was downloaded by
 * @param options as of `loadModel`; the revision is the one that it was downloaded by
 * @throws UserError as `loadModel`
 */
export async function loadFolder(directory: string, source: string, options: LoadOptions = {}): Promise<CausalLM> {
  const adapter = readAdapterConfig(directory);
  if (adapter) return loadWithAdapter(directory, source, adapter, options);
  return loadWhole(directory, { source, revision: options.revision, tokenizer: directory }, options);
}

/** The model of an adapter, with it. */
async function loadWithAdapter(directory: string, source: string, config: AdapterConfig, options: LoadOptions): Promise<CausalLM> {
  const base = baseFolder(config, directory);
  const folder = await resolveModel(base, { revision: config.base.revision }).catch((error: unknown) => {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${config.file} names the base model of the adapter, base_model_name_or_path: ${error.message}`, { cause: error });
  });
  if (existsSync(path.join(folder, ADAPTER_CONFIG)) && realPath(folder) !== realPath(directory))
    throw new UserError(
      `${config.file}: the base model ${base} is an adapter itself; merge that one, save it, and name where it is saved.`,
    );
  const hasTokenizer = ['tokenizer.json', 'vocab.json'].some((name) => existsSync(path.join(directory, name)));
  const rows = (base: number, { vocabSize }: Tokenizer) =>
    rowsFor(directory, config, { base, tokens: hasTokenizer ? vocabSize : undefined });
  const model = await loadWhole(folder, { source, tokenizer: hasTokenizer ? directory : folder, rows }, options);
  try {
    refuseNewTokens(model, config);
    await attachAdapter(model, directory, config, { ...config.base, name: base });
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** An adapter was trained for the tokens that it knows. */
function refuseNewTokens({ tokenizer: { addedIds = [], templateFrom } }: CausalLM, { file }: AdapterConfig): void {
  if (addedIds.length === 0) return;
  throw new UserError(
    `The chat template of ${templateFrom} brings ${addedIds.length} new tokens, which the adapter of ${file} has no rows for; merge it ` +
      '(mergeAdapter, or tunebook merge), and take the template of the other model as you load what was saved.',
  );
}

/** Where an adapter's base is: a path counts from where the program runs, or else from the adapter. */
function baseFolder({ base }: AdapterConfig, directory: string): string {
  const beside = path.resolve(directory, base.name);
  return !existsSync(base.name) && existsSync(beside) ? beside : base.name;
}

interface Names {
  /** What the model is called. */
  source: string;
  /** By which revision it was asked for. */
  revision?: string;
  /** The folder of its tokenizer. */
  tokenizer: string;
  /** How many rows embedding and head are to have, where that is not for the checkpoint to say. @param base how many it has */
  rows?: (base: number, tokenizer: Tokenizer) => Promise<number>;
}

async function loadWhole(
  directory: string,
  { source, revision, tokenizer: place, rows }: Names,
  { onProgress, eosToken, chatTemplateFrom, loadIn4bit = false, dtype = 'float32' }: LoadOptions,
): Promise<Decoder> {
  const whole = readConfigFile(directory);
  const written = languageModelOf(whole);
  architectureOf(written);
  for (const reader of [whole, written]) refuseQuantized(reader);
  const tokenizer = await loadTokenizer(place, { eosToken, chatTemplateFrom, modelFolder: directory });
  // an adapter may have been trained to end its texts otherwise than its base model does
  const endsOtherwise = (place !== directory && !endsWith(written, tokenizer)) || eosToken !== undefined || chatTemplateFrom !== undefined;
  const ended = endsOtherwise ? new ConfigReader({ ...written.raw, eos_token_id: tokenizer.eosId }, written.place) : written;
  const base = written.count('vocab_size');
  // another tokenizer's tokens come with their rows
  const reader = withRows(ended, rows ? await rows(base, tokenizer) : chatTemplateFrom === undefined ? base : tokenizer.vocabSize);
  const generationConfig = readGenerationConfig(directory, endsOtherwise ? tokenizer.stopIds : undefined);
  const origin = { tokenizer, source, revision, directory, generationConfig };
  let files: SafetensorsFile[] = [];
  let model = buildModel(reader, origin);
  try {
    const transposed = namesOfTransposed(model, architectureOf(written));
    for (const file of weightFiles(directory)) files.push(readTransposed(ofLanguageModel(await openSafetensors(file), whole), transposed));
    files = readWhole(files, model.inParts, (part) => namesOf(part, architectureOf(written)));
    if (model.config.tieWordEmbeddings && (await haveOwnHead(files))) model = buildModel(untied(reader), origin);
    const linears = new Set<unknown>([...model.linears.values()].map(({ weight }) => weight));
    const others = new Set<unknown>(
      [...model.embeddings, ...model.stacks.values()].flatMap(({ mayBeCompact, weight }) => (mayBeCompact ? [weight] : [])),
    );
    const formatOf: FormatOf = (place) => {
      if (linears.has(place.parameter)) return compactFormat(place, { loadIn4bit, dtype });
      return others.has(place.parameter) ? compactFormat(place, { loadIn4bit: false, dtype }) : undefined;
    };
    await fill(placeParameters(model, files, directory, written), formatOf, onProgress);
    return model;
  } catch (error) {
    model.dispose();
    throw error;
  } finally {
    for (const file of files) await file.close();
  }
}

/** What weights of few bits mean is known to the program alone that made them. */
function refuseQuantized(reader: ConfigReader): void {
  const { quantization_config: quantization } = reader.raw;
  if (!isObject(quantization)) return;
  throw new UserError(
    `${reader.place}: the weights are quantized ("quantization_config" with the quant_method ${showValue(quantization.quant_method)}); take the ` +
      'checkpoint in 16 or 32 bits, which may have a name of its own, such as one that ends in -BF16.',
  );
}

function namesOfTransposed({ transposed }: Decoder, architecture: Architecture): Set<string> {
  return new Set([...transposed].flatMap((name) => namesOf(name, architecture)));
}

function endsWith(reader: ConfigReader, { eosId }: Tokenizer): boolean {
  return [reader.get('eos_token_id')].flat().includes(eosId);
}

/** generation_config.json as it is, where there is one. @param stopIds ids at which a text now ends, if others than it says; it may say more */
function readGenerationConfig(directory: string, stopIds: readonly number[] | undefined): Uint8Array | undefined {
  const file = path.join(directory, GENERATION_CONFIG);
  const found = existsSync(file);
  if (stopIds === undefined) return found ? readBytes(file) : undefined;
  const read = found ? readJson(file) : {};
  const json = isObject(read) ? read : {};
  const ids = new Set([...stopIds, ...[json.eos_token_id ?? []].flat()]);
  return Buffer.from(`${JSON.stringify({ ...json, eos_token_id: [...ids] }, null, 2)}\n`);
}

/**
 * Whether weights hold an output head that is another matrix than the embedding: as in transformers the head then counts, even if the
 * configuration says that it is the embedding (adapters that were merged with a head of their own leave such checkpoints).
 */
async function haveOwnHead(files: readonly SafetensorsFile[]): Promise<boolean> {
  const [head, embedding] = [HEAD_NAME, EMBEDDING_NAME].map((pattern) => findByName(pattern, files));
  if (!head || !embedding) return false;
  const [a, b] = [await head.file.read(head.name), await embedding.file.read(embedding.name)];
  return a.length !== b.length || a.some((x, i) => x !== b[i]);
}

function findByName(pattern: RegExp, files: readonly SafetensorsFile[]): { file: SafetensorsFile; name: string } | undefined {
  for (const file of files) for (const name of file.tensors.keys()) if (pattern.test(name)) return { file, name };
  return undefined;
}

/** The configuration of the same model with a head of its own. */
function untied(reader: ConfigReader): ConfigReader {
  return new ConfigReader(withoutTie(reader.raw), reader.place);
}

/**
 * Makes a model with fresh random weights, as Hugging Face initializes them: weights normal with `initializer_range`,
 * biases 0, norms 1. Same seed, same weights.
 * @param config what config.json would hold
 * @throws UserError when there is no such option, seed or tokenizer are missing, the architecture is not supported, or a value of the
 *   configuration is missing or out of place
 */
export function createModel(config: Record<string, unknown>, options: CreateOptions): CausalLM {
  checkOptions('createModel', options, CREATE_OPTIONS);
  const { seed, tokenizer } = options;
  if (!Number.isFinite(seed)) throw new UserError(`The seed of createModel is ${describe(seed)}; give a number.`);
  checkTokenizer('createModel', tokenizer);
  const model = buildModel(new ConfigReader(config, 'the configuration'), { tokenizer, source: `new weights, seed ${seed}` });
  const random = createRandom(seed);
  for (const parameter of model.declared.all.values()) {
    const values = new Float32Array(parameter.shape.reduce((product, n) => product * n, 1));
    if (parameter.initializer === 'ones') values.fill(1);
    if (parameter.initializer === 'normal')
      for (let i = 0; i < values.length; i++) values[i] = model.config.initializerRange * random.normal();
    if (parameter.initializer === 'decay')
      for (let i = 0; i < values.length; i++) values[i] = Math.log(DECAYS[0] + (DECAYS[1] - DECAYS[0]) * random.next());
    if (parameter.initializer === 'logarithms') for (let i = 0; i < values.length; i++) values[i] = Math.log(i + 1);
    parameter.fill(values);
  }
  return model;
}

function readConfigFile(directory: string): ConfigReader {
  const file = path.join(directory, 'config.json');
  if (!existsSync(directory)) throw new UserError(`${directory} does not exist; check the path (it is taken from ${process.cwd()}).`);
  if (!isFolder(directory)) throw new UserError(`${directory} is a file, but a model is a folder; name the folder.`);
  if (!existsSync(file)) throw new UserError(`${directory} holds no config.json, so it is no model; name the folder of a checkpoint.`);
  const raw = readJson(file);
  if (!isObject(raw)) throw new UserError(`${file} is not a JSON object; take it from the model's own page again.`);
  return new ConfigReader(raw, file);
}

/** In which few bits a matrix is kept. */
type CompactFormat = 'nf4' | HalfDtype;

/** The same of a parameter, if it is to be kept so. */
type FormatOf = (place: Place) => CompactFormat | undefined;

function compactFormat(
  { parameter, file, name }: Place,
  { loadIn4bit, dtype }: Required<Pick<LoadOptions, 'loadIn4bit' | 'dtype'>>,
): CompactFormat | undefined {
  const shape: readonly number[] = parameter.shape;
  if (loadIn4bit && fitsNormalFloat(shape as [number, number])) return 'nf4';
  const kept = dtype === 'auto' ? DTYPE_OF[file.tensors.get(name)?.dtype ?? ''] : dtype;
  return kept === undefined || kept === 'float32' || !fitsHalf(shape) ? undefined : kept;
}

/** What checkpoints call the formats of 16 bits. */
const DTYPE_OF: Readonly<Record<string, HalfDtype | undefined>> = { BF16: 'bfloat16', F16: 'float16' };

/** @param formatOf says which are not kept in float32 */
async function fill(places: readonly Place[], formatOf: FormatOf, onProgress: LoadOptions['onProgress']): Promise<void> {
  const total = places.reduce((sum, { file, name }) => sum + byteLength(file, name), 0);
  let loaded = 0;
  for (const place of places) {
    const { parameter, file } = place;
    const onBytes = (bytes: number): void => {
      loaded += bytes;
      onProgress?.({ stage: 'load', file: path.basename(file.file), loaded, total });
    };
    const format = formatOf(place);
    if (format) parameter.fillCompact(await readCompact(place, format, onBytes));
    else parameter.fill(await readSized(place, onBytes));
  }
}

type OnBytes = (bytes: number) => void;

/** With as many rows as the model has. */
async function readSized({ parameter, file, name }: Place, onBytes: OnBytes): Promise<Float32Array> {
  const values = await file.read(name, onBytes);
  return isVocabularyTable(parameter.name) ? resizeTable(values, parameter.shape) : values;
}

/** A matrix in few bits; one that lies in a file as it is kept never lies in memory in float32. */
async function readCompact(place: Place, format: CompactFormat, onBytes: OnBytes): Promise<CompactMatrix> {
  const { parameter, file, name } = place;
  // those of experts are one matrix, one below the other
  const [columns, ...others] = parameter.shape.toReversed();
  const shape = [others.reduce((product, size) => product * size, 1), columns] as const;
  const { dtype = '', shape: inFile } = file.tensors.get(name) ?? {};
  const isAsKept = DTYPE_OF[dtype] === format && inFile?.join() === parameter.shape.join();
  const bits = isAsKept ? await file.readBits?.(name, onBytes) : undefined;
  if (bits && format !== 'nf4') return halfMatrixOfBits(bits, shape, format);
  const values = await readSized(place, onBytes);
  return format === 'nf4' ? normalFloatMatrix(values, shape) : halfMatrix(values, shape, format);
}

function byteLength(file: SafetensorsFile, name: string): number {
  const entry = file.tensors.get(name);
  return entry ? entry.end - entry.begin : 0;
}

/** The checkpoint's weight files, absolute. */
function weightFiles(directory: string): string[] {
  if (existsSync(path.join(directory, SINGLE))) return [path.join(directory, SINGLE)];
  const index = path.join(directory, INDEX);
  if (existsSync(index)) return shardFiles(index);
  const torch = ['pytorch_model.bin', 'pytorch_model.bin.index.json'].find((name) => existsSync(path.join(directory, name)));
  const remedy = torch ? `the weights in ${torch} must first be converted to safetensors` : 'copy the weights there or name another folder';
  throw new UserError(`${directory} holds a config.json but no weights: neither ${SINGLE} nor ${INDEX} is there; ${remedy}.`);
}

/** The files that an index names; names that lead out of its folder are refused. */
function shardFiles(index: string): string[] {
  const json = readJson(index);
  const map = isObject(json) ? json.weight_map : undefined;
  if (!isObject(map) || Object.keys(map).length === 0)
    throw new UserError(`${index} has no "weight_map"; take it from the model's own page again.`);
  return [...new Set(Object.values(map))].map((shard) => {
    if (typeof shard !== 'string' || !/^[^/\\:]+\.safetensors$/.test(shard)) {
      throw new UserError(
        `${index} names the shard ${JSON.stringify(shard)}; a shard must be a .safetensors file in the same folder: do not trust this checkpoint.`,
      );
    }
    const file = path.join(path.dirname(index), shard);
    if (!existsSync(file)) throw new UserError(`${index} names the shard ${shard}, which is missing; download or copy it too.`);
    return file;
  });
}

interface Place {
  parameter: Parameter;
  file: SafetensorsFile;
  name: string;
}

/** Finds each parameter's tensor and checks that the checkpoint has exactly what its own configuration, `reader`, asks for. */
function placeParameters(model: Decoder, files: readonly SafetensorsFile[], directory: string, reader: ConfigReader): Place[] {
  const architecture = architectureOf(reader);
  const used = new Set<string>();
  const places: Place[] = [];
  for (const parameter of model.declared.all.values()) {
    const place = findTensor(parameter, namesOf(parameter.name, architecture), files) ?? findTied(parameter, model, files);
    if (!place)
      throw new UserError(
        `${directory}: the tensor "${parameter.name}" is missing from the weights; the checkpoint is incomplete or its config.json is another model's.`,
      );
    const found = place.file.tensors.get(place.name)?.shape ?? [];
    const asked = isVocabularyTable(parameter.name) ? [reader.count('vocab_size'), ...parameter.shape.slice(1)] : parameter.shape;
    if (found.join() !== asked.join()) {
      throw new UserError(
        `${place.file.file}: the tensor "${place.name}" has shape [${found}], but config.json asks for [${asked}]; one of the two is another model's.`,
      );
    }
    used.add(place.name);
    places.push(place);
  }
  const unread = [...model.declared.unread].flatMap((name) => namesOf(name, architecture));
  refuseUnknown(model, files, new Set([...used, ...unread]));
  return places;
}

function findTensor(parameter: Parameter, names: readonly string[], files: readonly SafetensorsFile[]): Place | undefined {
  for (const name of names) {
    const file = files.find(({ tensors }) => tensors.has(name));
    if (file) return { parameter, file, name };
  }
  return undefined;
}

/** Where the embedding is the head too, a checkpoint may hold it under the head's name alone. */
function findTied(parameter: Parameter, model: Decoder, files: readonly SafetensorsFile[]): Place | undefined {
  const found = model.config.tieWordEmbeddings && EMBEDDING_NAME.test(parameter.name) ? findByName(HEAD_NAME, files) : undefined;
  return found && { parameter, ...found };
}

/** @param known names of tensors that the model reads, or leaves aside */
function refuseUnknown(model: Decoder, files: readonly SafetensorsFile[], known: ReadonlySet<string>): void {
  const isHead = (name: string) => model.config.tieWordEmbeddings && HEAD_NAME.test(name);
  for (const { file, tensors } of files) {
    const unknown = [...tensors.keys()].filter((name) => !known.has(name) && !HARMLESS.test(name) && !isHead(name));
    if (unknown.length > 0) {
      const more = unknown.length > 1 ? ` and ${unknown.length - 1} more` : '';
      throw new UserError(
        `${file} holds the tensor "${unknown[0]}"${more}, which the model of config.json does not have; one of the two is another model's.`,
      );
    }
  }
}
