/**
 * Phi-3 (Abdin et al. 2024) and Phi-4-mini: Llama with one matrix for queries, keys and values, one for the two factors of the gated MLP, and
 * dropout. Of each head a part turns, by angles that may be stretched for longer texts (LongRoPE).
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { FusedGatedMlp } from './gated-mlp';
import type { Linear, ParameterList, RmsNorm } from './layers';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

export interface Phi3Config extends RotaryConfig {
  readonly hiddenAct: Activation;
}

export function readPhi3Config(reader: ConfigReader): Phi3Config {
  const filled = new ConfigReader({ eos_token_id: 32000, original_max_position_embeddings: 4096, ...reader.raw }, reader.place);
  const common = readModelConfig(filled, 'phi3', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 4096,
    // embd_pdrop has no effect in transformers
    dropout: { hidden: { key: 'resid_pdrop', missing: 0 }, attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(filled, common.headDim, common.maxPositionEmbeddings, {
    partialRotaryFactor: 1,
    types: ['default', 'longrope'],
    // what the first Phi-3 models call it
    olderTypes: { su: 'longrope', yarn: 'longrope' },
  });
  const window = reader.get('sliding_window') === undefined ? undefined : reader.count('sliding_window');
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 32000),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    windows: new Array<number | undefined>(common.numHiddenLayers).fill(window),
  };
}

class Attention {
  // in the order of transformers' class, in which adapters draw what they begin with
  private readonly oProj: Linear;
  private readonly qkvProj: Linear;
  /** Features of queries, keys and values. */
  private readonly sizes: [number, number, number];

  constructor(
    private readonly config: Phi3Config,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { hiddenSize, headDim, numAttentionHeads, numKeyValueHeads } = config;
    const queries = numAttentionHeads * headDim;
    const keys = numKeyValueHeads * headDim;
    this.sizes = [queries, keys, keys];
    this.oProj = parameters.linear(`${name}.o_proj`, { in: queries, out: hiddenSize, bias: false });
    this.qkvProj = parameters.linear(`${name}.qkv_proj`, { in: hiddenSize, out: queries + 2 * keys, bias: false });
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, windows, attentionDropout: dropout } = this.config;
    const [q, k, v] = tf.split<tf.Tensor2D>(this.qkvProj.apply(x), this.sizes, 1);
    const [turnedQ, turnedK] = [rotary(q, cos, sin, heads), rotary(k, cos, sin, kvHeads)];
    return this.oProj.apply(
      attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, window: windows[this.layer], dropout }),
    );
  }
}

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: RmsNorm;
  private readonly mlp: FusedGatedMlp;

  constructor(
    private readonly config: Phi3Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    this.inputNorm = parameters.rmsNorm(`${name}.input_layernorm`, config.hiddenSize, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.postAttentionNorm = parameters.rmsNorm(`${name}.post_attention_layernorm`, config.hiddenSize, config.rmsNormEps);
    this.mlp = new FusedGatedMlp(parameters, { gateUp: `${name}.mlp.gate_up_proj`, down: `${name}.mlp.down_proj` }, config);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const { hiddenDropout } = this.config;
    const mixed = drop(this.attention.apply(this.inputNorm.apply(x), angles, attend), 2 * this.layer, hiddenDropout);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, drop(this.mlp.apply(this.postAttentionNorm.apply(attended)), 2 * this.layer + 1, hiddenDropout));
  }
}

export class Phi3 extends RotaryDecoder<Phi3Config> {
  constructor(config: Phi3Config, origin: Origin) {
    super(config, origin, Block);
  }
}
