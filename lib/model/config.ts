/** Reads `config.json` into typed values, once, at the door. */
import type { Activation } from '../engine';
import { UserError } from '../errors';
import { isObject, showValue } from '../json';
import type { Family, ModelConfig } from './types';

export const GENERATION_CONFIG = 'generation_config.json';

const ACTIVATIONS: readonly string[] = [
  'relu',
  'relu2',
  'gelu',
  'gelu_new',
  'gelu_fast',
  'gelu_pytorch_tanh',
  'silu',
  'swish',
] satisfies Activation[];

/** A JSON object whose values are taken out by name and kind; a wrong kind is an error that names key, value and file. */
export class ConfigReader {
  constructor(
    readonly raw: Readonly<Record<string, unknown>>,
    /** What the errors call it, usually the file's path. */
    readonly place: string,
  ) {}

  /** The value, or undefined where it is missing or null. */
  get(key: string): unknown {
    return this.raw[key] ?? undefined;
  }

  /** A whole number of at least 1. */
  count(key: string, fallback?: number): number {
    return this.take(
      key,
      fallback,
      'a whole number of at least 1',
      (value): value is number => Number.isInteger(value) && (value as number) >= 1,
    );
  }

  /** A number above 0. */
  positive(key: string, fallback?: number): number {
    return this.take(key, fallback, 'a number above 0', (value): value is number => typeof value === 'number' && value > 0);
  }

  /** A number of at least 0. */
  notNegative(key: string, fallback?: number): number {
    return this.take(key, fallback, 'a number of at least 0', (value): value is number => typeof value === 'number' && value >= 0);
  }

  /** A number from 0 to 1. */
  share(key: string, fallback: number): number {
    return this.take(
      key,
      fallback,
      'a number from 0 to 1',
      (value): value is number => typeof value === 'number' && value >= 0 && value <= 1,
    );
  }

  boolean(key: string, fallback: boolean): boolean {
    return this.take(key, fallback, 'true or false', (value): value is boolean => typeof value === 'boolean');
  }

  activation(key: string, fallback: Activation): Activation {
    const expected = `one of ${ACTIVATIONS.join(', ')}`;
    return this.take(key, fallback, expected, (value): value is Activation => typeof value === 'string' && ACTIVATIONS.includes(value));
  }

  /** A nested object, or undefined where it is missing. */
  object(key: string): ConfigReader | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (!isObject(value)) throw this.wrong(key, value, 'an object');
    return new ConfigReader(value, `${this.place}, in "${key}"`);
  }

  /** An error about one key. */
  wrong(key: string, value: unknown, expected: string): UserError {
    return new UserError(`${this.place}: "${key}" is ${showValue(value)}; expected ${expected}.`);
  }

  private take<T>(key: string, fallback: T | undefined, expected: string, fits: (value: unknown) => value is T): T {
    const value = this.get(key);
    if (value === undefined) {
      if (fallback !== undefined) return fallback;
      throw new UserError(`${this.place}: "${key}" is missing; expected ${expected}.`);
    }
    if (!fits(value)) throw this.wrong(key, value, expected);
    return value;
  }
}

/** No decoder has nearly as many; modules are built before the weights are looked at, and more would take the memory. */
const MOST_LAYERS = 10_000;

type RenamedKey =
  | 'hidden_size'
  | 'num_attention_heads'
  | 'num_hidden_layers'
  | 'max_position_embeddings'
  | 'intermediate_size'
  | 'initializer_range';

/** The key of a share in a configuration. */
interface DropoutKey {
  key: string;
  /** What it is where the configuration does not say. */
  missing: number;
}

/** What all families share; the family's own file adds the rest. `defaults` are those of its class in transformers. */
export function readModelConfig(
  reader: ConfigReader,
  family: Family,
  defaults: {
    tieWordEmbeddings: boolean;
    maxPositionEmbeddings: number;
    /** The shares that are dropped while training, where the family does that. */
    dropout: { hidden?: DropoutKey; embeddings?: DropoutKey; attention?: DropoutKey };
    /** The family's own names of keys. */
    keys?: Readonly<Partial<Record<RenamedKey, string>>>;
    /** Where the configuration does not say. */
    intermediateSize?: (hiddenSize: number) => number;
  },
): ModelConfig {
  const key = (name: RenamedKey): string => defaults.keys?.[name] ?? name;
  const { dropout } = defaults;
  const share = (of?: DropoutKey): number => (of ? reader.share(of.key, of.missing) : 0);
  const hiddenSize = reader.count(key('hidden_size'));
  const numAttentionHeads = reader.count(key('num_attention_heads'));
  const numKeyValueHeads = reader.count('num_key_value_heads', numAttentionHeads);
  const maxPositionEmbeddings = reader.count(key('max_position_embeddings'), defaults.maxPositionEmbeddings);
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw reader.wrong('num_key_value_heads', numKeyValueHeads, `a divisor of num_attention_heads, which is ${numAttentionHeads}`);
  }
  const numHiddenLayers = reader.count(key('num_hidden_layers'));
  if (numHiddenLayers > MOST_LAYERS) throw reader.wrong(key('num_hidden_layers'), numHiddenLayers, `at most ${MOST_LAYERS} layers`);
  return {
    family,
    modelType: String(reader.get('model_type')),
    vocabSize: reader.count('vocab_size'),
    hiddenSize,
    intermediateSize: reader.count(key('intermediate_size'), defaults.intermediateSize?.(hiddenSize)),
    numHiddenLayers,
    numAttentionHeads,
    numKeyValueHeads,
    headDim:
      reader.get('head_dim') === undefined ? headDimOf(reader, hiddenSize, numAttentionHeads, defaults.keys) : reader.count('head_dim'),
    maxPositionEmbeddings,
    positionLimit: maxPositionEmbeddings,
    keepsState: false,
    tieWordEmbeddings: reader.boolean('tie_word_embeddings', defaults.tieWordEmbeddings),
    initializerRange: reader.notNegative(key('initializer_range'), 0.02),
    hiddenDropout: share(dropout.hidden),
    embeddingDropout: share(dropout.embeddings),
    attentionDropout: share(dropout.attention),
    layerdrop: 0,
    wordsPerLayer: 0,
    wordsOfLoading: 0,
    eosTokenIds: [reader.get('eos_token_id') ?? []].flat().filter((id): id is number => Number.isInteger(id)),
    raw: reader.raw,
  };
}

/** The same configuration for a model whose output head is a matrix of its own. */
export function withoutTie(raw: ModelConfig['raw']): ModelConfig['raw'] {
  // LFM2's older name of it counts before the usual one
  return { ...raw, tie_word_embeddings: false, ...('tie_embedding' in raw && { tie_embedding: false }) };
}

/** @throws UserError when the heads are not equally wide */
export function headDimOf(
  reader: ConfigReader,
  hiddenSize: number,
  heads: number,
  keys: Readonly<Partial<Record<RenamedKey, string>>> = {},
): number {
  if (hiddenSize % heads === 0) return hiddenSize / heads;
  const { hidden_size = 'hidden_size', num_attention_heads = 'num_attention_heads' } = keys;
  throw reader.wrong(hidden_size, hiddenSize, `a multiple of ${num_attention_heads}, which is ${heads}`);
}

/** For families whose heads share the features of the states. @throws UserError when the configuration asks for heads of another width */
export function refuseOtherHeadDim(reader: ConfigReader, { hiddenSize, numAttentionHeads, headDim }: ModelConfig): void {
  const usual = hiddenSize / numAttentionHeads;
  if (headDim !== usual) throw reader.wrong('head_dim', headDim, `hidden_size / num_attention_heads, which is ${usual}`);
}

/**
 * The token whose row of the embedding learns nothing from being read, of families whose class in transformers gives `pad_token_id` to it.
 * @param missing what it is where the configuration does not say; null says that there is none
 */
export function readPaddingIdx(reader: ConfigReader, vocabSize: number, missing?: number): number | undefined {
  const { pad_token_id: id = missing ?? null } = reader.raw;
  if (id === null) return undefined;
  if (typeof id !== 'number' || !Number.isInteger(id) || id < -vocabSize || id >= vocabSize) {
    throw reader.wrong('pad_token_id', id, `null or a whole number from ${-vocabSize} to ${vocabSize - 1}`);
  }
  // as in PyTorch: counted from the end
  return id < 0 ? vocabSize + id : id;
}

/**
 * What numbers are soft-capped by; undefined where the configuration says null.
 * @param missing what it is where the configuration does not say
 */
export function readSoftcap(reader: ConfigReader, key: string, missing: number): number | undefined {
  return reader.raw[key] === null ? undefined : reader.positive(key, missing);
}

/** @throws UserError when tokens are to see those behind them (Gemma's key) */
export function refuseLookingAhead(reader: ConfigReader): void {
  const looksAhead = reader.get('use_bidirectional_attention') ?? false;
  if (looksAhead !== false) throw reader.wrong('use_bidirectional_attention', looksAhead, 'null, as in models that write');
}

/**
 * Which of two kinds each layer is.
 * @param types of the layers, as the configuration has them
 * @throws UserError when it is not one of the two for each layer
 */
export function checkLayerTypes<T extends string>(reader: ConfigReader, types: unknown, kinds: readonly [T, T], layers: number): T[] {
  const isType = (type: unknown): type is T => kinds.some((kind) => kind === type);
  if (Array.isArray(types) && types.length === layers && types.every(isType)) return types;
  throw reader.wrong('layer_types', types, `"${kinds[0]}" or "${kinds[1]}" for each of the ${layers} layers`);
}

const WINDOW_TYPES = ['sliding_attention', 'full_attention'] as const;

/**
 * The sliding window of each layer by `layer_types`, undefined where a layer sees everything before it.
 * @param usual whether a layer has one, where the configuration does not say
 * @param window tokens of it, asked for where a layer has one
 * @throws UserError when there is not one of the two types for each layer
 */
export function readTypedWindows(
  reader: ConfigReader,
  layers: number,
  usual: (layer: number) => boolean,
  window: () => number,
): Array<number | undefined> {
  const types = reader.get('layer_types') ?? Array.from({ length: layers }, (_, layer) => WINDOW_TYPES[usual(layer) ? 0 : 1]);
  return checkLayerTypes(reader, types, WINDOW_TYPES, layers).map((type) => (type === 'sliding_attention' ? window() : undefined));
}

/**
 * The sliding window of each layer, undefined where a layer sees everything before it.
 * Qwen's own rule: windows only with `use_sliding_window`, in the layers that `layer_types` names or from `max_window_layers` on.
 */
export function readQwenWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  if (!reader.boolean('use_sliding_window', false) || reader.raw.sliding_window === null)
    return new Array<undefined>(layers).fill(undefined);
  const window = reader.count('sliding_window', 4096);
  const first = reader.get('max_window_layers') === 0 ? 0 : reader.count('max_window_layers', 28);
  const types = reader.get('layer_types');
  return Array.from({ length: layers }, (_, layer) => {
    const sliding = Array.isArray(types) ? types[layer] === 'sliding_attention' : layer >= first;
    return sliding ? window : undefined;
  });
}
