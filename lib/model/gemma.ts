/**
 * What Gemma 2 and 3 are made of (Gemma team 2024 and 2025): Llama with a norm before and one behind each sublayer, whose output is normalized
 * before it is added, and layers of two kinds, some of which see a sliding window. Gemma 2 soft-caps scores and logits; Gemma 3 normalizes
 * queries and keys.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import type { Origin } from './decoder';
import type { ParameterList, RmsNorm } from './layers';
import type { RotaryAngles } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import { SandwichBlock, type SandwichConfig } from './sandwich-block';
import type { Attend } from './types';

export interface GemmaConfig extends SandwichConfig {
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

class Block extends SandwichBlock<GemmaConfig> {
  constructor(config: GemmaConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Gemma extends RotaryDecoder<GemmaConfig> {
  constructor(config: GemmaConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
