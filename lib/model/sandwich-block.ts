/**
 * A layer as in Gemma 2: attention and a gated MLP, each of a normalized input, whose output is normalized once more before it is added to what it
 * read.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../engine';
import { GatedMlp } from './gated-mlp';
import type { ParameterList } from './layers';
import type { AttentionClass, AttentionOfFamily } from './pre-norm-block';
import type { RotaryAngles } from './rope';
import { type RotaryBlock, type RotaryConfig, type StateNorm, stateNorm } from './rotary-decoder';
import type { ForwardPass } from './types';

export interface SandwichConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
}

export class SandwichBlock<C extends SandwichConfig> implements RotaryBlock {
  private readonly inputNorm: StateNorm;
  private readonly attention: AttentionOfFamily;
  private readonly postAttentionNorm: StateNorm;
  private readonly preFeedforwardNorm: StateNorm;
  private readonly mlp: GatedMlp;
  private readonly postFeedforwardNorm: StateNorm;

  constructor(
    config: C,
    protected readonly layer: number,
    parameters: ParameterList,
    Attention: AttentionClass<C>,
  ) {
    const name = `model.layers.${layer}`;
    const norm = (which: string): StateNorm => stateNorm(config, parameters, `${name}.${which}`);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.inputNorm = norm('input_layernorm');
    this.postAttentionNorm = norm('post_attention_layernorm');
    this.preFeedforwardNorm = norm('pre_feedforward_layernorm');
    this.postFeedforwardNorm = norm('post_feedforward_layernorm');
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, shelf }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, attend, shelf);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.postAttentionNorm.apply(mixed));
    const computed = this.mlp.apply(this.preFeedforwardNorm.apply(attended));
    return tf.add(attended, this.postFeedforwardNorm.apply(computed));
  }
}
