/** The linear layers around an attention: queries, keys and values of the states, and states of what the heads have read. */
import * as tf from '@tensorflow/tfjs-core';
import { inHeads, type Linear, type ParameterList } from './layers';
import type { ModelConfig } from './types';

export interface ProjectionOptions {
  /** Biases of queries, keys and values. */
  qkvBias: boolean;
  outputBias: boolean;
  /** What the last of them is called. Default: o_proj. */
  outputName?: string;
}

/** Queries, [tokens, heads·headDim], and keys and values, [tokens, kvHeads·headDim]. */
export interface QueriesKeysValues {
  q: tf.Tensor2D;
  k: tf.Tensor2D;
  v: tf.Tensor2D;
}

/** One each for queries, keys, values and the output, declared in this order, in which adapters draw what they begin with. */
export class AttentionProjections {
  private readonly qProj: Linear;
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly oProj: Linear;

  constructor(
    parameters: ParameterList,
    name: string,
    { hiddenSize, headDim, numAttentionHeads, numKeyValueHeads }: ModelConfig,
    { qkvBias: bias, outputBias, outputName = 'o_proj' }: ProjectionOptions,
  ) {
    const queries = numAttentionHeads * headDim;
    const keys = numKeyValueHeads * headDim;
    this.qProj = parameters.linear(`${name}.q_proj`, { in: hiddenSize, out: queries, bias });
    this.kProj = parameters.linear(`${name}.k_proj`, { in: hiddenSize, out: keys, bias });
    this.vProj = parameters.linear(`${name}.v_proj`, { in: hiddenSize, out: keys, bias });
    this.oProj = parameters.linear(`${name}.${outputName}`, { in: queries, out: hiddenSize, bias: outputBias });
  }

  /** @param x [tokens, hiddenSize] */
  apply(x: tf.Tensor2D): QueriesKeysValues {
    return { q: this.qProj.apply(x), k: this.kProj.apply(x), v: this.vProj.apply(x) };
  }

  /** @param read [tokens, heads·headDim] @returns [tokens, hiddenSize] */
  output(read: tf.Tensor2D): tf.Tensor2D {
    return this.oProj.apply(read);
  }
}

/**
 * Queries, keys and values, [tokens, heads·headDim] each, of what one matrix yields where it has those of the first head, then those of the
 * second, and so on.
 * @param qkv [tokens, heads·3·headDim]
 */
export function splitHeadByHead(
  qkv: tf.Tensor2D,
  { numAttentionHeads: heads, headDim }: Pick<ModelConfig, 'numAttentionHeads' | 'headDim'>,
): tf.Tensor2D[] {
  return tf.split(inHeads(qkv, heads), 3, 2).map((part) => tf.reshape(part, [qkv.shape[0], heads * headDim]));
}
