/** The cache of a generation: what each layer has computed of the tokens so far and will read again. */
import * as tf from '@tensorflow/tfjs-core';
import {
  borrowData,
  cachedAttention,
  type LayerCache,
  onlyReads,
  openShelf,
  quantizedProduct,
  Repeated,
  recurrenceStates,
  recurrenceStep,
  rowsAt,
  varyingSizes,
} from '../engine';
import { carryAll, carryOnly, disposeBatch, dropNothing, makeBatch, packedPass, placeOf, stretchesPositions } from './batch';
import type { Linear, MatrixStack } from './layers';
import { logitsOf } from './logits';
import { sharedPrefixes } from './shared-prefixes';
import { convolveBy } from './short-convolution';
import type { Attend, Before, CausalLM, Convolve, Recur, TokenBatch } from './types';

/**
 * What a layer keeps: where it attends keys and values, [batch, heads, capacity, headDim] each, unless it reads an earlier layer's, and what later
 * tokens read of those before them, [batch, capacity, features]. All of it lies by the tokens' places in their sequences, so that what is forgotten is beyond a length.
 * A layer with a state keeps that, [batch, heads, keyDim, valueDim], and of its nearest tokens only those that the next one reads,
 * [batch, count, features], the last first: there nothing can be forgotten.
 */
interface KeptOfLayer extends Partial<LayerCache> {
  rows?: tf.Tensor3D;
  state?: tf.Tensor4D;
}

const PARTS = ['keys', 'values', 'rows', 'state'] as const satisfies ReadonlyArray<keyof KeptOfLayer>;

/** Its tensors, in the order of the parts. */
const tensorsIn = (cache: KeptOfLayer): tf.Tensor[] => PARTS.flatMap((part) => cache[part] ?? []);

/** Sequences being continued together, with the logits of their next tokens. The owner calls `dispose`. */
export class DecodingState {
  private readonly steps: { exact?: Repeated; quantized?: Repeated } = {};
  /** Of the model's linear layers, when the steps were made. */
  private adapters: ReadonlyArray<(Linear | MatrixStack)['adapter']> = [];

  private constructor(
    private readonly model: CausalLM,
    /** Tokens in each sequence's cache. */
    private readonly lengths: Int32Array,
    private readonly capacity: number,
    /** Of each layer. */
    private caches: readonly KeptOfLayer[],
    private logits: tf.Tensor2D,
  ) {}

  /**
   * Reads the prompts.
   * @param prompts token ids, at least one each
   * @param capacity tokens that each sequence may grow to
   */
  static prefill(model: CausalLM, prompts: ReadonlyArray<ArrayLike<number>>, capacity: number): DecodingState {
    const lengths = Int32Array.from(prompts, ({ length }) => length);
    const batch = makeBatch(prompts, model.config.keepsState ? [] : sharedPrefixes(prompts));
    varyingSizes({ tokens: batch.ids.size, batch: prompts.length, capacity });
    const caches = Array.from({ length: model.config.numHiddenLayers }, (): KeptOfLayer => ({}));
    try {
      const logits = tf.tidy(() => {
        const places = tf.tensor2d(cachePlaces(batch, lengths, capacity), [prompts.length, capacity], 'int32');
        const last = tf.tensor1d(
          lengths.map((length, sequence) => placeOf(batch, sequence, length - 1)),
          'int32',
        );
        const pass = packedPass(batch, carryOnly(last, model.config));
        const attend: Attend = (layer, q, k, v, options) => {
          const store = (x: tf.Tensor2D) => tf.keep(intoCache(x, places, options.kvHeads));
          if (options.keysOf === undefined) Object.assign(caches[layer], { keys: store(k), values: store(v) });
          return pass.attend(layer, q, k, v, options);
        };
        const convolve: Convolve = (layer, x, weights) => {
          const read = weights.shape[0] - 1;
          const rows = (): tf.Tensor3D =>
            model.config.keepsState ? lastRows(x, batch, lengths, read) : (tf.gather(x as tf.Tensor, places) as tf.Tensor3D);
          if (read > 0) caches[layer].rows = tf.keep(rows());
          return pass.convolve(layer, x, weights);
        };
        const recur: Recur = (layer, operands, heads) => {
          const { output, states } = recurrenceStates(operands, batch.segments, heads);
          caches[layer].state = tf.keep(states);
          return pass.carry(layer, output);
        };
        const hidden = model.forward({ ...pass, attend, convolve, recur });
        return logitsOf(model, hidden);
      });
      readWeights(model);
      return new DecodingState(model, lengths, capacity, caches, logits);
    } catch (error) {
      tf.dispose(caches.flatMap(tensorsIn));
      throw error;
    } finally {
      disposeBatch(batch);
    }
  }

  /**
   * Logits of what follows each token that the last call added (of what follows each prompt, at first): [tokens, vocabulary], row by
   * row; valid until the next call.
   */
  async nextLogits(): Promise<Float32Array> {
    return borrowData(this.logits);
  }

  /**
   * Adds tokens.
   * @param tokens those of each sequence; as many for each, and one where layers keep a state
   * @param weights with weights `quantized` to 8 bits the logits, and what the cache keeps of the tokens, are approximations
   */
  append(tokens: ReadonlyArray<readonly number[]>, weights: Weights = 'exact'): void {
    const { lengths, capacity } = this;
    const batch = tokens.length;
    const added = tokens[0].length;
    varyingSizes({ batch, capacity, ...(batch === 1 && { added }) });
    this.logits.dispose();
    const places = [...lengths].flatMap((length) => tokens[0].map((_, i) => length + i));
    const inputs = [tokens.flat(), places, [...lengths]].map((list) => tf.tensor1d(list, 'int32'));
    try {
      // Kept: a scope that somebody opens and closes around a token must not take them along.
      const outputs = this.stepTo(Math.max(...places) + 1, weights)
        .run(inputs, this.caches.flatMap(tensorsIn))
        .map(tf.keep);
      this.logits = outputs[0] as tf.Tensor2D;
      this.caches = this.byLayer(outputs.slice(1));
    } finally {
      tf.dispose(inputs);
    }
    for (let i = 0; i < batch; i++) lengths[i] += added;
  }

  /** The step that reads tokens up to a length. It is another where positions stretch with that (dynamic RoPE), or layers are adapted otherwise. */
  private stepTo(length: number, weights: Weights): Repeated {
    const { config, linears, stacks } = this.model;
    if (stretchesPositions(config)) return this.stepFor(length, weights);
    const adapters = [...linears.values(), ...stacks.values()].map(({ adapter }) => adapter);
    if (adapters.some((adapter, i) => adapter !== this.adapters[i])) this.steps.exact = this.steps.quantized = undefined;
    this.adapters = adapters;
    this.steps[weights] ??= this.stepFor(Math.min(this.capacity, config.positionLimit), weights);
    return this.steps[weights];
  }

  /** @param length no token is at this position or after it */
  private stepFor(length: number, weights: Weights): Repeated {
    const { model } = this;
    const step = ([ids, positions, lengths, ...cached]: tf.Tensor[]): tf.Tensor[] => {
      const caches = this.byLayer(cached);
      const attend: Attend = (layer, q, k, v, options) => {
        // a layer that reads those of another one finds the new tokens' there, and writes them once more
        const kept = caches[options.keysOf ?? layer];
        const { keys, values } = kept as Required<KeptOfLayer>;
        const { output, cache } = cachedAttention(q, k, v, { keys, values }, lengths as tf.Tensor1D, options, options.sinks);
        Object.assign(kept, cache);
        return output;
      };
      const before: Before = (layer, x, count) => {
        const { rows: kept } = caches[layer] as Required<KeptOfLayer>;
        const { rows, cache } = model.config.keepsState ? nearestBefore(x, kept) : cachedBefore(x, kept, positions as tf.Tensor1D, count);
        caches[layer].rows = cache;
        return rows;
      };
      const recur: Recur = (layer, operands, heads) => {
        const { output, state } = recurrenceStep(operands, caches[layer].state as tf.Tensor4D, heads);
        caches[layer].state = state;
        return output;
      };
      const pass = (): tf.Tensor2D => {
        const tokens = { ids: ids as tf.Tensor1D, positions: positions as tf.Tensor1D, length };
        const convolve = convolveBy(before);
        const hidden = model.forward({ ...tokens, attend, convolve, recur, carry: carryAll, drop: dropNothing, shelf: openShelf() });
        return logitsOf(model, hidden, weights === 'exact' ? undefined : quantizedProduct);
      };
      const logits = weights === 'exact' ? pass() : withQuantizedWeights(model, pass);
      readWeights(model);
      return [logits, ...caches.flatMap(tensorsIn)];
    };
    return new Repeated(step, 1);
  }

  /** A list of the tensors of all caches, layer by layer. */
  private byLayer(tensors: readonly tf.Tensor[]): KeptOfLayer[] {
    const left = [...tensors];
    const next = (cache: KeptOfLayer) => PARTS.filter((part) => cache[part]).map((part) => [part, left.shift()] as const);
    return this.caches.map((cache): KeptOfLayer => Object.fromEntries(next(cache)));
  }

  /** Takes back the last tokens of each sequence; not where layers keep a state. */
  forget(tokens: number): void {
    for (let i = 0; i < this.lengths.length; i++) this.lengths[i] -= tokens;
  }

  dispose(): void {
    this.logits.dispose();
    tf.dispose(this.caches.flatMap(tensorsIn));
  }
}

/** Which weights of linear layers and of the output head a step reads. */
export type Weights = 'exact' | 'quantized';

function withQuantizedWeights<T>({ linears }: CausalLM, compute: () => T): T {
  for (const linear of linears.values()) linear.approximation = quantizedProduct;
  try {
    return compute();
  } finally {
    for (const linear of linears.values()) linear.approximation = undefined;
  }
}

/** Says that generation changes no weights. */
function readWeights({ linears, outputHead }: CausalLM): void {
  onlyReads([...[...linears.values()].flatMap(({ weight }) => (weight.compact ? [] : [weight.value])), outputHead]);
}

/** Lays a packed row out as a cache: [tokens, heads·headDim] to [batch, heads, capacity, headDim]. */
function intoCache(x: tf.Tensor2D, places: tf.Tensor2D, heads: number): tf.Tensor4D {
  const [batch, capacity] = places.shape;
  return tf.transpose(tf.reshape(tf.gather(x, places), [batch, capacity, heads, x.shape[1] / heads]), [0, 2, 1, 3]);
}

/**
 * What the tokens right before the new ones have.
 * @param x [batch·tokens, features], the new tokens of the first sequence first; as many for each
 * @param cache [batch, capacity, features]
 * @param positions int32 [batch·tokens]: where in its sequence each new token is
 * @returns as `Before`, and the cache with the new tokens in it
 */
function cachedBefore(
  x: tf.Tensor2D,
  cache: tf.Tensor3D,
  positions: tf.Tensor1D,
  count: number,
): { rows: tf.Tensor2D[]; cache: tf.Tensor3D } {
  const tokens = positions.size / cache.shape[0];
  const sequences = tf.tensor1d(
    Int32Array.from({ length: positions.size }, (_, i) => Math.floor(i / tokens)),
    'int32',
  );
  const at = (places: tf.Tensor1D): tf.Tensor2D => tf.stack([sequences, places], 1) as tf.Tensor2D;
  const filled = tf.tensorScatterUpdate(cache, at(positions), x) as tf.Tensor3D;
  const rows = Array.from({ length: count }, (_, i) => {
    const places = tf.sub(positions, tf.scalar(i + 1, 'int32')) as tf.Tensor1D;
    const exists = tf.cast(tf.greaterEqual(places, tf.scalar(0, 'int32')), 'float32');
    const found = tf.gatherND(filled, at(tf.maximum(places, tf.scalar(0, 'int32')))) as tf.Tensor2D;
    return tf.mul(found, tf.expandDims(exists, 1)) as tf.Tensor2D;
  });
  return { rows, cache: filled };
}

/** The last rows of each sequence, the last first, zeros where it has fewer: [batch, count, features]. */
function lastRows(x: tf.Tensor2D, batch: TokenBatch, lengths: Int32Array, count: number): tf.Tensor3D {
  const placesOf = (by: number): Int32Array =>
    lengths.map((length, sequence) => (by < length ? placeOf(batch, sequence, length - 1 - by) : -1));
  const rows = Array.from({ length: count }, (_, by) => rowsAt(x, tf.tensor1d(placesOf(by), 'int32')));
  return tf.stack(rows, 1) as tf.Tensor3D;
}

/** What the tokens right before a new one of each sequence have. @param x [batch, features] @param cache as `lastRows` */
function nearestBefore(x: tf.Tensor2D, cache: tf.Tensor3D): { rows: tf.Tensor2D[]; cache: tf.Tensor3D } {
  const rows = tf.unstack(cache, 1) as tf.Tensor2D[];
  return { rows, cache: tf.stack([x, ...rows.slice(0, -1)], 1) as tf.Tensor3D };
}

/** For each place of each cache the packed token that goes there; places beyond a prompt repeat a token, unseen and later overwritten. */
function cachePlaces(batch: TokenBatch, lengths: Int32Array, capacity: number): Int32Array {
  const places = new Int32Array(lengths.length * capacity);
  for (const [sequence, length] of lengths.entries()) {
    for (let i = 0; i < capacity; i++) places[sequence * capacity + i] = placeOf(batch, sequence, Math.min(i, length - 1));
  }
  return places;
}
