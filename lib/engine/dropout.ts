/**
 * Dropout (Srivastava et al. 2014): numbers are set to zero by chance, and the others scaled up, so that their mean stays.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ortBackend } from './device';
import { linear } from './ops';

/** Drops numbers at the places of one computation. */
export interface Dropping {
  /**
   * What is left of x. Differentiable.
   * @param x [tokens, features]
   */
  apply(x: tf.Tensor2D, place: number): tf.Tensor2D;
  /**
   * (What is left of x) Wᵀ.
   * @param x [tokens, in]
   * @param weight [out, in]
   * @returns [tokens, out]
   */
  linear(x: tf.Tensor2D, weight: tf.Tensor2D, place: number): tf.Tensor2D;
}

/** What is dropped at many places. A place that is computed again, for a gradient, drops the same numbers. */
export class Dropout implements Dropping {
  private readonly factor: number;
  private readonly lists = new Map<number, tf.Tensor1D>();

  /**
   * @param kept by place which numbers of the matrix are kept, row by row, as bits (`TorchRandom.bernoulli`); let go of when it is disposed
   * @param share the probability with which a number was dropped
   */
  constructor(
    private readonly kept: Map<number, Uint8Array>,
    share: number,
  ) {
    // as torch rounds it
    this.factor = share < 1 ? Math.fround(1 / Math.fround(1 - share)) : 0;
  }

  apply(x: tf.Tensor2D, place: number): tf.Tensor2D {
    return this.drop(x, place, 'forward');
  }

  /** @param way which of the two ways through the model it is: on each the bits are taken apart anew */
  private drop(x: tf.Tensor2D, place: number, way: 'forward' | 'back'): tf.Tensor2D {
    const kept = this.listOf(place);
    if (ortBackend()) return tf.engine().runKernel('Dropout', { x, kept }, { factor: this.factor, way }) as tf.Tensor2D;
    return tf.mul(x, this.factorsOf(kept, x));
  }

  /** What is left of x is found a second time for the gradient, not kept: beside a thin weight it would be most of the memory. */
  linear(x: tf.Tensor2D, weight: tf.Tensor2D, place: number): tf.Tensor2D {
    const product = tf.customGrad((...given) => {
      const [inputs, matrix, save] = given as unknown as [tf.Tensor2D, tf.Tensor2D, tf.GradSaveFunc];
      save([inputs, matrix]);
      return {
        value: linear(this.apply(inputs, place), matrix),
        gradFunc: (dy: tf.Tensor2D, saved: tf.Tensor[]) => [
          this.drop(tf.matMul(dy, saved[1] as tf.Tensor2D), place, 'back'),
          tf.matMul(dy, this.drop(saved[0] as tf.Tensor2D, place, 'back'), true, false),
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

  private listOf(place: number): tf.Tensor1D {
    const found = this.lists.get(place);
    if (found) return found;
    const kept = this.kept.get(place);
    if (!kept) throw new Error(`Nothing was drawn for place ${place}.`);
    const list = tf.keep(tf.tensor1d(new Int32Array(kept), 'int32'));
    // which numbers they are follows from the matrix that is read with them
    ortBackend()?.markVarying(list.dataId);
    this.lists.set(place, list);
    return list;
  }

  /** 0 or the factor for each number of x, by plain operations. */
  private factorsOf(kept: tf.Tensor1D, { shape, size }: tf.Tensor2D): tf.Tensor2D {
    return tf.tidy(() => {
      const values = tf.tensor1d(
        Array.from({ length: 8 }, (_, bit) => 2 ** bit),
        'int32',
      );
      const bits = tf.mod(tf.floorDiv(tf.expandDims(kept, 1), values), tf.scalar(2, 'int32'));
      return tf.reshape(tf.slice(tf.reshape(tf.mul(tf.cast(bits, 'float32'), this.factor), [-1]), 0, size), shape);
    });
  }
}
