/**
 * What Gemma 2 and 3 are made of (Gemma team 2024 and 2025): Llama with a norm before and one behind each sublayer, whose output is normalized
 * before it is added, and layers of two kinds, some of which see a sliding window. Gemma 2 soft-caps scores and logits; Gemma 3 normalizes
 * queries and keys.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import type { ParameterList, RmsNorm } from './layers';
import type { RotaryAngles } from './rope';
import { type RotaryConfig, RotaryDecoder } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

export interface GemmaConfig extends RotaryConfig {
  readonly hiddenAct: Activation;
  readonly attentionBias: boolean;
  /** What scores are multiplied by. */
  readonly attentionScale: number;
  /** What they are soft-capped by after that, where they are. */
  readonly attnLogitSoftcapping?: number;
  /** Whether each head's queries and keys are normalized. */
  readonly normalizesHeads: boolean;
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly qNorm?: RmsNorm;
  private readonly kNorm?: RmsNorm;

  constructor(
    private readonly config: GemmaConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, attentionBias: bias, rmsNormEps } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: bias, outputBias: bias });
    if (!config.normalizesHeads) return;
    this.qNorm = parameters.rmsNormAroundOne(`${name}.q_norm`, headDim, rmsNormEps);
    this.kNorm = parameters.rmsNormAroundOne(`${name}.k_norm`, headDim, rmsNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, attentionScale: scale, windows, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(normalized(q, this.qNorm, heads), cos, sin, heads);
    const turnedK = rotary(normalized(k, this.kNorm, kvHeads), cos, sin, kvHeads);
    const options = { heads, kvHeads, scale, window: windows[this.layer], softcap: this.config.attnLogitSoftcapping, dropout };
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, options));
  }
}

/** Heads, each of which is normalized, where there is a norm. */
const normalized = (x: tf.Tensor2D, norm: RmsNorm | undefined, heads: number): tf.Tensor2D => norm?.applyToHeads(x, heads) ?? x;

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly attention: Attention;
  private readonly postAttentionNorm: RmsNorm;
  private readonly preFeedforwardNorm: RmsNorm;
  private readonly mlp: GatedMlp;
  private readonly postFeedforwardNorm: RmsNorm;

  constructor(
    config: GemmaConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const norm = (which: string): RmsNorm => parameters.rmsNormAroundOne(`${name}.${which}`, config.hiddenSize, config.rmsNormEps);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.inputNorm = norm('input_layernorm');
    this.postAttentionNorm = norm('post_attention_layernorm');
    this.preFeedforwardNorm = norm('pre_feedforward_layernorm');
    this.postFeedforwardNorm = norm('post_feedforward_layernorm');
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const mixed = this.attention.apply(this.inputNorm.apply(x), angles, attend);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.postAttentionNorm.apply(mixed));
    const computed = this.mlp.apply(this.preFeedforwardNorm.apply(attended));
    return tf.add(attended, this.postFeedforwardNorm.apply(computed));
  }
}

export class Gemma extends RotaryDecoder<GemmaConfig> {
  constructor(config: GemmaConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
