/**
 * CodeGen (Nijkamp et al. 2022): GPT-J with one matrix for queries, keys and values. It lies as on the four devices that trained it: a quarter of the
 * heads each, first their queries, then their values, then their keys.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type QueriesKeysValues, splitHeadByHead } from './attention-projections';
import type { ConfigReader } from './config';
import type { Origin } from './decoder';
import { GptJ, GptJAttention, GptJBlock, type GptJConfig, readGptJConfig } from './gptj';
import type { Linear, ParameterList } from './layers';

const DEVICES = 4;

export function readCodeGenConfig(reader: ConfigReader): GptJConfig {
  const config = readGptJConfig(reader, 'codegen');
  const { numAttentionHeads: heads } = config;
  if (heads % DEVICES !== 0) throw reader.wrong('n_head', heads, `a multiple of ${DEVICES}`);
  return config;
}

class Attention extends GptJAttention {
  private readonly qkvProj: Linear;
  protected readonly outProj: Linear;

  constructor(config: GptJConfig, layer: number, parameters: ParameterList, name: string) {
    super(config, layer);
    const { hiddenSize } = config;
    this.qkvProj = parameters.linear(`${name}.qkv_proj`, { in: hiddenSize, out: 3 * hiddenSize, bias: false });
    this.outProj = parameters.linear(`${name}.out_proj`, { in: hiddenSize, out: hiddenSize, bias: false });
  }

  protected project(x: tf.Tensor2D): QueriesKeysValues {
    // what a device has of each kind, seen as one wide head
    const ofDevices = { numAttentionHeads: DEVICES, headDim: this.config.hiddenSize / DEVICES };
    const [q, v, k] = splitHeadByHead(this.qkvProj.apply(x), ofDevices);
    return { q, k, v };
  }
}

class Block extends GptJBlock {
  constructor(config: GptJConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class CodeGen extends GptJ {
  constructor(config: GptJConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
