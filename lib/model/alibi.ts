/**
 * Attention with linear biases (ALiBi; Press et al. 2022), in the place of positions that are added or turn: the further a key lies before a query,
 * the more is taken from their score, by a slope that each head has of its own.
 *
 * Queries and keys get two features more, whose products are that bias,
 *
 *     slope · (position of the key − position of the query) = slope · key + query · (−slope),
 *
 * so that attention and its cache need not know of it. transformers adds slope · key alone, which the softmax does not tell from this; but that
 * becomes as large as a text is long, and float16 would leave nothing of the scores beside it. Positions it has exactly up to 2048, the length of the
 * texts that BLOOM was trained on.
 */
import * as tf from '@tensorflow/tfjs-core';
import { inHeads, times } from './layers';
import type { Attend, AttendOptions } from './types';

/** Heads are as wide as kernels for generation take them: a multiple of so many features. */
const WIDTH_MULTIPLE = 8;

/** The slopes of the paper: a geometric sequence; between its numbers, where heads are no power of two, some of that of twice as many. */
export function alibiSlopes(heads: number): number[] {
  const power = 2 ** Math.floor(Math.log2(heads));
  const sequence = (count: number): number[] => Array.from({ length: count }, (_, i) => 2 ** ((-8 * (i + 1)) / count));
  const between = sequence(2 * power).filter((_, i) => i % 2 === 0);
  return [...sequence(power), ...between.slice(0, heads - power)];
}

/** What queries and keys have more, [tokens, heads, features] each. */
export interface AlibiFeatures {
  queries: tf.Tensor3D;
  keys: tf.Tensor3D;
}

/** The features of a model's heads by position. */
export class Alibi {
  private readonly extra: number;
  /** [1, heads·extra] each: what is the same for all tokens, and what is multiplied by their positions. */
  private tables?: Record<'queries' | 'keys', { same: tf.Tensor2D; byPosition: tf.Tensor2D }>;

  constructor(
    private readonly heads: number,
    headDim: number,
  ) {
    this.extra = WIDTH_MULTIPLE * Math.ceil((headDim + 2) / WIDTH_MULTIPLE) - headDim;
  }

  /** @param positions int32 [tokens] */
  features(positions: tf.Tensor1D): AlibiFeatures {
    const { heads, extra } = this;
    const column = tf.expandDims(tf.cast(positions, 'float32'), 1);
    const tables = this.prepare();
    // as a product of matrices, which an exported model computes in its own number format, whatever positions are
    const of = ({ same, byPosition }: { same: tf.Tensor2D; byPosition: tf.Tensor2D }): tf.Tensor3D =>
      tf.reshape(tf.add(tf.matMul(column, byPosition), same), [positions.size, heads, extra]);
    return { queries: of(tables.queries), keys: of(tables.keys) };
  }

  dispose(): void {
    for (const { same, byPosition } of Object.values(this.tables ?? {})) tf.dispose([same, byPosition]);
    this.tables = undefined;
  }

  private prepare(): NonNullable<typeof this.tables> {
    const slopes = alibiSlopes(this.heads);
    const ones = slopes.map(() => 1);
    this.tables ??= {
      queries: { same: this.table(0, slopes), byPosition: this.table(1, ones) },
      keys: {
        same: this.table(
          1,
          slopes.map((slope) => -slope),
        ),
        byPosition: this.table(0, ones),
      },
    };
    return this.tables;
  }

  /** One feature of each head. */
  private table(feature: number, values: readonly number[]): tf.Tensor2D {
    const { heads, extra } = this;
    const table = new Float32Array(heads * extra);
    for (const [head, value] of values.entries()) table[head * extra + feature] = value;
    return tf.keep(tf.tensor2d(table, [1, heads * extra]));
  }
}

/**
 * Lets a layer's tokens look at each other with the bias; q, k and v are [tokens, heads·headDim] each, and so is the result.
 * @param attend of the pass
 */
export function attendByDistance(
  layer: number,
  { q, k, v }: Record<'q' | 'k' | 'v', tf.Tensor2D>,
  { queries, keys }: AlibiFeatures,
  { heads, scale, ...options }: Omit<AttendOptions, 'kvHeads'>,
  attend: Attend,
): tf.Tensor2D {
  const [features, extra] = [q.shape[1], queries.shape[2]];
  const headDim = features / heads;
  const flat = (x: tf.Tensor3D): tf.Tensor2D => tf.reshape(x, [x.shape[0], heads * x.shape[2]]);
  const widened = (x: tf.Tensor2D, by: tf.Tensor3D): tf.Tensor2D => flat(tf.concat([inHeads(x, heads), by], 2));
  const zeros: [number, number][] = [
    [0, 0],
    [0, 0],
    [0, extra],
  ];
  const wide = { q: widened(times(q, scale), queries), k: widened(k, keys), v: flat(tf.pad(inHeads(v, heads), zeros)) };
  const read = attend(layer, wide.q, wide.k, wide.v, { ...options, heads, kvHeads: heads, scale: 1 });
  return flat(tf.slice(inHeads(read, heads), [0, 0, 0], [-1, -1, headDim]));
}
