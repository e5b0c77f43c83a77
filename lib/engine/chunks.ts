/** The segments of a row cut into chunks of one length, as recurrences go through them. */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import { embedding } from './ops';
import type { Segment } from './segments';

/**
 * Tokens in a chunk. Inside of one all tokens look at each other at once, from one to the next goes a state: longer chunks compute more of the
 * one, shorter ones more of the other.
 */
export const CHUNK = 64;

/** Segment after segment, each from a chunk of its own on; its last chunk is filled up. The owner calls `dispose`. */
export class Chunks {
  /** The token of the row at each place of each chunk, −1 for what fills up: int32 [chunks · CHUNK]. */
  readonly places: tf.Tensor1D;
  /** Where among them each token is: int32 [tokens]. */
  readonly slots: tf.Tensor1D;
  /** 0 for the first chunk of a segment, 1 for the others: float32 [chunks]. */
  readonly goesOn: tf.Tensor1D;
  /** The last chunk of each segment: int32 [segments]. */
  readonly last: tf.Tensor1D;

  /**
   * @param taken sizes that the number of chunks, and that of places, had better not be, as one graph is to serve rows of all lengths
   * @throws if a segment begins in another one
   */
  constructor(segments: readonly Segment[], taken: ReadonlySet<number> = new Set()) {
    const places: number[] = [];
    const slots: number[] = [];
    const goesOn: number[] = [];
    const last: number[] = [];
    for (const { start, length, prefix } of segments) {
      if (prefix.tokens > 0) throw new Error('A recurrence begins with its segment, which here begins in another one.');
      for (let token = 0; token < CHUNK * Math.ceil(length / CHUNK); token++) {
        if (token % CHUNK === 0) goesOn.push(token === 0 ? 0 : 1);
        if (token < length) slots[start + token] = places.length;
        places.push(token < length ? start + token : -1);
      }
      last.push(goesOn.length - 1);
    }
    while (taken.has(goesOn.length) || taken.has(places.length)) {
      goesOn.push(0);
      places.push(...new Array<number>(CHUNK).fill(-1));
    }
    ortBackend()?.setVaryingSizes({ chunks: goesOn.length, places: places.length }, true);
    this.places = kept(Int32Array.from(places));
    this.slots = kept(Int32Array.from(slots));
    this.goesOn = kept(Float32Array.from(goesOn));
    this.last = kept(Int32Array.from(last));
  }

  dispose(): void {
    const { places, slots, goesOn, last } = this;
    tf.dispose([places, slots, goesOn, last]);
  }
}

const kept = (list: Int32Array | Float32Array): tf.Tensor1D => tf.keep(tf.tensor1d(list));

/** The rows of x, [tokens, features], chunk after chunk: [chunks · CHUNK, features], zeros where a chunk is filled up. */
export function toChunks(x: tf.Tensor2D, { places, slots }: Chunks): tf.Tensor2D {
  return rearranged(x, places, slots);
}

/** The reverse of it. */
export function fromChunks(x: tf.Tensor2D, { places, slots }: Chunks): tf.Tensor2D {
  return rearranged(x, slots, places);
}

/** Rows at some places, each at most once. @param back where each row of x went, which makes the gradient as easy */
function rearranged(x: tf.Tensor2D, places: tf.Tensor1D, back: tf.Tensor1D): tf.Tensor2D {
  const rows = tf.customGrad((given, save) => {
    (save as tf.GradSaveFunc)([back]);
    return {
      value: rowsAt(given as tf.Tensor2D, places),
      gradFunc: (dy: tf.Tensor2D, [back]: tf.Tensor[]) => rowsAt(dy, back as tf.Tensor1D),
    };
  });
  return rows(x) as tf.Tensor2D;
}

/** The rows at some places, zeros where a place is below zero. Differentiable: what is read several times gets the sum. */
export function rowsAt(x: tf.Tensor2D, places: tf.Tensor1D): tf.Tensor2D {
  const zero = tf.scalar(0, 'int32');
  const exists = tf.expandDims(tf.cast(tf.greaterEqual(places, zero), 'float32'), 1);
  return tf.mul(embedding(x, tf.maximum(places, zero)), exists);
}
