/** Packed rows of tokens for a model, and the checks of what goes into them. */
import * as tf from '@tensorflow/tfjs-core';
import {
  attention,
  attentionWithSinks,
  embedding,
  makeSegments,
  openShelf,
  placeIn,
  recurrence,
  type SharedPrefix,
  shortConvolution,
} from '../engine';
import { UserError } from '../errors';
import type { Carry, Drop, ForwardPass, ModelConfig, TokenBatch } from './types';

/**
 * Lays sequences end to end. The caller frees the batch with `disposeBatch`.
 * @param prefixes by sequence, what it leaves out because another one has it (shared-prefixes.ts)
 * @param stretchedTo tokens for which positions stretch (dynamic RoPE); default: those of the longest sequence
 */
export function makeBatch(
  sequences: ReadonlyArray<ArrayLike<number>>,
  prefixes: ReadonlyArray<SharedPrefix | undefined> = [],
  stretchedTo?: number,
): TokenBatch {
  const shared = sequences.map((_, i) => prefixes[i]?.tokens ?? 0);
  const segments = makeSegments(
    sequences.map(({ length }, i) => length - shared[i]),
    prefixes,
  );
  const tokens = segments.list.reduce((sum, { length }) => sum + length, 0);
  const ids = new Int32Array(tokens);
  const positions = new Int32Array(tokens);
  for (const [index, { start, length }] of segments.list.entries()) {
    for (let i = 0; i < length; i++) {
      ids[start + i] = sequences[index][shared[index] + i];
      positions[start + i] = shared[index] + i;
    }
  }
  return {
    ids: tf.keep(tf.tensor1d(ids, 'int32')),
    positions: tf.keep(tf.tensor1d(positions, 'int32')),
    segments,
    length: stretchedTo ?? Math.max(...sequences.map(({ length }) => length)),
  };
}

/** Where a token of a sequence, counted from 0, is in the row. */
export function placeOf({ segments }: TokenBatch, sequence: number, token: number): number {
  return placeIn(segments.list[sequence], token);
}

export function disposeBatch({ ids, positions, segments }: TokenBatch): void {
  tf.dispose([ids, positions]);
  segments.dispose();
}

/** All tokens go through all layers. */
export const carryAll: Carry = (_layer, x) => x;

/** Only the tokens at some places go on past the last layer's attention. */
export function carryOnly(places: tf.Tensor1D, { numHiddenLayers }: ModelConfig): Carry {
  return (layer, x) => (layer === numHiddenLayers - 1 ? embedding(x, places) : x);
}

/** As when nothing is trained. */
export const dropNothing: Drop = (x) => x;

/** A pass in which each token of a packed row sees those before it in its own segment. */
export function packedPass({ ids, positions, segments, length, dropout, attentionDropout }: TokenBatch, carry = carryAll): ForwardPass {
  return {
    ids,
    positions,
    length,
    attend: (layer, q, k, v, { dropout: share, sinks, ...options }) => {
      if (sinks) return carry(layer, attentionWithSinks(q, k, v, segments, options, sinks));
      return carry(layer, attention(q, k, v, segments, options, attentionDropout?.weightsAt(layer, share)));
    },
    convolve: (_layer, x, weights) => shortConvolution(x, weights, segments),
    recur: (layer, operands, heads) => carry(layer, recurrence(operands, segments, heads)),
    carry,
    drop: dropout ? (x, place, share) => dropout.apply(x, place, share) : dropNothing,
    shelf: openShelf(),
  };
}

/** @throws UserError when an id is none of the model's */
export function checkTokenIds(ids: ArrayLike<number>, { vocabSize }: ModelConfig): void {
  for (let i = 0; i < ids.length; i++) {
    if (!(Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < vocabSize)) {
      throw new UserError(
        `Token id ${ids[i]} at place ${i + 1} is outside the model's vocabulary, which has the ids 0 to ${vocabSize - 1}; use this model's own tokenizer.`,
      );
    }
  }
}

/**
 * The longest text whose positions do not stretch. A longer one stretches the positions of all that is computed with it (dynamic RoPE);
 * Infinity for other models.
 */
export function unstretchedLength({ positionLimit, maxPositionEmbeddings }: ModelConfig): number {
  return positionLimit === Infinity ? maxPositionEmbeddings : Infinity;
}

/** Whether positions stretch with the length of the text (dynamic RoPE). */
export const stretchesPositions = (config: ModelConfig): boolean => unstretchedLength(config) !== Infinity;

/** @throws UserError when a sequence is longer than the model can read */
export function checkLength(tokens: number, { positionLimit }: ModelConfig): void {
  if (tokens > positionLimit)
    throw new UserError(`A text of ${tokens} tokens is longer than the ${positionLimit} that the model can read; shorten it.`);
}
