/** A layer as in Llama: attention and a gated MLP, or experts, each of a normalized input and added to what it read. */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation, Shelf } from '../engine';
import { ClampedExperts } from './clamped-experts';
import { Experts, namesOfExperts } from './experts';
import { GatedMlp } from './gated-mlp';
import type { ParameterList } from './layers';
import type { RotaryAngles } from './rope';
import { type RotaryBlock, type RotaryConfig, type StateNorm, stateNorm } from './rotary-decoder';
import { ExpertsWithShared } from './shared-expert';
import type { Attend, ForwardPass } from './types';

export interface PreNormConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
  /** Biases of the MLP. Default: none. */
  readonly mlpBias?: boolean;
}

/** A family's attention. */
export interface AttentionOfFamily {
  /** @param x [tokens, features] */
  apply(x: tf.Tensor2D, angles: RotaryAngles, attend: Attend, shelf: Shelf): tf.Tensor2D;
}

export type AttentionClass<C> = new (config: C, layer: number, parameters: ParameterList, name: string) => AttentionOfFamily;

type MlpOfLayer = GatedMlp | Experts | ExpertsWithShared | ClampedExperts;

export class PreNormBlock<C extends PreNormConfig> implements RotaryBlock {
  private readonly inputNorm: StateNorm;
  private readonly attention: AttentionOfFamily;
  private readonly postAttentionNorm: StateNorm;
  private readonly mlp: MlpOfLayer;

  constructor(
    config: C,
    private readonly layer: number,
    parameters: ParameterList,
    Attention: AttentionClass<C>,
  ) {
    const name = `model.layers.${layer}`;
    this.inputNorm = stateNorm(config, parameters, `${name}.input_layernorm`);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.postAttentionNorm = stateNorm(config, parameters, `${name}.post_attention_layernorm`);
    this.mlp = mlpOf(config, layer, parameters, `${name}.mlp`);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, pass.attend, pass.shelf);
    const attended: tf.Tensor2D = tf.add(pass.carry(this.layer, x), mixed);
    return tf.add(attended, this.mlp.apply(this.postAttentionNorm.apply(attended), pass));
  }
}

/** The gated MLP of a layer, or the experts in its place. */
function mlpOf(config: PreNormConfig, layer: number, parameters: ParameterList, name: string): MlpOfLayer {
  const { experts, hiddenSize, family, mlpBias: bias = false } = config;
  if (!experts?.layers[layer]) return new GatedMlp(parameters, name, { ...config, bias });
  if (experts.clamped) return new ClampedExperts({ ...experts, hiddenSize }, layer, parameters, name);
  const routed = new Experts({ ...experts, hiddenSize }, layer, parameters, namesOfExperts(name, family));
  const { sharedSize } = experts;
  return sharedSize === undefined ? routed : new ExpertsWithShared(routed, parameters, name, { hiddenSize, sharedSize });
}
