/** A layer as in GPT-J: attention and MLP read the same normalized states side by side, and are added to what those were made of. */
import * as tf from '@tensorflow/tfjs-core';
import type { LayerNorm } from './layers';
import type { Mlp } from './mlp';
import type { AttentionOfFamily } from './pre-norm-block';
import type { RotaryAngles } from './rope';
import type { RotaryBlock } from './rotary-decoder';
import type { ForwardPass, ModelConfig } from './types';

export interface ParallelParts {
  attention: AttentionOfFamily;
  mlp: Mlp;
  norm: LayerNorm;
}

export class ParallelBlock implements RotaryBlock {
  /** @param parts declared in the order of transformers' class, in which adapters draw what they begin with */
  constructor(
    private readonly config: ModelConfig,
    private readonly layer: number,
    private readonly parts: ParallelParts,
  ) {}

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop, shelf }: ForwardPass): tf.Tensor2D {
    const { attention, mlp, norm } = this.parts;
    const { hiddenDropout } = this.config;
    const normalized = norm.apply(x);
    const mixed = drop(attention.apply(normalized, angles, attend, shelf), 2 * this.layer + 1, hiddenDropout);
    const transformed = drop(mlp.apply(carry(this.layer, normalized)), 2 * this.layer + 2, hiddenDropout);
    return tf.add(tf.add(mixed, transformed), carry(this.layer, x));
  }
}
