/**
 * GPT-2 (Radford et al. 2019) and DistilGPT-2: learned positions, and one matrix for queries, keys and values. Its checkpoints hold the
 * matrices of linear layers transposed.
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Activation } from '../engine';
import { type ConfigReader, readModelConfig } from './config';
import type { Origin } from './decoder';
import { Gpt, type GptConfig } from './gpt';
import type { Linear, ParameterList } from './layers';
import type { Attend, Family } from './types';

export interface Gpt2Config extends GptConfig {
  /** What the scores of each layer are multiplied by. */
  readonly scales: readonly number[];
}

export function readGpt2Config(reader: ConfigReader): Gpt2Config {
  const common = readGptConfig(reader, 'gpt2', 'gelu_new');
  const scale = readScale(reader, common);
  const byLayer = reader.boolean('scale_attn_by_inverse_layer_idx', false);
  return { ...common, scales: Array.from({ length: common.numHiddenLayers }, (_, layer) => (byLayer ? scale / (layer + 1) : scale)) };
}

/** Names under which GPT-J's configurations have the same, too. @param missing what counts where one does not say */
export const gpt2Keys = (missing: { dropout: number }) => ({
  dropout: {
    hidden: { key: 'resid_pdrop', missing: missing.dropout },
    embeddings: { key: 'embd_pdrop', missing: missing.dropout },
    attention: { key: 'attn_pdrop', missing: missing.dropout },
  },
  keys: {
    ...{ hidden_size: 'n_embd', num_attention_heads: 'n_head', num_hidden_layers: 'n_layer' },
    ...{ max_position_embeddings: 'n_positions', intermediate_size: 'n_inner' },
  },
  intermediateSize: (hiddenSize: number): number => 4 * hiddenSize,
});

/** What GPT-BigCode has, too. @param activation where the configuration does not say */
export function readGptConfig(reader: ConfigReader, family: Family, activation: Activation): GptConfig {
  if (reader.boolean('add_cross_attention', false)) throw reader.wrong('add_cross_attention', true, 'false: a model that reads text alone');
  const common = readModelConfig(reader, family, {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 1024,
    ...gpt2Keys({ dropout: 0.1 }),
  });
  return {
    ...common,
    activationFunction: reader.activation('activation_function', activation),
    layerNormEps: reader.notNegative('layer_norm_epsilon', 1e-5),
  };
}

/** What scores are multiplied by. */
export const readScale = (reader: ConfigReader, { headDim }: GptConfig): number =>
  reader.boolean('scale_attn_weights', true) ? headDim ** -0.5 : 1;

class Attention {
  private readonly cAttn: Linear;
  private readonly cProj: Linear;

  constructor(
    private readonly config: Gpt2Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize } = config;
    this.cAttn = parameters.linear(`${name}.c_attn`, { in: hiddenSize, out: 3 * hiddenSize, bias: true, transposed: true });
    this.cProj = parameters.linear(`${name}.c_proj`, { in: hiddenSize, out: hiddenSize, bias: true, transposed: true });
  }

  apply(x: tf.Tensor2D, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, scales, attentionDropout: dropout } = this.config;
    const [q, k, v]: tf.Tensor2D[] = tf.split(this.cAttn.apply(x), 3, 1);
    return this.cProj.apply(attend(this.layer, q, k, v, { heads, kvHeads: heads, scale: scales[this.layer], dropout }));
  }
}

export class Gpt2 extends Gpt {
  constructor(config: Gpt2Config, origin: Origin) {
    super(config, origin, {
      transposed: true,
      attention: (layer, parameters, name) => new Attention(config, layer, parameters, name),
    });
  }
}
