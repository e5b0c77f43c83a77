/**
 * OPT (Zhang et al. 2022): learned positions, and a ReLU MLP. The 350M model is built otherwise than the rest: it normalizes
 * after each sublayer instead of before, has no final normalization, and its embeddings are narrower than its layers.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, embedding } from '../engine';
import { UserError } from '../errors';
import { type ConfigReader, headDimOf, readModelConfig, readPaddingIdx } from './config';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type Linear, type OutputHead, type Parameter, ParameterList } from './layers';
import type { Attend, ForwardPass, ModelConfig, Stages } from './types';

export interface OptConfig extends ModelConfig {
  /** The token whose embedding learns nothing from being read. */
  readonly paddingIdx?: number;
  readonly activationFunction: Activation;
  readonly bias: boolean;
  /** Whether each sublayer normalizes its input (all but 350M) or its output. */
  readonly normBefore: boolean;
  readonly finalNorm: boolean;
  /** Width of the embeddings; where it differs from `hiddenSize`, projections lead in and out. */
  readonly embeddingSize: number;
}

/** Epsilon of PyTorch's LayerNorm; OPT's configuration has none. */
const LAYER_NORM_EPS = 1e-5;
/** The table of positions begins with two rows that are never used. */
const POSITION_OFFSET = 2;

export function readOptConfig(reader: ConfigReader): OptConfig {
  if (!reader.boolean('layer_norm_elementwise_affine', true)) {
    throw new UserError(`${reader.place}: "layer_norm_elementwise_affine" is false; only normalization with weights is supported.`);
  }
  const normBefore = reader.boolean('do_layer_norm_before', true);
  const common = readModelConfig(reader, 'opt', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 2048,
    dropout: { hidden: { key: 'dropout', missing: 0.1 }, attention: { key: 'attention_dropout', missing: 0 } },
    keys: { intermediate_size: 'ffn_dim', initializer_range: 'init_std' },
  });
  return {
    ...common,
    layerdrop: reader.share('layerdrop', 0),
    // by which transformers decides whether to skip the layer, whatever the share of those is
    wordsPerLayer: 1,
    // whatever head_dim says
    headDim: headDimOf(reader, common.hiddenSize, common.numAttentionHeads),
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 1),
    activationFunction: reader.activation('activation_function', 'relu'),
    bias: reader.boolean('enable_bias', true),
    normBefore,
    finalNorm: normBefore && !reader.boolean('_remove_final_layer_norm', false),
    embeddingSize: reader.count('word_embed_proj_dim', common.hiddenSize),
  };
}

class Attention {
  private readonly qProj: Linear;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly outProj: Linear;

  constructor(
    private readonly config: OptConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const features = { in: config.hiddenSize, out: config.hiddenSize, bias: config.bias };
    this.kProj = parameters.linear(`${name}.k_proj`, features);
    this.vProj = parameters.linear(`${name}.v_proj`, features);
    this.qProj = parameters.linear(`${name}.q_proj`, features);
    this.outProj = parameters.linear(`${name}.out_proj`, features);
  }

  apply(x: tf.Tensor2D, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, headDim, attentionDropout: dropout } = this.config;
    const options = { heads, kvHeads: heads, scale: headDim ** -0.5, dropout };
    return this.outProj.apply(attend(this.layer, this.qProj.apply(x), this.kProj.apply(x), this.vProj.apply(x), options));
  }
}

class Block {
  private readonly attention: Attention;
  private readonly attentionNorm: LayerNorm;
  private readonly fc1: Linear;
  private readonly fc2: Linear;
  private readonly mlpNorm: LayerNorm;

  constructor(
    private readonly config: OptConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.decoder.layers.${layer}`;
    const { hiddenSize, intermediateSize, bias } = config;
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.attentionNorm = parameters.layerNorm(`${name}.self_attn_layer_norm`, hiddenSize, LAYER_NORM_EPS);
    this.fc1 = parameters.linear(`${name}.fc1`, { in: hiddenSize, out: intermediateSize, bias });
    this.fc2 = parameters.linear(`${name}.fc2`, { in: intermediateSize, out: hiddenSize, bias });
    this.mlpNorm = parameters.layerNorm(`${name}.final_layer_norm`, hiddenSize, LAYER_NORM_EPS);
  }

  apply(x: tf.Tensor2D, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout } = this.config;
    const mixed = drop(this.attention.apply(this.before(x, this.attentionNorm), attend), 2 * this.layer, hiddenDropout);
    const attended = this.after(tf.add(carry(this.layer, x), mixed), this.attentionNorm);
    const transformed = drop(this.mlp(this.before(attended, this.mlpNorm)), 2 * this.layer + 1, hiddenDropout);
    return this.after(tf.add(attended, transformed), this.mlpNorm);
  }

  /** What a sublayer reads: x normalized, unless that comes after it. */
  private before(x: tf.Tensor2D, norm: LayerNorm): tf.Tensor2D {
    return this.config.normBefore ? norm.apply(x) : x;
  }

  /** What a sublayer and its residual connection give. */
  private after(x: tf.Tensor2D, norm: LayerNorm): tf.Tensor2D {
    return this.config.normBefore ? x : norm.apply(x);
  }

  private mlp(x: tf.Tensor2D): tf.Tensor2D {
    return this.fc2.apply(activation(this.config.activationFunction, this.fc1.apply(x)));
  }
}

export class Opt extends Decoder {
  private readonly embedTokens: Embedding;
  private readonly embedPositions: Parameter<tf.Rank.R2>;
  private readonly projectIn?: Linear;
  private readonly projectOut?: Linear;
  private readonly layers: readonly Block[];
  private readonly finalNorm?: LayerNorm;
  protected readonly head: OutputHead;

  constructor(config: OptConfig, origin: Origin) {
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, embeddingSize, paddingIdx } = config;
    this.embedTokens = parameters.embedding('model.decoder.embed_tokens', vocabSize, embeddingSize, { paddingIdx });
    this.embedPositions = parameters.matrix(
      'model.decoder.embed_positions.weight',
      config.maxPositionEmbeddings + POSITION_OFFSET,
      hiddenSize,
    );
    if (embeddingSize !== hiddenSize) {
      this.projectOut = parameters.linear('model.decoder.project_out', { in: hiddenSize, out: embeddingSize, bias: false });
      this.projectIn = parameters.linear('model.decoder.project_in', { in: embeddingSize, out: hiddenSize, bias: false });
    }
    if (config.finalNorm) this.finalNorm = parameters.layerNorm('model.decoder.final_layer_norm', hiddenSize, LAYER_NORM_EPS);
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters));
    this.head = parameters.outputHead('lm_head', this.embedTokens, { tied: config.tieWordEmbeddings });
  }

  stages(pass: ForwardPass): Stages {
    this.checkLength(pass.length);
    return {
      embed: () => this.embed(pass.ids, pass.positions),
      layers: this.layers.map((layer) => (x) => layer.apply(x, pass)),
      finish: (x) => {
        const normalized = this.finalNorm?.apply(x) ?? x;
        return this.projectOut?.apply(normalized) ?? normalized;
      },
    };
  }

  private embed(ids: tf.Tensor1D, positions: tf.Tensor1D): tf.Tensor2D {
    const tokens = this.embedTokens.apply(ids);
    const places = embedding(this.embedPositions.tensor, tf.add(positions, tf.scalar(POSITION_OFFSET, 'int32')));
    return tf.add(this.projectIn?.apply(tokens) ?? tokens, places);
  }
}
