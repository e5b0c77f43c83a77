/**
 * BLOOM (BigScience 2022): GPT-NeoX's layers one after the other, but that scores know of positions by linear biases (ALiBi), and embeddings are
 * normalized.
 */
import * as tf from '@tensorflow/tfjs-core';
import { Alibi, type AlibiFeatures, attendByDistance } from './alibi';
import { splitHeadByHead } from './attention-projections';
import { ConfigReader, readModelConfig } from './config';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type Linear, type OutputHead, ParameterList } from './layers';
import { Mlp } from './mlp';
import type { Attend, ForwardPass, ModelConfig, Stages } from './types';

export interface BloomConfig extends ModelConfig {
  readonly layerNormEps: number;
  /** Whether a sublayer adds what it finds to its normalized input, and not to the input itself. */
  readonly residualBehindNorm: boolean;
  /** Tokens of the texts that it was trained on; it reads longer ones, too. */
  readonly pretrainedLength: number;
}

export function readBloomConfig(reader: ConfigReader): BloomConfig {
  // then transformers multiplies piece by piece, and forgets two of the biases over it
  if (reader.boolean('slow_but_exact', false) && reader.count('pretraining_tp', 1) > 1)
    throw reader.wrong('slow_but_exact', true, 'false: matrices that are multiplied as a whole');
  // what follows from the rest, whatever these keys say
  const unread = { num_key_value_heads: undefined, head_dim: undefined, intermediate_size: undefined, max_position_embeddings: undefined };
  const filled = new ConfigReader({ eos_token_id: 2, ...reader.raw, ...unread }, reader.place);
  /** The first of two names of a key counts where there is a value. */
  const either = (first: string, second: string): string => (reader.get(first) === undefined ? second : first);
  const common = readModelConfig(filled, 'bloom', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: Number.POSITIVE_INFINITY,
    dropout: { hidden: { key: 'hidden_dropout', missing: 0 }, attention: { key: 'attention_dropout', missing: 0 } },
    keys: {
      hidden_size: either('n_embed', 'hidden_size'),
      num_attention_heads: either('num_attention_heads', 'n_head'),
      num_hidden_layers: either('num_hidden_layers', 'n_layer'),
    },
    intermediateSize: (hiddenSize) => 4 * hiddenSize,
  });
  return {
    ...common,
    raw: reader.raw,
    layerNormEps: reader.notNegative('layer_norm_epsilon', 1e-5),
    residualBehindNorm: reader.boolean('apply_residual_connection_post_layernorm', false),
    pretrainedLength: reader.count('seq_length', 2048),
  };
}

class Attention {
  private readonly queryKeyValue: Linear;
  private readonly dense: Linear;

  constructor(
    private readonly config: BloomConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize } = config;
    this.queryKeyValue = parameters.linear(`${name}.query_key_value`, { in: hiddenSize, out: 3 * hiddenSize, bias: true });
    this.dense = parameters.linear(`${name}.dense`, { in: hiddenSize, out: hiddenSize, bias: true });
  }

  apply(x: tf.Tensor2D, features: AlibiFeatures, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, headDim, attentionDropout: dropout } = this.config;
    const [q, k, v] = splitHeadByHead(this.queryKeyValue.apply(x), this.config);
    return this.dense.apply(attendByDistance(this.layer, { q, k, v }, features, { heads, scale: headDim ** -0.5, dropout }, attend));
  }
}

class Block {
  private readonly inputNorm: LayerNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: LayerNorm;
  private readonly mlp: Mlp;

  constructor(
    private readonly config: BloomConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `transformer.h.${layer}`;
    const { hiddenSize, layerNormEps } = config;
    this.inputNorm = parameters.layerNorm(`${name}.input_layernorm`, hiddenSize, layerNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attention`);
    this.postAttentionNorm = parameters.layerNorm(`${name}.post_attention_layernorm`, hiddenSize, layerNormEps);
    const names = { up: `${name}.mlp.dense_h_to_4h`, down: `${name}.mlp.dense_4h_to_h` };
    this.mlp = new Mlp(parameters, names, { ...config, activation: 'gelu_new', bias: true });
  }

  apply(x: tf.Tensor2D, features: AlibiFeatures, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout, residualBehindNorm } = this.config;
    const normalized = this.inputNorm.apply(x);
    const mixed = drop(this.attention.apply(normalized, features, attend), 2 * this.layer, hiddenDropout);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, residualBehindNorm ? normalized : x), mixed);
    const normalizedAgain = this.postAttentionNorm.apply(attended);
    const transformed = drop(this.mlp.apply(normalizedAgain), 2 * this.layer + 1, hiddenDropout);
    return tf.add(residualBehindNorm ? normalizedAgain : attended, transformed);
  }
}

export class Bloom extends Decoder {
  private readonly wordEmbeddings: Embedding;
  private readonly embeddingNorm: LayerNorm;
  private readonly layers: readonly Block[];
  private readonly finalNorm: LayerNorm;
  protected readonly head: OutputHead;
  private readonly alibi: Alibi;

  constructor(config: BloomConfig, origin: Origin) {
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, layerNormEps } = config;
    this.wordEmbeddings = parameters.embedding('transformer.word_embeddings', vocabSize, hiddenSize);
    this.embeddingNorm = parameters.layerNorm('transformer.word_embeddings_layernorm', hiddenSize, layerNormEps);
    this.layers = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters));
    this.finalNorm = parameters.layerNorm('transformer.ln_f', hiddenSize, layerNormEps);
    this.head = parameters.outputHead('lm_head', this.wordEmbeddings, { tied: config.tieWordEmbeddings });
    this.alibi = new Alibi(config.numAttentionHeads, config.headDim);
  }

  stages(pass: ForwardPass): Stages {
    const features = this.alibi.features(pass.positions);
    return {
      embed: () => this.embeddingNorm.apply(this.wordEmbeddings.apply(pass.ids)),
      layers: this.layers.map((layer) => (x) => layer.apply(x, features, pass)),
      finish: (x) => this.finalNorm.apply(x),
    };
  }

  override dispose(): void {
    super.dispose();
    this.alibi.dispose();
  }
}
