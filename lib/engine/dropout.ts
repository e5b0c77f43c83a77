/**
 * Dropout (Srivastava et al. 2014): numbers are set to zero by chance, and the others scaled up, so that their mean stays.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import { linear } from './ops';

/** Drops numbers at the places of one computation. `share` is the probability with which one is dropped. */
export interface Dropping {
  /**
   * What is left of x. Differentiable.
   * @param x [tokens, features]
   */
  apply(x: tf.Tensor2D, place: number, share: number): tf.Tensor2D;
  /**
   * (What is left of x) Wᵀ.
   * @param x [tokens, in]
   * @param weight [out, in]
   * @returns [tokens, out]
   */
  linear(x: tf.Tensor2D, weight: tf.Tensor2D, place: number, share: number): tf.Tensor2D;
}

/** Drops weights of the attentions of one computation. */
export interface DroppingWeights {
  /** What to leave of the weights at a place; undefined: all of them. */
  weightsAt(place: number, share: number): KeptWeights | undefined;
}

/** Which weights of an attention are kept. */
export interface KeptWeights {
  /**
   * int32 [tokens · heads · bytes], with `bytesOfWeights` of the longest segment: of each query, head by head, a bit for each token of its segment,
   * from the first on.
   */
  kept: tf.Tensor1D;
  /** What those that are kept are multiplied by. */
  factor: number;
}

/** Bytes for the bits of a query: one for each token of the longest segment, and for one that fills up an odd number. @param longest tokens */
export const bytesOfWeights = (longest: number): number => Math.floor(longest / 8) + 1;

/** What is dropped at many places. A place that is computed again, for a gradient, drops the same numbers. */
export class Dropout implements Dropping, DroppingWeights {
  private readonly lists = new Map<number, tf.Tensor1D>();

  /** @param kept by place which numbers are kept, in their order, as bits (`TorchRandom.bernoulli`); let go of when it is disposed */
  constructor(private readonly kept: Map<number, Uint8Array>) {}

  apply(x: tf.Tensor2D, place: number, share: number): tf.Tensor2D {
    return this.drop(x, { place, share, way: 'forward' });
  }

  /** @param way which of the two ways through the model it is: on each the bits are taken apart anew */
  private drop(x: tf.Tensor2D, { place, share, way }: { place: number; share: number; way: 'forward' | 'back' }): tf.Tensor2D {
    if (share === 0) return x;
    const [kept, factor] = [this.listOf(place), factorOf(share)];
    if (ortBackend()) return tf.engine().runKernel('Dropout', { x, kept }, { factor, way }) as tf.Tensor2D;
    return tf.tidy(() => tf.mul(x, tf.reshape(tf.slice(factorsOf(kept, factor), 0, x.size), x.shape)));
  }

  /** What is left of x is found a second time for the gradient, not kept: beside a thin weight it would be most of the memory. */
  linear(x: tf.Tensor2D, weight: tf.Tensor2D, place: number, share: number): tf.Tensor2D {
    const back = { place, share, way: 'back' } as const;
    const product = tf.customGrad((...given) => {
      const [inputs, matrix, save] = given as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
      save([inputs, matrix]);
      return {
        value: linear(this.apply(inputs, place, share), matrix),
        gradFunc: (dy: tf.Tensor2D, saved: tf.Tensor[]) => [
          this.drop(tf.matMul(dy, saved[1] as tf.Tensor2D), back),
          tf.matMul(dy, this.drop(saved[0] as tf.Tensor2D, back), true, false),
        ],
      };
    });
    return product(x, weight);
  }

  dispose(): void {
    tf.dispose([...this.lists.values()]);
    this.lists.clear();
    this.kept.clear();
  }

  weightsAt(place: number, share: number): KeptWeights | undefined {
    return share === 0 ? undefined : { kept: this.listOf(place), factor: factorOf(share) };
  }

  private listOf(place: number): tf.Tensor1D {
    const found = this.lists.get(place);
    if (found) return found;
    const bits = this.kept.get(place);
    if (!bits) throw new Error(`Nothing was drawn for place ${place}.`);
    const list = tf.keep(tf.tensor1d(new Int32Array(bits), 'int32'));
    // which numbers they are follows from the matrix that is read with them
    ortBackend()?.markVarying(list.dataId);
    this.lists.set(place, list);
    return list;
  }
}

/** What is kept where a share is dropped is multiplied by it. As torch rounds it. */
const factorOf = (share: number): number => (share < 1 ? Math.fround(1 / Math.fround(1 - share)) : 0);

/** 0 or the factor for each bit of the bytes, [8 · bytes], by plain operations. */
export function factorsOf(kept: tf.Tensor1D, factor: number): tf.Tensor1D {
  return tf.tidy(() => {
    const values = tf.tensor1d(
      Array.from({ length: 8 }, (_, bit) => 2 ** bit),
      'int32',
    );
    const bits = tf.mod(tf.floorDiv(tf.expandDims(kept, 1), values), tf.scalar(2, 'int32'));
    return tf.reshape(tf.mul(tf.cast(bits, 'float32'), factor), [-1]);
  });
}
