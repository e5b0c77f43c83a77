/** The gradients of one optimizer step, summed over its rows. */
import * as tf from '@tensorflow/tfjs-core';
import { ownedZeros, setToZero, sumOfSquares } from '../engine';

/**
 * Sums of gradients by parameter name. Their memory lasts for the whole run: adding to a sum is then the same operation
 * in the first row of a step as in all others, and one compiled graph serves them all.
 */
export class GradientSums {
  private readonly sums = new Map<string, tf.Variable>();
  /** Parameters that got a gradient in this step; the others are left alone, as in PyTorch. */
  private readonly present = new Set<string>();

  /** Adds a gradient, and disposes it. */
  add(name: string, gradient: tf.Tensor): void {
    const sum = this.sums.get(name) ?? this.zeros(name, gradient.shape);
    const total = tf.add(sum, gradient);
    sum.assign(total);
    tf.dispose([total, gradient]);
    this.present.add(name);
  }

  /** The sums of this step, by parameter name and in its order: the rounding of their norm must not depend on which came first. */
  *entries(): Iterable<[string, tf.Variable]> {
    for (const name of [...this.present].sort()) yield [name, this.sums.get(name) as tf.Variable];
  }

  /** Global norm: the square root of the sum of all squares of all gradients. */
  async norm(): Promise<number> {
    const squares = tf.tidy(() => tf.addN([...this.entries()].map(([, sum]) => sumOfSquares(sum))));
    try {
      const [total] = await squares.data();
      return Math.sqrt(total);
    } finally {
      squares.dispose();
    }
  }

  /** Says that an update has used the sums up, which leaves them zero. */
  wereUsed(): void {
    this.present.clear();
  }

  /** Makes ready for the next step. */
  reset(): void {
    setToZero([...this.present].map((name) => this.sums.get(name) as tf.Variable));
    this.present.clear();
  }

  dispose(): void {
    tf.dispose([...this.sums.values()]);
    this.sums.clear();
    this.present.clear();
  }

  private zeros(name: string, shape: number[]): tf.Variable {
    const sum = ownedZeros(shape);
    this.sums.set(name, sum);
    return sum;
  }
}
