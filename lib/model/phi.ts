/**
 * Phi (Gunasekar et al. 2023, "Textbooks Are All You Need"): phi-1, phi-1.5 and phi-2. GPT-NeoX's side-by-side attention and MLP, but both behind one
 * layer norm, with matrices of their own for queries, keys and values; a part of each head turns, and the output head has a bias, too.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type Activation, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, readModelConfig, readPaddingIdx, refuseOtherHeadDim } from './config';
import type { Origin } from './decoder';
import { type LayerNormConfig, LayerNormDecoder } from './layer-norm-decoder';
import type { LayerNorm, ParameterList } from './layers';
import { Mlp } from './mlp';
import { ParallelBlock } from './parallel-block';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import type { Attend } from './types';

export interface PhiConfig extends LayerNormConfig {
  readonly hiddenAct: Activation;
  /** Whether each head's queries and keys are normalized before they turn. */
  readonly qkLayernorm: boolean;
}

export function readPhiConfig(reader: ConfigReader): PhiConfig {
  const raw = { eos_token_id: 2, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'phi', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: {
      hidden: { key: 'resid_pdrop', missing: 0 },
      embeddings: { key: 'embd_pdrop', missing: 0 },
      attention: { key: 'attention_dropout', missing: 0 },
    },
  });
  const qkLayernorm = reader.boolean('qk_layernorm', false);
  // there transformers takes the norms of heads to be as wide as heads usually are
  if (qkLayernorm) refuseOtherHeadDim(reader, common);
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { partialRotaryFactor: 0.5 });
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'gelu_new'),
    layerNormEps: reader.notNegative('layer_norm_eps', 1e-5),
    rope,
    qkLayernorm,
  };
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly queryNorm?: LayerNorm;
  private readonly keyNorm?: LayerNorm;

  constructor(
    private readonly config: PhiConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { headDim, layerNormEps } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias: true, outputBias: true, outputName: 'dense' });
    if (!config.qkLayernorm) return;
    this.queryNorm = parameters.layerNorm(`${name}.q_layernorm`, headDim, layerNormEps);
    this.keyNorm = parameters.layerNorm(`${name}.k_layernorm`, headDim, layerNormEps);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(this.queryNorm?.applyToHeads(q, heads) ?? q, cos, sin, heads);
    const turnedK = rotary(this.keyNorm?.applyToHeads(k, kvHeads) ?? k, cos, sin, kvHeads);
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

class Block extends ParallelBlock {
  constructor(config: PhiConfig, layer: number, parameters: ParameterList) {
    const name = `model.layers.${layer}`;
    super(config, layer, {
      attention: new Attention(config, layer, parameters, `${name}.self_attn`),
      mlp: new Mlp(parameters, { up: `${name}.mlp.fc1`, down: `${name}.mlp.fc2` }, { ...config, activation: config.hiddenAct, bias: true }),
      norm: parameters.layerNorm(`${name}.input_layernorm`, config.hiddenSize, config.layerNormEps),
    });
  }
}

export class Phi extends LayerNormDecoder<PhiConfig> {
  constructor(config: PhiConfig, origin: Origin) {
    super(config, origin, Block, { norm: 'model.final_layernorm', headBias: true });
  }
}
