/**
 * GPT-Neo (Black et al. 2021), the family of the TinyStories models: GPT-2 with projections of their own for queries, keys and values, scores
 * that are not scaled, and a sliding window in every other layer.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type ConfigReader, readModelConfig } from './config';
import type { Origin } from './decoder';
import { Gpt, type GptConfig } from './gpt';
import type { Linear, ParameterList } from './layers';
import type { Attend } from './types';

export interface GptNeoConfig extends GptConfig {
  /** Of each layer; undefined: the layer sees everything before it. */
  readonly windows: ReadonlyArray<number | undefined>;
}

export function readGptNeoConfig(reader: ConfigReader): GptNeoConfig {
  const common = readModelConfig(reader, 'gpt_neo', {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 2048,
    dropout: {
      hidden: { key: 'resid_dropout', missing: 0 },
      embeddings: { key: 'embed_dropout', missing: 0 },
      attention: { key: 'attention_dropout', missing: 0 },
    },
    keys: { num_attention_heads: 'num_heads', num_hidden_layers: 'num_layers' },
    intermediateSize: (hiddenSize) => 4 * hiddenSize,
  });
  return {
    ...common,
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
    const { numAttentionHeads: heads, windows, attentionDropout: dropout } = this.config;
    const options = { heads, kvHeads: heads, scale: 1, window: windows[this.layer], dropout };
    return this.outProj.apply(attend(this.layer, this.qProj.apply(x), this.kProj.apply(x), this.vProj.apply(x), options));
  }
}

export class GptNeo extends Gpt {
  constructor(config: GptNeoConfig, origin: Origin) {
    super(config, origin, {
      transposed: false,
      attention: (layer, parameters, name) => new Attention(config, layer, parameters, `${name}.attention`),
    });
  }
}
