/** What a Gemma 4's configuration says (Gemma team 2026): layers of two kinds, whose heads may be of another width and number. */
import { UserError } from '../errors';
import { ConfigReader, readModelConfig, readPaddingIdx, readTypedWindows } from './config';
import { type RopeConfig, readRope, ropePositionLimit } from './rope';
import type { SandwichConfig } from './sandwich-block';
import type { ModelConfig } from './types';

/** What one layer has of its own. */
export interface Gemma4Layer {
  readonly headDim: number;
  /** Heads of keys and values. */
  readonly kvHeads: number;
  /** The earlier layer whose keys and values it reads, where it has none of its own. */
  readonly keysOf?: number;
  /** Whether what becomes its keys are its values, too. */
  readonly valuesAreKeys: boolean;
  /** Hidden features of its MLP. */
  readonly intermediateSize: number;
}

export interface Gemma4Config extends SandwichConfig {
  readonly layers: readonly Gemma4Layer[];
  readonly slidingRope: RopeConfig;
  readonly attentionBias: boolean;
  /** Features of what each layer reads of a token beside the hidden states; 0 where that is nothing. */
  readonly perLayerSize: number;
}

/** The model that reads pictures without a tower (12B): what its layers read of a token is the hidden states alone. */
const UNIFIED = 'gemma4_unified_text';

export function readGemma4Config(reader: ConfigReader): Gemma4Config {
  const isUnified = reader.get('model_type') === UNIFIED;
  const raw = { num_key_value_heads: 4, head_dim: 256, eos_token_id: 1, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'gemma4', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: isUnified ? 262144 : 131072,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  refuseOthers(reader);
  const windows = readWindows(reader, common.numHiddenLayers, isUnified ? 1024 : 512);
  const layers = readLayers(reader, common, windows);
  // the last layer always sees everything
  const full = layers[layers.length - 1];
  const sliding = layers[windows.findIndex((window) => window !== undefined)] ?? full;
  const rope = readLayersRope(reader, 'full_attention', full.headDim, common);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    finalLogitSoftcapping: reader.get('final_logit_softcapping') === undefined ? undefined : reader.positive('final_logit_softcapping'),
    hiddenAct: reader.activation('hidden_activation', 'gelu_pytorch_tanh'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    embeddingScale: Math.sqrt(common.hiddenSize),
    attentionBias: reader.boolean('attention_bias', false),
    rope,
    slidingRope: readLayersRope(reader, 'sliding_attention', sliding.headDim, common),
    windows,
    layers,
    perLayerSize: isUnified ? 0 : readPerLayerSize(reader, common),
  };
}

/** @throws UserError when it is a model with experts, or one that looks ahead */
function refuseOthers(reader: ConfigReader): void {
  if (reader.boolean('enable_moe_block', false))
    throw reader.wrong('enable_moe_block', true, 'false, as in the Gemma 4 models without experts');
  // tokens of pictures see those behind them then, those of texts do not
  const looksAhead = reader.get('use_bidirectional_attention') ?? 'vision';
  if (looksAhead !== 'vision') throw reader.wrong('use_bidirectional_attention', looksAhead, 'null or "vision", as in models that write');
}

/** Of six layers five have a window, where the configuration does not say; the last sees everything, whatever it says. */
function readWindows(reader: ConfigReader, layers: number, usual: number): Array<number | undefined> {
  const window = reader.count('sliding_window', usual);
  const windows = readTypedWindows(
    reader,
    layers,
    (layer) => (layer + 1) % 6 !== 0,
    () => window,
  );
  return windows.with(-1, undefined);
}

/** Features for each layer of each token; the tokens are those of the vocabulary. */
function readPerLayerSize(reader: ConfigReader, { vocabSize }: ModelConfig): number {
  const size = countOrNone(reader, 'hidden_size_per_layer_input', 256);
  const rows = reader.count('vocab_size_per_layer_input', vocabSize);
  if (size > 0 && rows !== vocabSize) throw reader.wrong('vocab_size_per_layer_input', rows, `vocab_size, which is ${vocabSize}`);
  return size;
}

const countOrNone = (reader: ConfigReader, key: string, fallback: number): number =>
  reader.get(key) === 0 ? 0 : reader.count(key, fallback);

type Windows = ReadonlyArray<number | undefined>;

function readLayers(reader: ConfigReader, common: ModelConfig, windows: Windows): Gemma4Layer[] {
  const { numHiddenLayers: count, intermediateSize } = common;
  const sharing = countOrNone(reader, 'num_kv_shared_layers', 0);
  const first = count - sharing;
  const widens = reader.boolean('use_double_wide_mlp', false);
  const keysAreValues = reader.boolean('attention_k_eq_v', false);
  const heads = readHeads(reader, common, windows, keysAreValues);
  return windows.map((window, layer): Gemma4Layer => {
    const shares = layer >= first;
    const isSameKind = (other: Windows[number]): boolean => (other === undefined) === (window === undefined);
    const keysOf = shares ? windows.slice(0, Math.max(first, 0)).findLastIndex(isSameKind) : undefined;
    if (keysOf === -1)
      throw reader.wrong('num_kv_shared_layers', sharing, 'so few that a layer of each kind has keys and values of its own');
    return {
      ...heads[layer],
      keysOf,
      valuesAreKeys: keysAreValues && window === undefined,
      intermediateSize: intermediateSize * (widens && shares ? 2 : 1),
    };
  });
}

type Heads = Pick<Gemma4Layer, 'headDim' | 'kvHeads'>;

/**
 * Both spellings: that of published models, which say it of all layers that see everything, and `per_layer_config`, which transformers writes since
 * 5.18 and says it layer by layer.
 * @throws UserError when layers of one kind differ, for which transformers has no angles
 */
function readHeads(reader: ConfigReader, common: ModelConfig, windows: Windows, keysAreValues: boolean): Heads[] {
  const { headDim, numKeyValueHeads: kvHeads, numAttentionHeads } = common;
  const byLayer = readHeadsByLayer(reader, common);
  const ofFull: Heads = {
    headDim: reader.count('global_head_dim', 512),
    kvHeads: keysAreValues ? reader.count('num_global_key_value_heads', kvHeads) : kvHeads,
  };
  const heads = windows.map((window, layer): Heads => byLayer?.[layer] ?? (window === undefined ? ofFull : { headDim, kvHeads }));
  for (const [layer, found] of heads.entries()) {
    const alike = heads[windows.findIndex((window) => (window === undefined) === (windows[layer] === undefined))];
    if (found.headDim !== alike.headDim || found.kvHeads !== alike.kvHeads)
      throw new UserError(
        `${reader.place}, in "per_layer_config": layer ${layer} has ${found.kvHeads} heads of keys with ${found.headDim} features, another one ` +
          `of its kind ${alike.kvHeads} with ${alike.headDim}; layers of one kind must have the same.`,
      );
    if (numAttentionHeads % found.kvHeads !== 0)
      throw reader.wrong('num_global_key_value_heads', found.kvHeads, `a divisor of num_attention_heads, which is ${numAttentionHeads}`);
  }
  return heads;
}

function readHeadsByLayer(reader: ConfigReader, { headDim, numKeyValueHeads, numHiddenLayers }: ModelConfig): Heads[] | undefined {
  const perLayer = reader.object('per_layer_config');
  if (!perLayer) return undefined;
  const overrides = new Map<number, ConfigReader | undefined>();
  for (const [key, value] of Object.entries(perLayer.raw)) {
    const layer = Number(key);
    if (!(Number.isInteger(layer) && layer >= 0 && layer < numHiddenLayers))
      throw perLayer.wrong(key, value, `one of the ${numHiddenLayers} layers by its number, counted from 0`);
    overrides.set(layer, perLayer.object(key));
  }
  return Array.from({ length: numHiddenLayers }, (_, layer) => {
    const own = overrides.get(layer);
    const other = Object.keys(own?.raw ?? {}).find((key) => key !== 'head_dim' && key !== 'num_key_value_heads');
    if (own && other !== undefined) throw own.wrong(other, own.raw[other], 'nothing but head_dim and num_key_value_heads of one layer');
    return {
      headDim: own?.count('head_dim', headDim) ?? headDim,
      kvHeads: own?.count('num_key_value_heads', numKeyValueHeads) ?? numKeyValueHeads,
    };
  });
}

type Kind = 'full_attention' | 'sliding_attention';

/** The angles of each kind of layers, where the configuration does not say. */
const USUAL_ROPE: Readonly<Record<Kind, Readonly<Record<string, unknown>>>> = {
  full_attention: { rope_type: 'proportional', partial_rotary_factor: 0.25, rope_theta: 1e6 },
  sliding_attention: { rope_type: 'default', rope_theta: 1e4 },
};

function readLayersRope(reader: ConfigReader, kind: Kind, headDim: number, { maxPositionEmbeddings }: ModelConfig): RopeConfig {
  const given = reader.object('rope_parameters');
  const rope_parameters = given ? given.object(kind)?.raw : USUAL_ROPE[kind];
  if (!rope_parameters) throw reader.wrong('rope_parameters', given?.raw, `an object that has "${kind}"`);
  return readRope(new ConfigReader({ rope_parameters }, reader.place), headDim, maxPositionEmbeddings, {
    types: ['default', 'proportional'],
  });
}
