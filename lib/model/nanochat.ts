/**
 * nanochat (Karpathy 2025): Llama whose norms have no weights, with one more behind the embeddings, and one of queries and keys after they turned
 * with their positions, which is the other way round than usual; an MLP of two layers with the square of relu between them (So et al. 2021);
 * and logits that are soft-capped.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { type ConfigReader, readModelConfig, readPaddingIdx, readSoftcap } from './config';
import type { Origin } from './decoder';
import { type Linear, type ParameterList, RmsNorm } from './layers';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

export interface NanoChatConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
}

export function readNanoChatConfig(reader: ConfigReader): NanoChatConfig {
  const common = readModelConfig(reader, 'nanochat', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  return {
    ...common,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 1),
    positionLimit: ropePositionLimit(rope),
    finalLogitSoftcapping: readSoftcap(reader, 'final_logit_softcapping', 15),
    hiddenAct: reader.activation('hidden_act', 'relu2'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    norms: 'without weights',
    attentionBias: reader.boolean('attention_bias', false),
    rope,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
  };
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly norm: RmsNorm;

  constructor(
    private readonly config: NanoChatConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { attentionBias: bias } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    this.norm = new RmsNorm(undefined, config.rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    // by the negative angles
    const back = tf.neg(sin);
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = this.norm.applyToHeads(rotary(q, cos, back, heads), heads);
    const turnedK = this.norm.applyToHeads(rotary(k, cos, back, kvHeads), kvHeads);
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

class Mlp {
  private readonly fc1: Linear;
  private readonly fc2: Linear;
  private readonly act: Activation;

  constructor({ hiddenSize, intermediateSize, hiddenAct }: NanoChatConfig, parameters: ParameterList, name: string) {
    this.fc1 = parameters.linear(`${name}.fc1`, { in: hiddenSize, out: intermediateSize, bias: false });
    this.fc2 = parameters.linear(`${name}.fc2`, { in: intermediateSize, out: hiddenSize, bias: false });
    this.act = hiddenAct;
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    return this.fc2.apply(activation(this.act, this.fc1.apply(x)));
  }
}

class Block {
  private readonly norm: RmsNorm;
  private readonly attention: Attention;
  private readonly mlp: Mlp;

  constructor(
    config: NanoChatConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    this.norm = new RmsNorm(undefined, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new Mlp(config, parameters, `${name}.mlp`);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.norm.apply(x), angles, attend);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), mixed);
    return tf.add(attended, this.mlp.apply(this.norm.apply(attended)));
  }
}

export class NanoChat extends RotaryDecoder<NanoChatConfig> {
  constructor(config: NanoChatConfig, origin: Origin) {
    super(config, origin, Block);
  }

  protected override embed(ids: tf.Tensor1D): tf.Tensor2D {
    return this.norm.apply(super.embed(ids));
  }
}
