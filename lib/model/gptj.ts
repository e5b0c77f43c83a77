/**
 * GPT-J (Wang & Komatsuzaki 2021): GPT-Neo with positions that turn, and with attention and MLP that read the same normalized states side by side,
 * as Phi's do. Of each head a part turns, in pairs of features that lie side by side, and the output head has a bias, too.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import type { QueriesKeysValues } from './attention-projections';
import { ConfigReader, readModelConfig } from './config';
import type { Origin } from './decoder';
import { gpt2Keys } from './gpt2';
import { type LayerNormConfig, LayerNormDecoder } from './layer-norm-decoder';
import type { Linear, ParameterList } from './layers';
import { Mlp } from './mlp';
import { ParallelBlock } from './parallel-block';
import type { AttentionClass, AttentionOfFamily } from './pre-norm-block';
import { type RopeConfig, type RotaryAngles, readRope } from './rope';
import type { RotaryBlocks } from './rotary-decoder';
import type { Attend, Family, ForwardPass, ModelConfig, Stages } from './types';

export interface GptJConfig extends LayerNormConfig {
  readonly activationFunction: Activation;
}

/** CodeGen's, too. */
export function readGptJConfig(reader: ConfigReader, family: Family = 'gptj'): GptJConfig {
  // how many heads of keys there are, and how wide they are, follows from the rest, whatever these keys say
  const filled = { eos_token_id: 50256, ...reader.raw, num_key_value_heads: undefined, head_dim: undefined };
  const common = readModelConfig(new ConfigReader(filled, reader.place), family, {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    ...gpt2Keys({ dropout: 0 }),
  });
  return {
    ...common,
    raw: reader.raw,
    activationFunction: reader.activation('activation_function', 'gelu_new'),
    layerNormEps: reader.notNegative('layer_norm_epsilon', 1e-5),
    rope: readPartialRope(reader, common),
  };
}

/** Its own key says how many features of a head turn; the base has none, and nothing stretches the positions. */
function readPartialRope(reader: ConfigReader, { headDim, maxPositionEmbeddings }: ModelConfig): RopeConfig {
  const rotaryDim = reader.count('rotary_dim', 64);
  if (rotaryDim % 2 !== 0 || rotaryDim > headDim)
    throw reader.wrong('rotary_dim', rotaryDim, `an even number, at most the ${headDim} features of a head`);
  return { ...readRope(new ConfigReader({}, reader.place), headDim, maxPositionEmbeddings), rotaryDim };
}

/** What GPT-J's attention and CodeGen's have in common. */
export abstract class GptJAttention implements AttentionOfFamily {
  protected abstract readonly outProj: Linear;

  constructor(
    protected readonly config: GptJConfig,
    private readonly layer: number,
  ) {}

  protected abstract project(x: tf.Tensor2D): QueriesKeysValues;

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, headDim, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.project(x);
    const [turnedQ, turnedK] = [q, k].map((part) => rotary(part, cos, sin, heads, { interleaved: true }));
    return this.outProj.apply(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads: heads, scale: headDim ** -0.5, dropout }));
  }
}

class Attention extends GptJAttention {
  // in the order of transformers' class, in which adapters draw what they begin with
  private readonly kProj: Linear;
  private readonly vProj: Linear;
  private readonly qProj: Linear;
  protected readonly outProj: Linear;

  constructor(config: GptJConfig, layer: number, parameters: ParameterList, name: string) {
    super(config, layer);
    const features = { in: config.hiddenSize, out: config.hiddenSize, bias: false };
    this.kProj = parameters.linear(`${name}.k_proj`, features);
    this.vProj = parameters.linear(`${name}.v_proj`, features);
    this.qProj = parameters.linear(`${name}.q_proj`, features);
    this.outProj = parameters.linear(`${name}.out_proj`, features);
  }

  protected project(x: tf.Tensor2D): QueriesKeysValues {
    return { q: this.qProj.apply(x), k: this.kProj.apply(x), v: this.vProj.apply(x) };
  }
}

/** CodeGen's with another attention. */
export class GptJBlock extends ParallelBlock {
  constructor(config: GptJConfig, layer: number, parameters: ParameterList, AttentionOfOne: AttentionClass<GptJConfig> = Attention) {
    const name = `transformer.h.${layer}`;
    super(config, layer, {
      norm: parameters.layerNorm(`${name}.ln_1`, config.hiddenSize, config.layerNormEps),
      attention: new AttentionOfOne(config, layer, parameters, `${name}.attn`),
      mlp: new Mlp(
        parameters,
        { up: `${name}.mlp.fc_in`, down: `${name}.mlp.fc_out` },
        { ...config, activation: config.activationFunction, bias: true },
      ),
    });
  }
}

export class GptJ extends LayerNormDecoder<GptJConfig> {
  constructor(config: GptJConfig, origin: Origin, Block: RotaryBlocks<GptJConfig> = GptJBlock) {
    super(config, origin, Block, { embedding: 'transformer.wte', norm: 'transformer.ln_f', headBias: true });
  }

  override stages(pass: ForwardPass): Stages {
    // transformers has the angles in a table
    this.checkLength(pass.length);
    return super.stages(pass);
  }
}
