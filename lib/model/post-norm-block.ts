/** A layer as in OLMo 2: attention and a gated MLP, whose output is normalized before it is added, while nothing is before it is read. */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../engine';
import { GatedMlp } from './gated-mlp';
import type { ParameterList } from './layers';
import type { AttentionClass, AttentionOfFamily } from './pre-norm-block';
import type { RotaryAngles } from './rope';
import { type RotaryBlock, type RotaryConfig, type StateNorm, stateNorm } from './rotary-decoder';
import type { ForwardPass } from './types';

interface PostNormConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
}

export class PostNormBlock<C extends PostNormConfig> implements RotaryBlock {
  private readonly attention: AttentionOfFamily;
  private readonly postAttentionNorm: StateNorm;
  private readonly mlp: GatedMlp;
  private readonly postFeedforwardNorm: StateNorm;

  constructor(
    config: C,
    private readonly layer: number,
    parameters: ParameterList,
    Attention: AttentionClass<C>,
  ) {
    const name = `model.layers.${layer}`;
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.postAttentionNorm = stateNorm(config, parameters, `${name}.post_attention_layernorm`);
    this.postFeedforwardNorm = stateNorm(config, parameters, `${name}.post_feedforward_layernorm`);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, shelf }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(x, angles, attend, shelf);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.postAttentionNorm.apply(mixed));
    return tf.add(attended, this.postFeedforwardNorm.apply(this.mlp.apply(attended)));
  }
}
