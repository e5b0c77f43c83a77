/**
 * GPT-NeoX (Black et al. 2022), the family of Pythia: one matrix for queries, keys and values, RoPE on a part of each
 * head, and attention and MLP side by side (parallel residual) or one after the other.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { splitHeadByHead } from './attention-projections';
import { type ConfigReader, readModelConfig, refuseOtherHeadDim } from './config';
import type { Origin } from './decoder';
import { type LayerNormConfig, LayerNormDecoder } from './layer-norm-decoder';
import type { LayerNorm, Linear, ParameterList } from './layers';
import { Mlp } from './mlp';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import type { Attend, ForwardPass } from './types';

export interface GptNeoXConfig extends LayerNormConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
  /** Whether attention and MLP read the same input and add up, or follow each other. */
  readonly useParallelResidual: boolean;
}

export function readGptNeoXConfig(reader: ConfigReader): GptNeoXConfig {
  const common = readModelConfig(reader, 'gpt_neox', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: {
      hidden: { key: 'hidden_dropout', missing: 0 },
      embeddings: { key: 'hidden_dropout', missing: 0 },
      attention: { key: 'attention_dropout', missing: 0 },
    },
  });
  refuseOtherHeadDim(reader, common);
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, {
    partialRotaryFactor: 0.25,
    olderKeys: { theta: 'rotary_emb_base', partialRotaryFactor: 'rotary_pct' },
  });
  return {
    ...common,
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'gelu'),
    layerNormEps: reader.notNegative('layer_norm_eps', 1e-5),
    rope,
    attentionBias: reader.boolean('attention_bias', true),
    useParallelResidual: reader.boolean('use_parallel_residual', true),
  };
}

class Attention {
  private readonly queryKeyValue: Linear;
  private readonly dense: Linear;

  constructor(
    private readonly config: GptNeoXConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, attentionBias: bias } = config;
    this.queryKeyValue = parameters.linear(`${name}.query_key_value`, { in: hiddenSize, out: 3 * hiddenSize, bias });
    this.dense = parameters.linear(`${name}.dense`, { in: hiddenSize, out: hiddenSize, bias });
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, headDim, attentionDropout: dropout } = this.config;
    const [q, k, v] = splitHeadByHead(this.queryKeyValue.apply(x), this.config);
    const options = { heads, kvHeads: heads, scale: headDim ** -0.5, dropout };
    return this.dense.apply(attend(this.layer, rotary(q, cos, sin, heads), rotary(k, cos, sin, heads), v, options));
  }
}

class Block {
  private readonly inputNorm: LayerNorm;
  private readonly postAttentionNorm: LayerNorm;
  private readonly attention: Attention;
  private readonly mlp: Mlp;

  constructor(
    private readonly config: GptNeoXConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `gpt_neox.layers.${layer}`;
    this.inputNorm = parameters.layerNorm(`${name}.input_layernorm`, config.hiddenSize, config.layerNormEps);
    this.postAttentionNorm = parameters.layerNorm(`${name}.post_attention_layernorm`, config.hiddenSize, config.layerNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.attention`);
    this.mlp = new Mlp(
      parameters,
      { up: `${name}.mlp.dense_h_to_4h`, down: `${name}.mlp.dense_4h_to_h` },
      { ...config, activation: config.hiddenAct, bias: true },
    );
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout, useParallelResidual } = this.config;
    const carried = carry(this.layer, x);
    const mixed = drop(this.attention.apply(this.inputNorm.apply(x), angles, attend), 2 * this.layer + 1, hiddenDropout);
    const attended: tf.Tensor2D = tf.add(carried, mixed);
    const mlpInput = useParallelResidual ? carried : attended;
    return tf.add(attended, drop(this.mlp.apply(this.postAttentionNorm.apply(mlpInput)), 2 * this.layer + 2, hiddenDropout));
  }
}

export class GptNeoX extends LayerNormDecoder<GptNeoXConfig> {
  constructor(config: GptNeoXConfig, origin: Origin) {
    super(config, origin, Block, { embedding: 'gpt_neox.embed_in', norm: 'gpt_neox.final_layer_norm', head: 'embed_out' });
  }
}
