/** The fused operations of ops.ts, composed of plain tfjs operations: for backends without our kernels, and as the reference in tests. */
import * as tf from '@tensorflow/tfjs-core';
import { factorsOf, type KeptWeights } from './dropout';
import { NF4, NF4_BLOCK, NF4_PLACES } from './nf4';
import type { Activation, AttentionOptions, LayerCache, TokenLoss } from './ops';
import type { Segments } from './segments';

/** Added to a score to hide it; finite, so that no NaN arises from a row that is hidden entirely. */
const HIDDEN = -1e30;

export function rmsNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, eps: number): T {
  return tf.tidy(() => {
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), eps));
    return tf.mul(tf.mul(x, inverse), weight) as T;
  });
}

export function layerNorm<T extends tf.Tensor>(x: T, weight: tf.Tensor1D, bias: tf.Tensor1D, eps: number): T {
  return tf.tidy(() => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps));
    return tf.add(tf.mul(tf.mul(centred, inverse), weight), bias) as T;
  });
}

export function rotary(x: tf.Tensor2D, cos: tf.Tensor2D, sin: tf.Tensor2D, heads: number, interleaved: boolean): tf.Tensor2D {
  return tf.tidy(() => {
    const [tokens, features] = x.shape;
    const headDim = features / heads;
    const half = cos.shape[1];
    const byHead = tf.reshape(x, [tokens, heads, headDim]);
    const turning = tf.slice(byHead, [0, 0, 0], [tokens, heads, 2 * half]);
    // the pairs' first features and their second ones
    const [first, second] = interleaved ? tf.unstack(tf.reshape(turning, [tokens, heads, half, 2]), 3) : tf.split(turning, 2, 2);
    const c = tf.expandDims(cos, 1);
    const s = tf.expandDims(sin, 1);
    const pairs = [tf.sub(tf.mul(first, c), tf.mul(second, s)), tf.add(tf.mul(second, c), tf.mul(first, s))];
    const turned = interleaved ? [tf.reshape(tf.stack(pairs, 3), turning.shape)] : pairs;
    if (2 * half < headDim) turned.push(tf.slice(byHead, [0, 0, 2 * half], [tokens, heads, headDim - 2 * half]));
    return tf.reshape(tf.concat(turned, 2), [tokens, features]) as tf.Tensor2D;
  });
}

export function activation<T extends tf.Tensor>(name: Activation, x: T): T {
  return tf.tidy(() => {
    switch (name) {
      case 'relu':
        return tf.relu(x);
      case 'relu2':
        return tf.square(tf.relu(x));
      case 'silu':
      case 'swish':
        return tf.mul(x, tf.sigmoid(x)) as T;
      case 'gelu':
        return tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)) as T;
      default: {
        const inner = tf.mul(tf.add(x, tf.mul(tf.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
        return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1)) as T;
      }
    }
  });
}

export function softCap<T extends tf.Tensor>(x: T, cap: number): T {
  return tf.tidy(() => {
    // a constant of the graph, where a plain number would be a feed of it at every place
    const bound = tf.fill([1], cap);
    return tf.mul(tf.tanh(tf.div(x, bound)), bound) as T;
  });
}

export function swiglu(gate: tf.Tensor2D, up: tf.Tensor2D): tf.Tensor2D {
  return tf.tidy(() => tf.mul(activation('silu', gate), up));
}

export function attention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  segments: Segments,
  options: AttentionOptions,
  weights?: KeptWeights,
): tf.Tensor2D {
  return tf.tidy(() => below(attentionOfSegments({ q, k, v }, segments, options, weights).map(({ output }) => output)));
}

/** With log Σ exp(score) of what each query sees, [tokens, heads]. */
export function attentionWithSums(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  segments: Segments,
  options: AttentionOptions,
): [output: tf.Tensor2D, logSums: tf.Tensor2D] {
  return tf.tidy(() => {
    const found = attentionOfSegments({ q, k, v }, segments, options);
    const sums = found.map(({ scores }) => tf.transpose(tf.logSumExp(scores, 2)) as tf.Tensor2D);
    return [below(found.map(({ output }) => output)), below(sums)];
  });
}

/** Rows below each other. */
const below = ([first, ...others]: tf.Tensor2D[]): tf.Tensor2D => (others.length === 0 ? first : tf.concat([first, ...others], 0));

interface AttentionOfSegment {
  /** [queries, heads·headDim] */
  output: tf.Tensor2D;
  /** [heads, queries, tokens], those hidden that a query does not see. */
  scores: tf.Tensor;
}

function attentionOfSegments(
  { q, k, v }: Record<'q' | 'k' | 'v', tf.Tensor2D>,
  segments: Segments,
  options: AttentionOptions,
  weights?: KeptWeights,
): AttentionOfSegment[] {
  const factors: tf.Tensor3D | undefined = weights && tf.reshape(factorsOf(weights.kept, weights.factor), [q.shape[0], options.heads, -1]);
  return segments.list.map(({ start, length, prefix }) => {
    const rows = (x: tf.Tensor2D, from: number, count: number) => tf.slice(x, [from, 0], [count, x.shape[1]]) as tf.Tensor2D;
    const seen = (x: tf.Tensor2D): tf.Tensor2D => {
      const own = rows(x, start, length);
      return prefix.tokens === 0 ? own : (tf.concat([rows(x, prefix.start, prefix.tokens), own], 0) as tf.Tensor2D);
    };
    const left = factors && tf.transpose(tf.slice(factors, [start, 0, 0], [length, options.heads, length]), [1, 0, 2]);
    return segmentAttention(rows(q, start, length), seen(k), seen(v), options, left);
  });
}

/**
 * Attention of the last tokens of a segment, as many as there are queries, to all of its tokens up to themselves.
 * @param factors of the weights, [heads, queries, tokens]
 */
function segmentAttention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  options: AttentionOptions,
  factors: tf.Tensor3D | undefined,
): AttentionOfSegment {
  const [length, tokens] = [q.shape[0], k.shape[0]];
  const queries = splitHeads(q, options.heads);
  const keys = repeatHeads(splitHeads(k, options.kvHeads), options);
  const values = repeatHeads(splitHeads(v, options.kvHeads), options);
  const mask = tf.slice(causalMask(tokens, options.window), [tokens - length, 0], [length, tokens]);
  const scores = capped(tf.mul(tf.matMul(queries, keys, false, true), options.scale), options);
  const masked = tf.add(scores, mask);
  const weights: tf.Tensor = tf.softmax(masked);
  const mixed = tf.matMul(factors ? tf.mul(weights, factors) : weights, values) as tf.Tensor3D;
  return { output: tf.reshape(tf.transpose(mixed, [1, 0, 2]), [length, q.shape[1]]) as tf.Tensor2D, scores: masked };
}

/** Scores, soft-capped where they are. */
const capped = (scores: tf.Tensor, { softcap }: AttentionOptions): tf.Tensor => (softcap === undefined ? scores : softCap(scores, softcap));

/** [tokens, heads·headDim] to [heads, tokens, headDim]. */
function splitHeads(x: tf.Tensor2D, heads: number): tf.Tensor3D {
  const [tokens, features] = x.shape;
  return tf.transpose(tf.reshape(x, [tokens, heads, features / heads]), [1, 0, 2]) as tf.Tensor3D;
}

/** Each key/value head serves heads/kvHeads query heads in a row: [kvHeads, …] to [heads, …]. */
function repeatHeads(x: tf.Tensor3D, { heads, kvHeads }: AttentionOptions): tf.Tensor3D {
  if (heads === kvHeads) return x;
  const [, tokens, headDim] = x.shape;
  const repeated = tf.tile(tf.reshape(x, [kvHeads, 1, tokens, headDim]), [1, heads / kvHeads, 1, 1]);
  return tf.reshape(repeated, [heads, tokens, headDim]) as tf.Tensor3D;
}

/** [length, length]: 0 where a token (row) may look, HIDDEN elsewhere. */
function causalMask(length: number, window?: number): tf.Tensor2D {
  const mask = new Float32Array(length * length).fill(HIDDEN);
  for (let row = 0; row < length; row++) {
    const first = window === undefined ? 0 : Math.max(0, row - window + 1);
    mask.fill(0, row * length + first, row * length + row + 1);
  }
  return tf.tensor2d(mask, [length, length]);
}

export function cachedAttention(
  q: tf.Tensor2D,
  k: tf.Tensor2D,
  v: tf.Tensor2D,
  cache: LayerCache,
  lengths: tf.Tensor1D,
  options: AttentionOptions,
  sinks?: tf.Tensor1D,
): { output: tf.Tensor2D; cache: LayerCache } {
  const { heads, kvHeads, scale, window } = options;
  const [output, keys, values] = tf.tidy(() => {
    const [batch, , capacity, headDim] = cache.keys.shape;
    const tokens = q.shape[0] / batch;
    const places = tf.tensor1d(Int32Array.from({ length: capacity }, (_, i) => i));
    const own = tf.add(tf.expandDims(lengths, 1), tf.tensor1d(Int32Array.from({ length: tokens }, (_, i) => i)));
    const current = tf.expandDims(own, 2);
    // [batch, tokens, capacity]: the place of each new token, and what it sees
    const isPlace = tf.equal(places, current);
    let visible = tf.lessEqual(places, current);
    if (window !== undefined) visible = tf.logicalAnd(visible, tf.greater(places, tf.sub(current, window)));
    const sinceRead = tf.sub(places, tf.expandDims(lengths, 1));
    const isFresh = tf.logicalAnd(tf.greaterEqual(sinceRead, 0), tf.less(sinceRead, tokens));
    const isNew = tf.tile(tf.reshape(isFresh, [batch, 1, capacity, 1]), [1, kvHeads, 1, headDim]);
    // Tiled, because tfjs's CPU backend broadcasts products over several axes wrongly.
    const toPlace = tf.tile(tf.expandDims(tf.cast(isPlace, 'float32'), 1), [1, kvHeads, 1, 1]);
    const put = (old: tf.Tensor4D, fresh: tf.Tensor2D) => {
      const byHead = tf.transpose(tf.reshape(fresh, [batch, tokens, kvHeads, headDim]), [0, 2, 1, 3]);
      const spread = tf.matMul(toPlace, byHead, true, false);
      return tf.where(isNew, spread, old) as tf.Tensor4D;
    };
    const newKeys = put(cache.keys, k);
    const newValues = put(cache.values, v);
    const group = heads / kvHeads;
    const queries = tf.transpose(tf.reshape(q, [batch, tokens, kvHeads, group, headDim]), [0, 2, 1, 3, 4]);
    const scores = tf.matMul(tf.reshape(queries, [batch, kvHeads, tokens * group, headDim]), newKeys, false, true);
    const mask = tf.reshape(tf.mul(tf.sub(1, tf.cast(visible, 'float32')), HIDDEN), [batch, 1, tokens, 1, capacity]);
    const scaled = tf.mul(tf.reshape(scores, [batch, kvHeads, tokens, group, capacity]), scale);
    const masked = tf.add(capped(scaled, options), mask);
    const left = sinks && tf.sigmoid(tf.sub(tf.logSumExp(masked, 4, true), tf.reshape(sinks, [1, kvHeads, 1, group, 1])));
    const shares = left ? tf.mul(tf.softmax(masked), left) : tf.softmax(masked);
    const weights = tf.reshape(shares, [batch, kvHeads, tokens * group, capacity]);
    const mixed = tf.transpose(tf.reshape(tf.matMul(weights, newValues), [batch, kvHeads, tokens, group, headDim]), [0, 2, 1, 3, 4]);
    return [tf.reshape(mixed, [batch * tokens, heads * headDim]), newKeys, newValues];
  }) as [tf.Tensor2D, tf.Tensor4D, tf.Tensor4D];
  return { output, cache: { keys, values } };
}

export function tokenLoss(hidden: tf.Tensor2D, weight: tf.Tensor2D, targets: tf.Tensor1D, softcap?: number, bias?: tf.Tensor1D): TokenLoss {
  const [nll, argmax, entropy] = tf.tidy(() => {
    const bare = tf.matMul(hidden, weight, false, true);
    const products = bias ? tf.add(bare, bias) : bare;
    const logits = softcap === undefined ? products : softCap(products, softcap);
    const logProbabilities = tf.logSoftmax(logits);
    const nll = tf.neg(tf.sum(tf.mul(logProbabilities, tf.oneHot(targets, weight.shape[0])), -1));
    const entropy = tf.neg(tf.sum(tf.mul(logProbabilities, tf.exp(logProbabilities)), -1));
    return [nll, tf.argMax(logits, -1), entropy];
  }) as tf.Tensor1D[];
  return { nll, argmax, entropy };
}

/** @param shape of the matrix */
export function fromNormalFloat(codes: tf.Tensor1D, scales: tf.Tensor1D, shape: [number, number]): tf.Tensor2D {
  return tf.tidy(() => {
    const digits = NF4_PLACES.map((place) => tf.mod(tf.floorDiv(codes, tf.scalar(16 ** place, 'int32')), tf.scalar(16, 'int32')));
    const shares = tf.gather(tf.tensor1d([...NF4]), tf.reshape(tf.stack(digits, 1), [-1]));
    return tf.reshape(tf.mul(tf.reshape(shares, [-1, NF4_BLOCK]), tf.expandDims(scales, 1)), shape);
  });
}

/** [rows, columns]: 1 at the `count` largest values of each row, else 0. */
export function largest(x: tf.Tensor2D, count: number): tf.Tensor2D {
  // one column is no choice that tfjs's oneHot would write
  if (count === x.shape[1]) return tf.onesLike(x);
  return tf.tidy(() => tf.sum(tf.oneHot(tf.topk(x, count).indices, x.shape[1]), 1) as tf.Tensor2D);
}
