/**
 * StableLM (Tow et al. 2023, "StableLM 3B 4E1T"; Bellagente et al. 2024, "Stable LM 2"): Llama with layer norms in the place of root mean square norms.
 * A part of each head turns; the largest, 12B, normalizes each head's queries and keys by weights of that head's own, and has attention and MLP
 * side by side behind one norm.
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Activation, layerNorm, rotary } from '../engine';
import { AttentionProjections } from './attention-projections';
import { ConfigReader, readModelConfig, readPaddingIdx, refuseOtherHeadDim } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import { type LayerNormConfig, LayerNormDecoder } from './layer-norm-decoder';
import { inHeads, type LayerNorm, type Parameter, type ParameterList } from './layers';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import type { RotaryBlock } from './rotary-decoder';
import type { Attend, ForwardPass } from './types';

export interface StableLmConfig extends LayerNormConfig {
  readonly hiddenAct: Activation;
  /** Biases on the projections of queries, keys and values. */
  readonly qkvBias: boolean;
  /** Whether each head's queries and keys are normalized before they turn. */
  readonly qkLayernorm: boolean;
  /** Whether attention and MLP read the same normalized input and add up, or follow each other. */
  readonly useParallelResidual: boolean;
}

export function readStableLmConfig(reader: ConfigReader): StableLmConfig {
  const raw = { eos_token_id: 0, num_key_value_heads: 32, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'stablelm', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 4096,
    dropout: { hidden: { key: 'hidden_dropout', missing: 0 }, attention: { key: 'attention_dropout', missing: 0 } },
  });
  refuseOtherHeadDim(reader, common);
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { partialRotaryFactor: 0.25 });
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    layerNormEps: reader.notNegative('layer_norm_eps', 1e-5),
    rope,
    qkvBias: reader.boolean('use_qkv_bias', false),
    qkLayernorm: reader.boolean('qk_layernorm', false),
    useParallelResidual: reader.boolean('use_parallel_residual', false),
  };
}

/** Layer norms without biases, one for each head. */
class NormsOfHeads {
  /** A row for each head, which checkpoints hold as a vector each. */
  private readonly weights: Parameter<tf.Rank.R2>;
  private readonly eps: number;

  constructor(
    parameters: ParameterList,
    name: string,
    private readonly heads: number,
    { headDim, layerNormEps }: StableLmConfig,
  ) {
    this.eps = layerNormEps;
    const parts = Array.from({ length: heads }, (_, head) => `${name}.norms.${head}.weight`);
    this.weights = parameters.rows(`${name}.norms.weight`, [heads, headDim], parts);
  }

  apply(x: tf.Tensor2D): tf.Tensor2D {
    const { shape, tensor } = this.weights;
    const [one, nothing] = [1, 0].map((value) => tf.fill([shape[1]], value) as tf.Tensor1D);
    const normalized = layerNorm(inHeads(x, this.heads), one, nothing, this.eps);
    return tf.mul(tf.reshape(normalized, x.shape), tf.reshape(tensor, [x.shape[1]]));
  }
}

class Attention {
  private readonly projections: AttentionProjections;
  private readonly queryNorms?: NormsOfHeads;
  private readonly keyNorms?: NormsOfHeads;

  constructor(
    private readonly config: StableLmConfig,
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { qkvBias, qkLayernorm, numAttentionHeads, numKeyValueHeads } = config;
    this.projections = new AttentionProjections(parameters, name, config, { qkvBias, outputBias: false });
    if (!qkLayernorm) return;
    this.queryNorms = new NormsOfHeads(parameters, `${name}.q_layernorm`, numAttentionHeads, config);
    this.keyNorms = new NormsOfHeads(parameters, `${name}.k_layernorm`, numKeyValueHeads, config);
  }

  apply(x: tf.Tensor2D, { cos, sin }: RotaryAngles, attend: Attend): tf.Tensor2D {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, headDim, attentionDropout: dropout } = this.config;
    const { q, k, v } = this.projections.apply(x);
    const turnedQ = rotary(this.queryNorms?.apply(q) ?? q, cos, sin, heads);
    const turnedK = rotary(this.keyNorms?.apply(k) ?? k, cos, sin, kvHeads);
    return this.projections.output(attend(this.layer, turnedQ, turnedK, v, { heads, kvHeads, scale: headDim ** -0.5, dropout }));
  }
}

class Block implements RotaryBlock {
  private readonly attention: Attention;
  private readonly mlp: GatedMlp;
  private readonly inputNorm: LayerNorm;
  /** What the MLP reads through, where it follows the attention. */
  private readonly postAttentionNorm?: LayerNorm;

  constructor(
    private readonly config: StableLmConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const { hiddenSize, layerNormEps, useParallelResidual } = config;
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: false });
    this.inputNorm = parameters.layerNorm(`${name}.input_layernorm`, hiddenSize, layerNormEps);
    if (!useParallelResidual) this.postAttentionNorm = parameters.layerNorm(`${name}.post_attention_layernorm`, hiddenSize, layerNormEps);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry, drop }: ForwardPass): tf.Tensor2D {
    const normalized = this.inputNorm.apply(x);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.attention.apply(normalized, angles, attend));
    const mlpInput = this.postAttentionNorm?.apply(attended) ?? carry(this.layer, normalized);
    return tf.add(attended, drop(this.mlp.apply(mlpInput), this.layer + 1, this.config.hiddenDropout));
  }
}

export class StableLm extends LayerNormDecoder<StableLmConfig> {
  constructor(config: StableLmConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
