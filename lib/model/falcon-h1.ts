/**
 * Falcon-H1 (TII 2025): in each layer tokens attend and keep a state by Mamba 2, side by side, and what both find is added. Parts of it are
 * scaled by numbers of the configuration, as in µP (Yang et al. 2022, "Tensor Programs V").
 */
import * as tf from '@tensorflow/tfjs-core';
import { ConfigReader, readModelConfig, readPaddingIdx } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import { type ParameterList, type RmsNorm, times } from './layers';
import { Attention, type LlamaConfig } from './llama';
import { Mamba2, type Mamba2Config, readMamba2Config } from './mamba2';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { RotaryDecoder } from './rotary-decoder';
import type { ForwardPass } from './types';

export interface FalconH1Config extends LlamaConfig {
  readonly mamba: Mamba2Config;
  /** Whether states are normalized before their gate, or behind it; undefined where they are not. */
  readonly mambaNorm?: 'before gate' | 'behind gate';
  readonly multipliers: {
    readonly embedding: number;
    readonly logits: number;
    readonly attentionIn: number;
    readonly attentionOut: number;
    /** Of keys. */
    readonly key: number;
    readonly mambaIn: number;
    readonly mambaOut: number;
    /** Of the parts of what goes into Mamba: gate, x, B, C, and time step. */
    readonly mambaParts: readonly number[];
    /** Of the MLP's gate and of its output. */
    readonly mlp: readonly number[];
  };
}

export function readFalconH1Config(reader: ConfigReader): FalconH1Config {
  const { raw, place } = reader;
  const filled = { num_key_value_heads: 8, intermediate_size: 14336, eos_token_id: 2, ...raw };
  const common = readModelConfig(new ConfigReader(filled, place), 'falcon_h1', {
    tieWordEmbeddings: false,
    maxPositionEmbeddings: 8192,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings);
  const multipliers = readMultipliers(reader);
  const attentionBias = reader.boolean('attention_bias', false);
  const width = raw.mamba_d_ssm === null ? reader.count('mamba_expand', 2) * common.hiddenSize : reader.count('mamba_d_ssm', 1024);
  const normBefore = reader.boolean('mamba_norm_before_gate', true);
  return {
    ...common,
    raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    keepsState: true,
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('rms_norm_eps', 1e-5),
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    qkvBias: attentionBias,
    outputBias: attentionBias,
    mlpBias: reader.boolean('mlp_bias', false),
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    // scores are products with the keys, and so are multiplied with them
    attentionScale: common.headDim ** -0.5 * multipliers.key,
    mamba: readMamba2Config(reader, { width, outBias: 'projectors_bias' }),
    mambaNorm: reader.boolean('mamba_rms_norm', false) ? (normBefore ? 'before gate' : 'behind gate') : undefined,
    multipliers,
  };
}

function readMultipliers(reader: ConfigReader): FalconH1Config['multipliers'] {
  const factor = (name: string): number => reader.positive(`${name}_multiplier`, 1);
  return {
    ...{ embedding: factor('embedding'), logits: factor('lm_head'), key: factor('key') },
    ...{ attentionIn: factor('attention_in'), attentionOut: factor('attention_out') },
    ...{ mambaIn: factor('ssm_in'), mambaOut: factor('ssm_out') },
    mambaParts: readFactors(reader, 'ssm_multipliers', 5),
    mlp: readFactors(reader, 'mlp_multipliers', 2),
  };
}

function readFactors(reader: ConfigReader, key: string, count: number): number[] {
  const factors = reader.get(key) ?? new Array<number>(count).fill(1);
  const isFactor = (factor: unknown): factor is number => typeof factor === 'number' && factor > 0;
  if (Array.isArray(factors) && factors.length === count && factors.every(isFactor)) return factors;
  throw reader.wrong(key, factors, `${count} numbers above 0`);
}

class Block {
  private readonly feedForward: GatedMlp;
  private readonly mamba: Mamba2;
  private readonly attention: Attention;
  private readonly inputNorm: RmsNorm;
  private readonly preFfNorm: RmsNorm;

  constructor(
    private readonly config: FalconH1Config,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    const { hiddenSize, rmsNormEps: eps, mamba, mambaNorm } = config;
    const [gate, down] = config.multipliers.mlp;
    const mlp = { ...config, bias: config.mlpBias, multipliers: { gate, down }, upFirst: true };
    this.feedForward = new GatedMlp(parameters, `${name}.feed_forward`, mlp);
    const norm = mambaNorm && { eps, groups: mamba.groups, beforeGate: mambaNorm === 'before gate' };
    const options = { hiddenSize, norm, multipliers: config.multipliers.mambaParts };
    this.mamba = new Mamba2(mamba, options, layer, parameters, `${name}.mamba`);
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.inputNorm = parameters.rmsNorm(`${name}.input_layernorm`, hiddenSize, eps);
    this.preFfNorm = parameters.rmsNorm(`${name}.pre_ff_layernorm`, hiddenSize, eps);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D {
    const { mambaIn, mambaOut, attentionIn, attentionOut } = this.config.multipliers;
    const normalized = this.inputNorm.apply(x);
    const kept = times(this.mamba.apply(times(normalized, mambaIn), pass), mambaOut);
    const seen = times(this.attention.apply(times(normalized, attentionIn), angles, pass.attend), attentionOut);
    const summed: tf.Tensor2D = tf.add(pass.carry(this.layer, x), tf.add(kept, seen));
    return tf.add(summed, this.feedForward.apply(this.preFfNorm.apply(summed)));
  }
}

export class FalconH1 extends RotaryDecoder<FalconH1Config> {
  private readonly multipliers: FalconH1Config['multipliers'];

  constructor(config: FalconH1Config, origin: Origin) {
    super(config, origin, Block, { norm: 'model.final_layernorm' });
    this.multipliers = config.multipliers;
  }

  protected override embed(ids: tf.Tensor1D): tf.Tensor2D {
    // noise of the training (NEFTune) is in the embeddings already, and scaled with them
    return times(super.embed(ids), this.multipliers.embedding);
  }

  protected override finish(x: tf.Tensor2D): tf.Tensor2D {
    // logits are products with these states, and so are multiplied with them
    return times(super.finish(x), this.multipliers.logits);
  }
}
