/** The key/value cache of a generation: what each layer has computed of the tokens so far. */
import * as tf from '@tensorflow/tfjs-core';
import { borrowData, cachedAttention, onlyReads, quantizedProduct, Repeated, varyingSizes } from '../engine';
import { carryAll, carryOnly, disposeBatch, dropNothing, makeBatch, packedPass, placeOf } from './batch';
import type { Linear } from './layers';
import { sharedPrefixes } from './shared-prefixes';
import type { Attend, CausalLM, TokenBatch } from './types';

/** Sequences being continued together, with the logits of their next tokens. The owner calls `dispose`. */
export class DecodingState {
  private readonly steps: { exact?: Repeated; quantized?: Repeated } = {};
  /** Of the model's linear layers, when the steps were made. */
  private adapters: ReadonlyArray<Linear['adapter']> = [];

  private constructor(
    private readonly model: CausalLM,
    /** Tokens in each sequence's cache. */
    private readonly lengths: Int32Array,
    private readonly capacity: number,
    /** Keys and values of each layer in turn. */
    private caches: readonly tf.Tensor4D[],
    private logits: tf.Tensor2D,
  ) {}

  /**
   * Reads the prompts.
   * @param prompts token ids, at least one each
   * @param capacity tokens that each sequence may grow to
   */
  static prefill(model: CausalLM, prompts: ReadonlyArray<ArrayLike<number>>, capacity: number): DecodingState {
    const lengths = Int32Array.from(prompts, ({ length }) => length);
    const batch = makeBatch(prompts, sharedPrefixes(prompts));
    varyingSizes({ tokens: batch.ids.size, batch: prompts.length, capacity });
    const caches: tf.Tensor4D[] = [];
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
          [caches[2 * layer], caches[2 * layer + 1]] = [store(k), store(v)];
          return pass.attend(layer, q, k, v, options);
        };
        return tf.matMul(model.forward({ ...pass, attend }), model.outputHead, false, true) as tf.Tensor2D;
      });
      readWeights(model);
      return new DecodingState(model, lengths, capacity, caches, logits);
    } catch (error) {
      tf.dispose(caches);
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
   * @param tokens those of each sequence; as many for each
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
        .run(inputs, this.caches)
        .map(tf.keep);
      [this.logits, ...this.caches] = outputs as [tf.Tensor2D, ...tf.Tensor4D[]];
    } finally {
      tf.dispose(inputs);
    }
    for (let i = 0; i < batch; i++) lengths[i] += added;
  }

  /** The step that reads tokens up to a length. It is another where positions stretch with that (dynamic RoPE), or layers are adapted otherwise. */
  private stepTo(length: number, weights: Weights): Repeated {
    const { config, linears } = this.model;
    if (config.positionLimit === Infinity) return this.stepFor(length, weights);
    const adapters = [...linears.values()].map(({ adapter }) => adapter);
    if (adapters.some((adapter, i) => adapter !== this.adapters[i])) this.steps.exact = this.steps.quantized = undefined;
    this.adapters = adapters;
    this.steps[weights] ??= this.stepFor(Math.min(this.capacity, config.positionLimit), weights);
    return this.steps[weights];
  }

  /** @param length no token is at this position or after it */
  private stepFor(length: number, weights: Weights): Repeated {
    const { model } = this;
    const step = ([ids, positions, lengths, ...cached]: tf.Tensor[]): tf.Tensor[] => {
      const caches: tf.Tensor4D[] = [];
      const attend: Attend = (layer, q, k, v, options) => {
        const [keys, values] = cached.slice(2 * layer, 2 * layer + 2) as tf.Tensor4D[];
        const { output, cache } = cachedAttention(q, k, v, { keys, values }, lengths as tf.Tensor1D, options);
        [caches[2 * layer], caches[2 * layer + 1]] = [cache.keys, cache.values];
        return output;
      };
      const pass = (): tf.Tensor2D => {
        const tokens = { ids: ids as tf.Tensor1D, positions: positions as tf.Tensor1D, length };
        const hidden = model.forward({ ...tokens, attend, carry: carryAll, drop: dropNothing });
        return weights === 'exact'
          ? (tf.matMul(hidden, model.outputHead, false, true) as tf.Tensor2D)
          : quantizedProduct(hidden, model.outputHead);
      };
      const logits = weights === 'exact' ? pass() : withQuantizedWeights(model, pass);
      readWeights(model);
      return [logits, ...caches];
    };
    return new Repeated(step, 1);
  }

  /** Takes back the last tokens of each sequence. */
  forget(tokens: number): void {
    for (let i = 0; i < this.lengths.length; i++) this.lengths[i] -= tokens;
  }

  dispose(): void {
    this.logits.dispose();
    tf.dispose([...this.caches]);
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
  onlyReads([...[...linears.values()].flatMap(({ weight }) => (weight.inFourBits ? [] : [weight.value])), outputHead]);
}

/** Lays a packed row out as a cache: [tokens, heads·headDim] to [batch, heads, capacity, headDim]. */
function intoCache(x: tf.Tensor2D, places: tf.Tensor2D, heads: number): tf.Tensor4D {
  const [batch, capacity] = places.shape;
  return tf.transpose(tf.reshape(tf.gather(x, places), [batch, capacity, heads, x.shape[1] / heads]), [0, 2, 1, 3]);
}

/** For each place of each cache the packed token that goes there; places beyond a prompt repeat a token, unseen and later overwritten. */
function cachePlaces(batch: TokenBatch, lengths: Int32Array, capacity: number): Int32Array {
  const places = new Int32Array(lengths.length * capacity);
  for (const [sequence, length] of lengths.entries()) {
    for (let i = 0; i < capacity; i++) places[sequence * capacity + i] = placeOf(batch, sequence, Math.min(i, length - 1));
  }
  return places;
}
