/** A layer as in GPT-J (Wang & Komatsuzaki 2021): attention and MLP read the same normalized input, and both are added to what the layer read. */
import * as tf from '@tensorflow/tfjs-core';
import type { LayerNormConfig } from './layer-norm-decoder';
import type { LayerNorm } from './layers';
import type { RotaryAngles } from './rope';
import type { RotaryBlock } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

/** What the layer is made of, declared in the order of transformers' class. */
export interface ParallelParts {
  norm: LayerNorm;
  attention: { apply(x: tf.Tensor2D, angles: RotaryAngles, attend: Attend): tf.Tensor2D };
  mlp: { apply(x: tf.Tensor2D): tf.Tensor2D };
}

export class ParallelBlock implements RotaryBlock {
  constructor(
    private readonly config: LayerNormConfig,
    private readonly layer: number,
    private readonly parts: ParallelParts,
  ) {}

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { norm, attention, mlp } = this.parts;
    const { hiddenDropout } = this.config;
    const normalized = norm.apply(x);
    const mixed = drop(attention.apply(normalized, angles, attend), 2 * this.layer + 1, hiddenDropout);
    const transformed = drop(mlp.apply(carry(this.layer, normalized)), 2 * this.layer + 2, hiddenDropout);
    return tf.add(tf.add(mixed, transformed), carry(this.layer, x));
  }
}
