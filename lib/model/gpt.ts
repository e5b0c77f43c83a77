/** What GPT-2, GPT-Neo and GPT-BigCode have in common: learned positions, and layers that differ by their attention alone. */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, embedding } from '../engine';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type OutputHead, type Parameter, ParameterList } from './layers';
import { Mlp } from './mlp';
import type { Attend, ForwardPass, ModelConfig, Stages } from './types';

export interface GptConfig extends ModelConfig {
  readonly activationFunction: Activation;
  readonly layerNormEps: number;
}

/** Lets the tokens of a layer look at each other. */
export interface GptAttention {
  apply(x: tf.Tensor2D, attend: Attend): tf.Tensor2D;
}

/** What a family has of its own. */
export interface GptParts {
  /** Whether checkpoints hold the matrices of linear layers transposed. */
  transposed: boolean;
  /** @param name of the module, as in the checkpoint */
  attention(layer: number, parameters: ParameterList, name: string): GptAttention;
}

class Block {
  private readonly attentionNorm: LayerNorm;
  private readonly attention: GptAttention;
  private readonly mlpNorm: LayerNorm;
  private readonly mlp: Mlp;

  constructor(
    private readonly config: GptConfig,
    private readonly layer: number,
    parameters: ParameterList,
    parts: GptParts,
  ) {
    const name = `transformer.h.${layer}`;
    this.attentionNorm = parameters.layerNorm(`${name}.ln_1`, config.hiddenSize, config.layerNormEps);
    this.attention = parts.attention(layer, parameters, `${name}.attn`);
    this.mlpNorm = parameters.layerNorm(`${name}.ln_2`, config.hiddenSize, config.layerNormEps);
    this.mlp = new Mlp(
      parameters,
      { up: `${name}.mlp.c_fc`, down: `${name}.mlp.c_proj` },
      { ...config, activation: config.activationFunction, bias: true, transposed: parts.transposed },
    );
  }

  apply(x: tf.Tensor2D, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout } = this.config;
    const mixed = drop(this.attention.apply(this.attentionNorm.apply(x), attend), 2 * this.layer + 1, hiddenDropout);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, drop(this.mlp.apply(this.mlpNorm.apply(attended)), 2 * this.layer + 2, hiddenDropout));
  }
}

export abstract class Gpt extends Decoder {
  private readonly wte: Embedding;
  private readonly wpe: Parameter<tf.Rank.R2>;
  private readonly layers: readonly Block[];
  private readonly finalNorm: LayerNorm;
  protected readonly head: OutputHead;

  constructor(config: GptConfig, origin: Origin, parts: GptParts) {
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, maxPositionEmbeddings } = config;
    this.wte = parameters.embedding('transformer.wte', vocabSize, hiddenSize);
    this.wpe = parameters.matrix('transformer.wpe.weight', maxPositionEmbeddings, hiddenSize);
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters, parts));
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
    return drop(tf.add(this.wte.apply(ids), embedding(this.wpe.tensor, positions)), 0, this.config.embeddingDropout);
  }
}
