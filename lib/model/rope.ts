/**
 * Rotary position embedding: the angles by which queries and keys turn (Su et al. 2021), and the ways to stretch them
 * over longer texts. Formulas and float32 rounding follow transformers' `modeling_rope_utils.py`.
 */
import * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import type { ConfigReader } from './config';

export type RopeType = 'default' | 'linear' | 'dynamic' | 'llama3' | 'longrope' | 'yarn' | 'proportional';

/** RoPE of one model. */
export interface RopeConfig {
  readonly type: RopeType;
  /** Base of the frequencies. */
  readonly theta: number;
  /** Features of a head that turn, of an odd number one more; the rest pass through. */
  readonly rotaryDim: number;
  readonly maxPositionEmbeddings: number;
  /** How many times longer texts get; 1 for `default`. */
  readonly factor: number;
  /** llama3: wavelengths above originalMaxPositions / lowFreqFactor are stretched by `factor`. */
  readonly lowFreqFactor: number;
  /** llama3: wavelengths below originalMaxPositions / highFreqFactor stay. */
  readonly highFreqFactor: number;
  /** llama3, longrope, yarn: longest text of the pretraining. */
  readonly originalMaxPositions: number;
  /** longrope: by how much longer each wavelength gets, in texts that are no longer than those of the pretraining. */
  readonly shortFactors: readonly number[];
  /** yarn: wavelengths that fit so often into originalMaxPositions, or more often, stay. */
  readonly betaFast: number;
  /** yarn: those that fit so often, or less, are stretched by `factor`. */
  readonly betaSlow: number;
  /** yarn: whether the pairs between which the blend goes are whole numbers. */
  readonly truncate: boolean;
  /** proportional: how many pairs of features turn, those with the shortest wavelengths; the others' angle is 0. */
  readonly turningPairs: number;
  /** What cosines and sines are multiplied by; 1 but for longrope and yarn. */
  readonly attentionFactor: number;
  /** Where queries grow: those at a position p are multiplied by 1 + by · log(1 + ⌊p / from⌋). */
  readonly queryGrowth?: { readonly by: number; readonly from: number };
}

/** What a family's class in transformers takes where the configuration does not say. */
export interface RopeDefaults {
  /** Default 10000. */
  theta?: number;
  /** Share of a head that turns; absent: whole heads turn whatever the configuration says. */
  partialRotaryFactor?: number;
  /** The types that the family has. Default: those that most have. */
  types?: readonly RopeType[];
  /** Other names of types. */
  olderTypes?: Readonly<Record<string, RopeType>>;
  /** What older configurations call base and share. */
  olderKeys?: { theta: string; partialRotaryFactor: string };
}

const USUAL_TYPES: readonly RopeType[] = ['default', 'linear', 'dynamic', 'llama3'];
const USUAL_KEYS = { theta: 'rope_theta', partialRotaryFactor: 'partial_rotary_factor' };

/** Cosines and sines of each token, [tokens, pairs of features]. */
export interface RotaryAngles {
  cos: tf.Tensor2D;
  sin: tf.Tensor2D;
  /** What queries are multiplied by, where some have grown; [tokens, 1]. */
  queryScale?: tf.Tensor2D;
}

/**
 * Reads both spellings: `rope_parameters` of transformers 5, and the older `rope_theta` with `rope_scaling`
 * (GPT-NeoX: `rotary_emb_base`, `rotary_pct`).
 */
export function readRope(reader: ConfigReader, headDim: number, maxPositionEmbeddings: number, defaults: RopeDefaults = {}): RopeConfig {
  const { theta = 10000, olderKeys = USUAL_KEYS } = defaults;
  const nested = filledObject(reader, 'rope_scaling') ?? filledObject(reader, 'rope_parameters') ?? reader;
  const own = nested === reader ? undefined : nested;
  const type = readType(reader, own, defaults);
  const rotaryDim = readRotaryDim(reader, own, headDim, defaults);
  const originalMaxPositions =
    type === 'llama3' || type === 'longrope' || type === 'yarn'
      ? reader.count(ORIGINAL_MAX_POSITIONS, nested.count(ORIGINAL_MAX_POSITIONS, maxPositionEmbeddings))
      : maxPositionEmbeddings;
  const factor = readFactor(nested, type, maxPositionEmbeddings / originalMaxPositions);
  return {
    type,
    theta: own?.get('rope_theta') === undefined ? reader.positive(olderKeys.theta, theta) : nested.positive('rope_theta'),
    rotaryDim,
    maxPositionEmbeddings,
    factor,
    lowFreqFactor: type === 'llama3' ? nested.positive('low_freq_factor') : 1,
    highFreqFactor: type === 'llama3' ? nested.positive('high_freq_factor') : 1,
    originalMaxPositions,
    shortFactors: type === 'longrope' ? readShortFactors(nested, Math.ceil(rotaryDim / 2)) : [],
    betaFast: type === 'yarn' ? nested.positive('beta_fast', 32) : 1,
    betaSlow: type === 'yarn' ? nested.positive('beta_slow', 1) : 1,
    truncate: type === 'yarn' && nested.boolean('truncate', true),
    turningPairs: type === 'proportional' ? Math.floor((nested.share('partial_rotary_factor', 1) * rotaryDim) / 2) : rotaryDim / 2,
    attentionFactor: readAttentionFactor(nested, type, factor, originalMaxPositions),
  };
}

/** @param longer how many times the longest text is longer than those of the pretraining */
function readFactor(nested: ConfigReader, type: RopeType, longer: number): number {
  if (type === 'default') return 1;
  if (type === 'longrope') return nested.positive('factor', longer);
  return nested.positive('factor', type === 'proportional' ? 1 : undefined);
}

/** @throws UserError when the family has no such type */
function readType(reader: ConfigReader, own: ConfigReader | undefined, { types = USUAL_TYPES, olderTypes = {} }: RopeDefaults): RopeType {
  const named = own?.get('rope_type') ?? own?.get('type') ?? 'default';
  const type = typeof named === 'string' && Object.hasOwn(olderTypes, named) ? olderTypes[named] : named;
  const known = types.find((candidate) => candidate === type);
  if (known) return known;
  const supported = new Intl.ListFormat('en').format(types);
  throw new UserError(`${reader.place}: RoPE of type ${JSON.stringify(named)} is not supported; supported are ${supported}.`);
}

function readShortFactors(nested: ConfigReader, pairs: number): number[] {
  const factors = nested.get('short_factor');
  const isFactor = (value: unknown): value is number => typeof value === 'number' && value > 0;
  if (!Array.isArray(factors) || factors.length !== pairs || !factors.every(isFactor))
    throw nested.wrong('short_factor', factors, `a number above 0 for each of the ${pairs} pairs of features that turn`);
  return factors;
}

/** How much stronger attention gets in longer texts; where the configuration does not say, as the papers suggest (LongRoPE, YaRN). */
function readAttentionFactor(nested: ConfigReader, type: RopeType, factor: number, originalMaxPositions: number): number {
  if (type !== 'longrope' && type !== 'yarn') return 1;
  const suggested = type === 'yarn' ? yarnFactor(nested, factor) : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions));
  return nested.positive('attention_factor', factor <= 1 ? 1 : suggested);
}

/** Of a DeepSeek's two numbers one makes up for the other, where both are given. */
function yarnFactor(nested: ConfigReader, factor: number): number {
  const [scale, ofAll] = ['mscale', 'mscale_all_dim'].map((key) => nested.notNegative(key, 0));
  const grown = (by: number): number => 0.1 * by * Math.log(factor) + 1;
  return scale > 0 && ofAll > 0 ? grown(scale) / grown(ofAll) : grown(1);
}

const ORIGINAL_MAX_POSITIONS = 'original_max_position_embeddings';

/** An empty object counts as none. */
function filledObject(reader: ConfigReader, key: string): ConfigReader | undefined {
  const object = reader.object(key);
  return object && Object.keys(object.raw).length > 0 ? object : undefined;
}

function readRotaryDim(
  reader: ConfigReader,
  own: ConfigReader | undefined,
  headDim: number,
  { partialRotaryFactor, olderKeys = USUAL_KEYS }: RopeDefaults,
): number {
  const readPartial = (fallback: number): number => {
    const older = reader.positive(olderKeys.partialRotaryFactor, fallback);
    return own?.positive('partial_rotary_factor', older) ?? older;
  };
  const rotaryDim = partialRotaryFactor === undefined ? headDim : Math.floor(headDim * readPartial(partialRotaryFactor));
  if (rotaryDim < 1 || 2 * Math.ceil(rotaryDim / 2) > headDim) {
    throw new UserError(
      `${reader.place}: RoPE turns features in pairs, which ${rotaryDim} of a head's ${headDim} features do not make; correct head_dim or partial_rotary_factor.`,
    );
  }
  return rotaryDim;
}

/**
 * The longest text that a model with this RoPE reads: stretched types reach further than `max_position_embeddings` says. With longrope it is as
 * long as those of the pretraining, since in longer texts all tokens would turn otherwise, also those that are in a cache already.
 */
export function ropePositionLimit(rope: RopeConfig): number {
  if (rope.type === 'dynamic') return Infinity;
  if (rope.type === 'longrope') return rope.originalMaxPositions;
  return rope.type === 'linear' ? Math.floor(rope.maxPositionEmbeddings * rope.factor) : rope.maxPositionEmbeddings;
}

const f32 = Math.fround;

/**
 * Angle per position of each pair of features, float32; of an odd number the last pair is half beyond it.
 * @param length tokens of the longest text; only `dynamic` depends on it
 */
export function ropeFrequencies(rope: RopeConfig, length: number): Float32Array {
  const { type, factor, rotaryDim: dim, maxPositionEmbeddings } = rope;
  let base = rope.theta;
  if (type === 'dynamic') {
    const stretch = (factor * Math.max(length, maxPositionEmbeddings)) / maxPositionEmbeddings - (factor - 1);
    base *= stretch ** (dim / (dim - 2));
  }
  const powers = Float32Array.from({ length: Math.ceil(dim / 2) }, (_, i) => base ** f32((2 * i) / dim));
  if (type === 'longrope') return powers.map((power, i) => 1 / f32(f32(rope.shortFactors[i]) * power));
  const frequencies = powers.map((power) => 1 / power);
  if (type === 'yarn') return yarnFrequencies(powers, rope);
  if (type === 'linear') return frequencies.map((frequency) => frequency / factor);
  if (type === 'proportional') return frequencies.map((frequency, pair) => (pair < rope.turningPairs ? frequency / factor : 0));
  return type === 'llama3' ? frequencies.map((frequency) => llama3Frequency(frequency, rope)) : frequencies;
}

/** Llama 3.1: long wavelengths stretched, short ones kept, those between blended. */
function llama3Frequency(frequency: number, { factor, lowFreqFactor, highFreqFactor, originalMaxPositions }: RopeConfig): number {
  const wavelength = f32((2 * Math.PI) / frequency);
  if (wavelength > originalMaxPositions / lowFreqFactor) return frequency / factor;
  if (wavelength < originalMaxPositions / highFreqFactor) return frequency;
  const smooth = f32(f32(f32(originalMaxPositions / wavelength) - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
  return f32(f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency));
}

/**
 * YaRN (Peng et al. 2023): as llama3, but that the blend goes by the number of the pair of features.
 * @param powers of the base, by pair
 */
function yarnFrequencies(
  powers: Float32Array,
  { theta, rotaryDim, factor, originalMaxPositions, betaFast, betaSlow, truncate }: RopeConfig,
): Float32Array {
  /** The pair whose wavelength fits so often into the longest text of the pretraining; not whole. */
  const pairOf = (times: number): number => (rotaryDim * Math.log(originalMaxPositions / (times * 2 * Math.PI))) / (2 * Math.log(theta));
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const first = Math.max(truncate ? Math.floor(fast) : fast, 0);
  const last = Math.min(truncate ? Math.ceil(slow) : slow, rotaryDim - 1);
  const width = first === last ? 0.001 : last - first;
  return powers.map((power, i) => {
    const kept = f32(1 - Math.min(Math.max(f32((i - first) / width), 0), 1));
    return f32(f32(1 / f32(factor * power)) * f32(1 - kept)) + f32(f32(1 / power) * kept);
  });
}

/** About the fewest rows of a table: one size for most texts, so that tables seldom change. */
const SMALLEST_TABLE = 1024;

/** Cosines and sines by position, as tables that grow with the longest text seen; each token's row is looked up. */
export class RotaryEmbedding {
  private cos?: tf.Tensor2D;
  private sin?: tf.Tensor2D;
  private queryScale?: tf.Tensor2D;
  /** What the present tables serve: this many positions, and for `dynamic` texts of this length. */
  private rows = 0;
  private stretchedFor = 0;

  constructor(readonly rope: RopeConfig) {}

  /**
   * @param positions int32 [tokens]
   * @param length one more than the largest position
   */
  angles(positions: tf.Tensor1D, length: number): RotaryAngles {
    this.prepare(length);
    const rowsOf = (table: tf.Tensor2D): tf.Tensor2D => tf.gather(table, positions);
    const { queryGrowth } = this.rope;
    const haveGrown = queryGrowth && queryGrowth.by > 0 && length > queryGrowth.from;
    return {
      ...{ cos: rowsOf(this.cos as tf.Tensor2D), sin: rowsOf(this.sin as tf.Tensor2D) },
      ...(haveGrown && { queryScale: rowsOf(this.queryScale as tf.Tensor2D) }),
    };
  }

  dispose(): void {
    tf.dispose([this.cos, this.sin, this.queryScale].filter((table) => table !== undefined));
    this.cos = this.sin = this.queryScale = undefined;
    this.rows = this.stretchedFor = 0;
  }

  private prepare(length: number): void {
    const stretchedFor = this.rope.type === 'dynamic' ? Math.max(length, this.rope.maxPositionEmbeddings) : 0;
    if (length <= this.rows && stretchedFor === this.stretchedFor) return;
    // One more than a round number: a compiled graph could not tell the table's size from that of a row with as many tokens.
    const rows = Math.max(SMALLEST_TABLE, 2 ** Math.ceil(Math.log2(length))) + 1;
    const frequencies = ropeFrequencies(this.rope, length);
    const half = frequencies.length;
    const factor = f32(this.rope.attentionFactor);
    const cos = new Float32Array(rows * half);
    const sin = new Float32Array(rows * half);
    for (let position = 0, at = 0; position < rows; position++) {
      for (let i = 0; i < half; i++, at++) {
        const angle = f32(position * frequencies[i]);
        cos[at] = f32(Math.cos(angle)) * factor;
        sin[at] = f32(Math.sin(angle)) * factor;
      }
    }
    this.dispose();
    this.cos = tf.keep(tf.tensor2d(cos, [rows, half]));
    this.sin = tf.keep(tf.tensor2d(sin, [rows, half]));
    const { queryGrowth } = this.rope;
    if (queryGrowth) this.queryScale = tf.keep(tf.tensor2d(grownQueries(queryGrowth, rows), [rows, 1]));
    this.rows = rows;
    this.stretchedFor = stretchedFor;
  }
}

/** What queries are multiplied by, by position. */
function grownQueries({ by, from }: NonNullable<RopeConfig['queryGrowth']>, positions: number): Float32Array {
  return Float32Array.from({ length: positions }, (_, position) => 1 + f32(f32(by) * f32(Math.log(1 + Math.floor(position / from)))));
}
