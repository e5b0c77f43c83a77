/**
 * GPT-Neo (Black et al. 2021), the family of the TinyStories models: GPT-2 with projections of their own for queries, keys and values, scores
 * that are not scaled, and a sliding window in every other layer.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, embedding } from '../engine';
import { type ConfigReader, readEmbeddingDropout, readModelConfig } from './config';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type Linear, type OutputHead, type Parameter, ParameterList } from './layers';
import type { Attend, ForwardPass, ModelConfig, Stages } from './types';

export interface GptNeoConfig extends ModelConfig {
  readonly activationFunction: Activation;
  readonly layerNormEps: number;
  /** Whether as much is dropped of the embeddings as of other hidden states; else nothing is. */
  readonly dropsEmbeddings: boolean;
  /** Of each layer; undefined: the layer sees everything before it. */
  readonly windows: ReadonlyArray<number | undefined>;
}

export function readGptNeoConfig(reader: ConfigReader): GptNeoConfig {
  const common = readModelConfig(reader, 'gpt_neo', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 2048,
    dropout: { resid_dropout: 0, embed_dropout: 0, attention_dropout: 0 },
    hiddenDropoutKey: 'resid_dropout',
    keys: { num_attention_heads: 'num_heads', num_hidden_layers: 'num_layers' },
    intermediateSize: (hiddenSize) => 4 * hiddenSize,
  });
  return {
    ...common,
    ...readEmbeddingDropout(common, 'embed_dropout'),
    activationFunction: reader.activation('activation_function', 'gelu_new'),
    layerNormEps: reader.notNegative('layer_norm_epsilon', 1e-5),
    windows: readWindows(reader, common.numHiddenLayers),
  };
}

/** `attention_types` is a list of pairs: kinds of layers, and how often they repeat. @throws UserError when it is not one kind for each layer */
function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  const types = reader.get('attention_types') ?? [[['global', 'local'], layers / 2]];
  const isPair = (pair: unknown): pair is [string[], number] =>
    Array.isArray(pair) && Array.isArray(pair[0]) && Number.isInteger(pair[1]) && pair[1] >= 0 && pair[1] <= layers;
  const expected = `pairs of kinds ("global" or "local") and how often they repeat, for ${layers} layers`;
  if (!Array.isArray(types) || !types.every(isPair)) throw reader.wrong('attention_types', types, expected);
  const kinds = types.flatMap(([pattern, times]) => Array.from({ length: times }, () => pattern).flat());
  if (kinds.length !== layers || !kinds.every((kind) => kind === 'global' || kind === 'local'))
    throw reader.wrong('attention_types', types, expected);
  const window = reader.count('window_size', 256);
  return kinds.map((kind) => (kind === 'local' ? window : undefined));
}

class Attention {
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly qProj: Linear;
  private readonly outProj: Linear;

  constructor(
    private readonly config: GptNeoConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const features = { in: config.hiddenSize, out: config.hiddenSize };
    this.kProj = parameters.linear(`${name}.k_proj`, { ...features, bias: false });
    this.vProj = parameters.linear(`${name}.v_proj`, { ...features, bias: false });
    this.qProj = parameters.linear(`${name}.q_proj`, { ...features, bias: false });
    this.outProj = parameters.linear(`${name}.out_proj`, { ...features, bias: true });
  }

  apply(x: tf.Tensor2D, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, windows } = this.config;
    const options = { heads, kvHeads: heads, scale: 1, window: windows[this.layer] };
    return this.outProj.apply(attend(this.layer, this.qProj.apply(x), this.kProj.apply(x), this.vProj.apply(x), options));
  }
}

class Mlp {
  private readonly cFc: Linear;
  private readonly cProj: Linear;

  constructor(
    private readonly config: GptNeoConfig,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, intermediateSize } = config;
    this.cFc = parameters.linear(`${name}.c_fc`, { in: hiddenSize, out: intermediateSize, bias: true });
    this.cProj = parameters.linear(`${name}.c_proj`, { in: intermediateSize, out: hiddenSize, bias: true });
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
    config: GptNeoConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `transformer.h.${layer}`;
    this.attentionNorm = parameters.layerNorm(`${name}.ln_1`, config.hiddenSize, config.layerNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.attn.attention`);
    this.mlpNorm = parameters.layerNorm(`${name}.ln_2`, config.hiddenSize, config.layerNormEps);
    this.mlp = new Mlp(config, parameters, `${name}.mlp`);
  }

  apply(x: tf.Tensor2D, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const mixed = drop(this.attention.apply(this.attentionNorm.apply(x), attend), 2 * this.layer + 1);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, drop(this.mlp.apply(this.mlpNorm.apply(attended)), 2 * this.layer + 2));
  }
}

export class GptNeo extends Decoder {
  private readonly wte: Embedding;
  private readonly wpe: Parameter<tf.Rank.R2>;
  private readonly layers: readonly Block[];
  private readonly finalNorm: LayerNorm;
  protected readonly head: OutputHead;
  private readonly dropsEmbeddings: boolean;

  constructor(config: GptNeoConfig, origin: Origin) {
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
