/**
 * Dropout (Srivastava et al. 2014): numbers are set to zero by chance, and the others scaled up, so that their mean stays.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Random } from '../random';
import { ortBackend } from './device';
import { ownedTensor } from './in-place';
import { linear } from './ops';

/** Where numbers are dropped. */
export interface DropoutPlaces {
  /** So many, counted from 0. */
  places: number;
  /** Rows that x has at most in each of them. */
  tokens: number;
  /** Columns that it has at most. */
  features: number;
}

/**
 * The chance for many places of one computation, drawn at once as a list of factors, 0 or 1/(1 − share). Each place reads as many of them
 * as it needs, from another one on. So a place that is computed again, for a gradient, drops the same numbers.
 */
export class Dropout {
  private readonly factors: Float32Array;
  private readonly columns: number;
  /** The list as one tensor, where its parts are not in main memory. */
  private list?: tf.Tensor1D;
  private readonly windows = new Map<string, tf.Tensor2D>();

  /** @param share the probability with which a number is dropped */
  constructor({ places, tokens, features }: DropoutPlaces, share: number, random: Random) {
    const kept = share < 1 ? 1 / (1 - share) : 0;
    this.columns = features;
    this.factors = new Float32Array((tokens + places - 1) * features);
    for (let i = 0; i < this.factors.length; i++) this.factors[i] = random.next() < share ? 0 : kept;
  }

  /**
   * What is left of x. Differentiable.
   * @param x [tokens, features]
   */
  apply(x: tf.Tensor2D, place: number): tf.Tensor2D {
    const backend = ortBackend();
    if (backend?.worksOnHost) return masked(x, this.windowOf(x.shape, place), 0);
    this.list ??= tf.keep(this.wholeList());
    const first = place * this.columns;
    return backend ? masked(x, this.list, first) : tf.mul(x, tf.reshape(tf.slice(this.list, first, x.size), x.shape));
  }

  /**
   * (What is left of x) Wᵀ. It is found a second time for the gradient, not kept: beside a thin weight it would be most of the memory.
   * @param x [tokens, in]
   * @param weight [out, in]
   * @returns [tokens, out]
   */
  linear(x: tf.Tensor2D, weight: tf.Tensor2D, place: number): tf.Tensor2D {
    const product = tf.customGrad((...given) => {
      const [inputs, matrix, save] = given as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
      save([inputs, matrix]);
      return {
        value: linear(this.apply(inputs, place), matrix),
        gradFunc: (dy: tf.Tensor2D, saved: tf.Tensor[]) => [
          this.apply(tf.matMul(dy, saved[1] as tf.Tensor2D), place),
          tf.matMul(dy, this.apply(saved[0] as tf.Tensor2D, place), true, false),
        ],
      };
    });
    return product(x, weight);
  }

  dispose(): void {
    tf.dispose([...this.windows.values(), ...(this.list ? [this.list] : [])]);
    this.windows.clear();
    this.list = undefined;
  }

  /** A part of the list in its memory, which is only read. Layers that differ by nothing else share a compiled graph so. */
  private windowOf([tokens, features]: [number, number], place: number): tf.Tensor2D {
    const key = `${place}: ${tokens}, ${features}`;
    const found = this.windows.get(key);
    if (found) return found;
    const first = place * this.columns;
    const window = ownedTensor<tf.Rank.R2>(this.factors.subarray(first, first + tokens * features), [tokens, features]);
    this.windows.set(key, tf.keep(window));
    return window;
  }

  private wholeList(): tf.Tensor1D {
    const list = tf.tensor1d(this.factors);
    ortBackend()?.markVarying(list.dataId);
    return list;
  }
}

function masked(x: tf.Tensor2D, factors: tf.Tensor, first: number): tf.Tensor2D {
  return tf.engine().runKernel('Dropout', { x, factors }, { first }) as tf.Tensor2D;
}
