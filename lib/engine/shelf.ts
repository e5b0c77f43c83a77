/** Where parts of a computation leave tensors for later parts, beside what they return to the next one. */
import * as tf from '@tensorflow/tfjs-core';

export interface Shelf {
  put(name: string, x: tf.Tensor2D): void;
  /** What an earlier part has left. */
  get(name: string): tf.Tensor2D;
}

/** Of a computation that is differentiated as a whole, or not at all. */
export function openShelf(): Shelf {
  const tensors = new Map<string, tf.Tensor2D>();
  return { put: (name, x) => tensors.set(name, x), get: (name) => found(name, tensors.get(name)) };
}

/**
 * Of a chain whose links are computed and differentiated one by one (gradient-checkpointing.ts): what a link leaves is kept until its own gradients
 * are due, by when those that later links have of it are summed up.
 */
export class KeptShelf implements Shelf {
  private readonly kept = new Map<string, tf.Tensor2D>();
  private readonly gradients = new Map<string, tf.Tensor>();
  /** What the part at hand has left. */
  private fresh = new Map<string, tf.Tensor2D>();

  put(name: string, x: tf.Tensor2D): void {
    this.fresh.set(name, x);
  }

  get(name: string): tf.Tensor2D {
    return found(name, this.fresh.get(name) ?? this.kept.get(name));
  }

  /** What lies on it, by name. */
  entries(): Array<[name: string, tensor: tf.Tensor2D]> {
    return [...this.kept];
  }

  /** Computes a part, and keeps what it leaves. */
  compute<T extends tf.Tensor>(part: () => T): T {
    this.fresh = new Map();
    const { y } = tf.tidy(() => ({ y: part(), left: Object.fromEntries(this.fresh) }));
    for (const [name, x] of this.fresh) this.kept.set(name, x);
    return y;
  }

  /** Computes a part once more: what flows back to its result flows, with the gradients of what it left, on into it. */
  again(part: () => tf.Tensor): tf.Tensor {
    this.fresh = new Map();
    const y = part();
    const read = [...this.fresh].flatMap(([name, x]) => {
      const gradient = this.gradients.get(name);
      return gradient ? [{ x, gradient }] : [];
    });
    if (read.length === 0) return y;
    const joined = tf.customGrad((...inputs) => ({
      value: tf.clone(inputs[0] as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => [dy, ...read.map(({ gradient }) => gradient)].map((gradient) => tf.clone(gradient)),
    }));
    return joined(y, ...read.map(({ x }) => x));
  }

  /**
   * Adds the gradients of what the part that was computed once more had read, and lets go of what it had left.
   * @param found by name; those that it has not read have none
   */
  settle(found: ReadonlyArray<readonly [name: string, gradient: tf.Tensor | undefined]>): void {
    for (const name of this.fresh.keys()) {
      tf.dispose([this.kept.get(name), this.gradients.get(name)].filter((tensor) => tensor !== undefined));
      this.kept.delete(name);
      this.gradients.delete(name);
    }
    for (const [name, gradient] of found) if (gradient) this.add(name, gradient);
  }

  private add(name: string, gradient: tf.Tensor): void {
    const before = this.gradients.get(name);
    this.gradients.set(name, before ? tf.add(before, gradient) : gradient);
    if (before) tf.dispose([before, gradient]);
  }
}

function found(name: string, tensor: tf.Tensor2D | undefined): tf.Tensor2D {
  if (!tensor) throw new Error(`No earlier part has left the ${name}.`);
  return tensor;
}
