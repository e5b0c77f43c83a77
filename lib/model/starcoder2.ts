/**
 * StarCoder2 (Lozhkov et al. 2024): Llama's attention, with biases and mostly a sliding window, between layer normalizations, and GPT-2's MLP,
 * without a gate.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../engine';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { type LayerNormConfig, LayerNormDecoder } from './layer-norm-decoder';
import type { LayerNorm, ParameterList } from './layers';
import { Attention, type RotaryAttentionConfig } from './llama';
import { Mlp } from './mlp';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import type { RotaryBlock } from './rotary-decoder';
import type { ForwardPass } from './types';

export interface Starcoder2Config extends LayerNormConfig, RotaryAttentionConfig {
  readonly hiddenAct: Activation;
  /** Whether all linear layers have biases, or none. */
  readonly bias: boolean;
}

export function readStarcoder2Config(reader: ConfigReader): Starcoder2Config {
  const raw = { num_key_value_heads: 2, intermediate_size: 12288, initializer_range: 0.018042, eos_token_id: 50256, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'starcoder2', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 4096,
    dropout: {
      hidden: { key: 'residual_dropout', missing: 0 },
      embeddings: { key: 'embedding_dropout', missing: 0 },
      attention: { key: 'attention_dropout', missing: 0 },
    },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const bias = reader.boolean('use_bias', true);
  const window = reader.get('sliding_window') === undefined ? undefined : reader.count('sliding_window');
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'gelu_pytorch_tanh'),
    layerNormEps: reader.notNegative('norm_epsilon', 1e-5),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    bias,
    qkvBias: bias,
    outputBias: bias,
    attentionScale: common.headDim ** -0.5,
    windows: new Array<number | undefined>(common.numHiddenLayers).fill(window),
  };
}

class Block implements RotaryBlock {
  private readonly inputNorm: LayerNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: LayerNorm;
  private readonly mlp: Mlp;

  constructor(
    private readonly config: Starcoder2Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const { hiddenSize, layerNormEps, hiddenAct } = config;
    this.inputNorm = parameters.layerNorm(`${name}.input_layernorm`, hiddenSize, layerNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.postAttentionNorm = parameters.layerNorm(`${name}.post_attention_layernorm`, hiddenSize, layerNormEps);
    const names = { up: `${name}.mlp.c_fc`, down: `${name}.mlp.c_proj` };
    this.mlp = new Mlp(parameters, names, { ...config, activation: hiddenAct });
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout } = this.config;
    const mixed = drop(this.attention.apply(this.inputNorm.apply(x), angles, attend), 2 * this.layer + 1, hiddenDropout);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, drop(this.mlp.apply(this.postAttentionNorm.apply(attended)), 2 * this.layer + 2, hiddenDropout));
  }
}

export class Starcoder2 extends LayerNormDecoder<Starcoder2Config> {
  constructor(config: Starcoder2Config, origin: Origin) {
    super(config, origin, Block);
  }
}
