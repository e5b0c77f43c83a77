/**
 * GPT-BigCode (Ben Allal et al. 2023, "SantaCoder"), the family of StarCoder: GPT-2, but that all heads of queries read one head of keys and
 * values (multi-query attention; Shazeer 2019), and that checkpoints hold the matrices of linear layers as all others do.
 */
import * as tf from '@tensorflow/tfjs-core';
import { splitHeadByHead } from './attention-projections';
import { ConfigReader } from './config';
import type { Origin } from './decoder';
import { Gpt, type GptConfig } from './gpt';
import { readGptConfig, readScale } from './gpt2';
import type { Linear, ParameterList } from './layers';
import type { Attend } from './types';

export interface GptBigCodeConfig extends GptConfig {
  /** Whether all heads of queries share one head of keys and values. */
  readonly multiQuery: boolean;
  /** What scores are multiplied by. */
  readonly attentionScale: number;
}

export function readGptBigCodeConfig(reader: ConfigReader): GptBigCodeConfig {
  const multiQuery = reader.boolean('multi_query', true);
  // how many heads of keys there are, and how wide they are, follows from the rest, whatever these keys say
  const filled = { eos_token_id: 50256, ...reader.raw, num_key_value_heads: multiQuery ? 1 : undefined, head_dim: undefined };
  const common = readGptConfig(new ConfigReader(filled, reader.place), 'gpt_bigcode', 'gelu_pytorch_tanh');
  return { ...common, raw: reader.raw, multiQuery, attentionScale: readScale(reader, common) };
}

class Attention {
  private readonly cAttn: Linear;
  private readonly cProj: Linear;

  constructor(
    private readonly config: GptBigCodeConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, headDim, numKeyValueHeads } = config;
    this.cAttn = parameters.linear(`${name}.c_attn`, { in: hiddenSize, out: hiddenSize + 2 * numKeyValueHeads * headDim, bias: true });
    this.cProj = parameters.linear(`${name}.c_proj`, { in: hiddenSize, out: hiddenSize, bias: true });
  }

  apply(x: tf.Tensor2D, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, attentionScale: scale, attentionDropout: dropout } = this.config;
    const [q, k, v] = this.split(this.cAttn.apply(x));
    return this.cProj.apply(attend(this.layer, q, k, v, { heads, kvHeads, scale, dropout }));
  }

  /** One head of keys and one of values lie behind all queries; where there are more, those of each head lie together. */
  private split(qkv: tf.Tensor2D): tf.Tensor2D[] {
    const { hiddenSize, headDim, multiQuery } = this.config;
    return multiQuery ? tf.split(qkv, [hiddenSize, headDim, headDim], 1) : splitHeadByHead(qkv, this.config);
  }
}

export class GptBigCode extends Gpt {
  constructor(config: GptBigCodeConfig, origin: Origin) {
    super(config, origin, {
      transposed: false,
      attention: (layer, parameters, name) => new Attention(config, layer, parameters, name),
    });
  }
}
