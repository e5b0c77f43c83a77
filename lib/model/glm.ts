/**
 * GLM-4 (Team GLM 2024, "ChatGLM") and GLM-Edge: Llama with biases on queries, keys and values, and one matrix for the two factors of the gated MLP.
 * Of each head a part turns, usually half of it, in pairs of features that lie side by side. GLM-4 0414 (Z.ai 2025) normalizes what its sublayers
 * yield, too, before it is added.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { FusedGatedMlp } from './gated-mlp';
import type { ParameterList, RmsNorm } from './layers';
import { Attention, type LlamaConfig } from './llama';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { type RotaryBlock, RotaryDecoder } from './rotary-decoder';
import type { Family, ForwardPass } from './types';

export interface GlmConfig extends LlamaConfig {
  /** Whether what attention and MLP yield is normalized before it is added. */
  readonly postNorms: boolean;
}

/** @param family `glm`, or `glm4` of those of 0414 */
export function readGlmConfig(reader: ConfigReader, family: Extract<Family, 'glm' | 'glm4'>): GlmConfig {
  const raw = { num_key_value_heads: 2, head_dim: 128, eos_token_id: EOS_IDS, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), family, {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 131072,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  // null says, as in transformers, that whole heads turn
  const partialRotaryFactor = reader.raw.partial_rotary_factor === null ? 1 : 0.5;
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { partialRotaryFactor });
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, EOS_IDS[0]),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1.5625e-7),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    interleavedPairs: true,
    qkvBias: reader.boolean('attention_bias', true),
    outputBias: false,
    mlpBias: false,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: common.headDim ** -0.5,
    postNorms: family === 'glm4',
  };
}

/** The tokens that end a text, of which the first fills texts up, too. */
const EOS_IDS = [151329, 151336, 151338];

class Block implements RotaryBlock {
  private readonly attention: Attention;
  private readonly mlp: FusedGatedMlp;
  private readonly inputNorm: RmsNorm;
  private readonly postAttentionNorm: RmsNorm;
  private readonly postSelfAttnNorm?: RmsNorm;
  private readonly postMlpNorm?: RmsNorm;

  constructor(
    config: GlmConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const norm = (which: string): RmsNorm => parameters.rmsNorm(`${name}.${which}`, config.hiddenSize, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new FusedGatedMlp(parameters, { gateUp: `${name}.mlp.gate_up_proj`, down: `${name}.mlp.down_proj` }, config);
    this.inputNorm = norm('input_layernorm');
    this.postAttentionNorm = norm('post_attention_layernorm');
    if (!config.postNorms) return;
    this.postSelfAttnNorm = norm('post_self_attn_layernorm');
    this.postMlpNorm = norm('post_mlp_layernorm');
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, attend);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.postSelfAttnNorm?.apply(mixed) ?? mixed);
    const computed = this.mlp.apply(this.postAttentionNorm.apply(attended));
    return tf.add(attended, this.postMlpNorm?.apply(computed) ?? computed);
  }
}

export class Glm extends RotaryDecoder<GlmConfig> {
  constructor(config: GlmConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
