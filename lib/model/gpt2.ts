/**
 * GPT-2 (Radford et al. 2019) and DistilGPT-2: learned positions, and one matrix for queries, keys and values. Its checkpoints hold the
 * matrices of linear layers transposed.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, embedding } from '../engine';
import { type ConfigReader, readEmbeddingDropout, readModelConfig } from './config';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type Linear, type OutputHead, type Parameter, ParameterList } from './layers';
import type { Attend, ForwardPass, ModelConfig, Stages } from './types';

export interface Gpt2Config extends ModelConfig {
  readonly activationFunction: Activation;
  readonly layerNormEps: number;
  /** Whether as much is dropped of the embeddings as of other hidden states; else nothing is. */
  readonly dropsEmbeddings: boolean;
  /** What the scores of each layer are multiplied by. */
  readonly scales: readonly number[];
}

export function readGpt2Config(reader: ConfigReader): Gpt2Config {
  if (reader.boolean('add_cross_attention', false)) throw reader.wrong('add_cross_attention', true, 'false: a model that reads text alone');
  const common = readModelConfig(reader, 'gpt2', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 1024,
    dropout: { resid_pdrop: 0.1, embd_pdrop: 0.1, attn_pdrop: 0.1 },
    hiddenDropoutKey: 'resid_pdrop',
    keys: {
      ...{ hidden_size: 'n_embd', num_attention_heads: 'n_head', num_hidden_layers: 'n_layer' },
      ...{ max_position_embeddings: 'n_positions', intermediate_size: 'n_inner' },
    },
    intermediateSize: (hiddenSize) => 4 * hiddenSize,
  });
  const scale = reader.boolean('scale_attn_weights', true) ? common.headDim ** -0.5 : 1;
  const byLayer = reader.boolean('scale_attn_by_inverse_layer_idx', false);
  return {
    ...common,
    ...readEmbeddingDropout(common, 'embd_pdrop'),
    activationFunction: reader.activation('activation_function', 'gelu_new'),
    layerNormEps: reader.notNegative('layer_norm_epsilon', 1e-5),
    scales: Array.from({ length: common.numHiddenLayers }, (_, layer) => (byLayer ? scale / (layer + 1) : scale)),
  };
}

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
    const { numAttentionHeads: heads, scales } = this.config;
    const [q, k, v]: tf.Tensor2D[] = tf.split(this.cAttn.apply(x), 3, 1);
    return this.cProj.apply(attend(this.layer, q, k, v, { heads, kvHeads: heads, scale: scales[this.layer] }));
  }
}

class Mlp {
  private readonly cFc: Linear;
  private readonly cProj: Linear;

  constructor(
    private readonly config: Gpt2Config,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, intermediateSize } = config;
    this.cFc = parameters.linear(`${name}.c_fc`, { in: hiddenSize, out: intermediateSize, bias: true, transposed: true });
    this.cProj = parameters.linear(`${name}.c_proj`, { in: intermediateSize, out: hiddenSize, bias: true, transposed: true });
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    return this.cProj.apply(activation(this.config.activationFunction, this.cFc.apply(x)));
  }
}

class Block {
  private readonly attentionNorm: LayerNorm;
  private readonly attention: Attention;
  private readonly mlpNorm: LayerNorm;
  private readonly mlp: Mlp;

  constructor(
    config: Gpt2Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `transformer.h.${layer}`;
    this.attentionNorm = parameters.layerNorm(`${name}.ln_1`, config.hiddenSize, config.layerNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.attn`);
    this.mlpNorm = parameters.layerNorm(`${name}.ln_2`, config.hiddenSize, config.layerNormEps);
    this.mlp = new Mlp(config, parameters, `${name}.mlp`);
  }

  apply(x: tf.Tensor2D, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const mixed = drop(this.attention.apply(this.attentionNorm.apply(x), attend), 2 * this.layer + 1);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, drop(this.mlp.apply(this.mlpNorm.apply(attended)), 2 * this.layer + 2));
  }
}

export class Gpt2 extends Decoder {
  private readonly wte: Embedding;
  private readonly wpe: Parameter<tf.Rank.R2>;
  private readonly layers: readonly Block[];
  private readonly finalNorm: LayerNorm;
  protected readonly head: OutputHead;
  private readonly dropsEmbeddings: boolean;

  constructor(config: Gpt2Config, origin: Origin) {
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, maxPositionEmbeddings } = config;
    this.wte = parameters.embedding('transformer.wte', vocabSize, hiddenSize);
    this.wpe = parameters.matrix('transformer.wpe.weight', maxPositionEmbeddings, hiddenSize);
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters));
    this.dropsEmbeddings = config.dropsEmbeddings;
    this.finalNorm = parameters.layerNorm('transformer.ln_f', hiddenSize, config.layerNormEps);
    this.head = parameters.outputHead('lm_head', this.wte, { tied: config.tieWordEmbeddings });
  }

  stages(pass: ForwardPass): Stages {
    this.checkLength(pass.length);
    return {
      embed: () => this.embed(pass),
      layers: this.layers.map((layer) => (x) => layer.apply(x, pass)),
      finish: (x) => this.finalNorm.apply(x),
    };
  }

  private embed({ ids, positions, drop }: ForwardPass): tf.Tensor2D {
    const x: tf.Tensor2D = tf.add(this.wte.apply(ids), embedding(this.wpe.tensor, positions));
    return this.dropsEmbeddings ? drop(x, 0) : x;
  }
}
