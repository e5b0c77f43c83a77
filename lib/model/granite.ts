/**
 * Granite (IBM 2024), the dense models: Llama, but that embeddings, scores, what each sublayer adds, and logits are scaled by numbers of the
 * configuration, as in µP (Yang et al. 2022, "Tensor Programs V"). Those of Granite 4.0 (granite-moe-hybrid.ts reads their configuration) have the
 * two factors of the gated MLP in one matrix, and may keep states by Mamba 2 in the place of attention.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { Experts, type ExpertsConfig, readExperts } from './experts';
import { FusedGatedMlp, GatedMlp } from './gated-mlp';
import { type ParameterList, type RmsNorm, times } from './layers';
import { Attention, type LlamaConfig } from './llama';
import { Mamba2, type Mamba2Config } from './mamba2';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import type { ForwardPass } from './types';

export interface GraniteConfig extends LlamaConfig {
  /** What embeddings are multiplied by. */
  readonly embeddingMultiplier: number;
  /** What the output of each attention and MLP is multiplied by before it is added. */
  readonly residualMultiplier: number;
  /** What logits are divided by. */
  readonly logitsScaling: number;
  /** Of the layers with a state, if there are any. */
  readonly mamba?: Mamba2Config & { readonly layers: readonly boolean[] };
}

export function readGraniteConfig(reader: ConfigReader): GraniteConfig {
  const raw = { eos_token_id: 2, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), 'granite', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 2048,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const attentionBias = reader.boolean('attention_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-6),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: reader.boolean('mlp_bias', false),
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: reader.positive('attention_multiplier', 1),
    embeddingMultiplier: reader.positive('embedding_multiplier', 1),
    residualMultiplier: reader.positive('residual_multiplier', 1),
    logitsScaling: reader.positive('logits_scaling', 1),
  };
}

/** Granite 3.x with experts (GraniteMoeForCausalLM): Granite, but that experts are in the place of the MLP. */
export function readGraniteMoeConfig(reader: ConfigReader): GraniteConfig {
  const config = readGraniteConfig(new ConfigReader({ ...reader.raw, mlp_bias: false }, reader.place));
  return { ...config, family: 'granitemoe', raw: reader.raw, experts: readGraniteExperts(reader, config) };
}

/** @param config of the model, but with the experts' own `intermediateSize` */
export function readGraniteExperts(
  reader: ConfigReader,
  { intermediateSize, numHiddenLayers }: Pick<GraniteConfig, 'intermediateSize' | 'numHiddenLayers'>,
): ExpertsConfig {
  const counts = readExperts(reader, { key: 'num_local_experts', fallback: 8, perToken: 2 });
  return { ...counts, normalized: true, intermediateSize, layers: new Array<boolean>(numHiddenLayers).fill(true) };
}

class Block {
  private readonly inputNorm: RmsNorm;
  private readonly mixer: Attention | Mamba2;
  private readonly postAttentionNorm: RmsNorm;
  private readonly mlp?: GatedMlp | FusedGatedMlp;
  private readonly experts?: Experts;

  constructor(
    private readonly config: GraniteConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    this.inputNorm = parameters.rmsNorm(`${name}.input_layernorm`, config.hiddenSize, config.rmsNormEps);
    // declared where transformers' class has it, since adapters draw what they begin with in that order
    const shared =
      config.family === 'granitemoehybrid'
        ? new FusedGatedMlp(parameters, { gateUp: `${name}.shared_mlp.input_linear`, down: `${name}.shared_mlp.output_linear` }, config)
        : undefined;
    const { experts, mamba, hiddenSize, rmsNormEps: eps } = config;
    this.mixer = mamba?.layers[layer]
      ? new Mamba2(mamba, { hiddenSize, norm: { eps, groups: 1, beforeGate: false } }, layer, parameters, `${name}.mamba`)
      : new Attention(config, layer, parameters, `${name}.self_attn`);
    this.postAttentionNorm = parameters.rmsNorm(`${name}.post_attention_layernorm`, config.hiddenSize, config.rmsNormEps);
    const moe = `${name}.block_sparse_moe`;
    const names = { router: `${moe}.router.layer.weight`, gateUp: `${moe}.input_linear.weight`, down: `${moe}.output_linear.weight` };
    this.experts = experts && new Experts({ ...experts, hiddenSize }, layer, parameters, names);
    this.mlp = experts ? shared : (shared ?? new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: config.mlpBias }));
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const { residualMultiplier } = this.config;
    const normalized = this.inputNorm.apply(x);
    const mixed = this.mixer instanceof Mamba2 ? this.mixer.apply(normalized, pass) : this.mixer.apply(normalized, angles, pass.attend);
    const summed: tf.Tensor2D = tf.add(pass.carry(this.layer, x), times(mixed, residualMultiplier));
    return tf.add(summed, times(this.feedForward(this.postAttentionNorm.apply(summed), pass), residualMultiplier));
  }

  /** Through the MLP, the experts, or the sum of both. */
  private feedForward(x: tf.Tensor2D, pass: ForwardPass): tf.Tensor2D {
    if (!this.experts) return (this.mlp as GatedMlp | FusedGatedMlp).apply(x);
    const routed = this.experts.apply(x, pass);
    return this.mlp ? tf.add(routed, this.mlp.apply(x)) : routed;
  }
}

export class Granite extends RotaryDecoder<GraniteConfig> {
  private readonly scales: Pick<GraniteConfig, 'embeddingMultiplier' | 'logitsScaling'>;

  constructor(config: GraniteConfig, origin: Origin) {
    super(config, origin, Block);
    this.scales = config;
  }

  protected override embed(ids: tf.Tensor1D): tf.Tensor2D {
    // noise of the training (NEFTune) is in the embeddings already, and scaled with them
    return times(super.embed(ids), this.scales.embeddingMultiplier);
  }

  protected override finish(x: tf.Tensor2D): tf.Tensor2D {
    // logits are products with these states, and so are divided with them
    return times(super.finish(x), 1 / this.scales.logitsScaling);
  }
}
