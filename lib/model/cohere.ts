/**
 * Cohere's models: Command R (Cohere 2024), which is Llama, but that a layer's attention and MLP read the same normalized states side by side (the
 * parallel block of GPT-J; Wang & Komatsuzaki 2021), that norms are those of layers (Ba et al. 2016) without biases, that the two features of a pair
 * that turns with the positions lie side by side, and that logits are scaled. Cohere 2 (Command R7B and Tiny Aya; Cohere 2024 and 2026) has a
 * sliding window in most layers; the others, usually every fourth, see everything and do not turn.
 */
import * as tf from '@tensorflow/tfjs-core';
import { ConfigReader, readModelConfig, readPaddingIdx, readTypedWindows } from './config';
import type { Origin } from './decoder';
import { GatedMlp } from './gated-mlp';
import { type ParameterList, times } from './layers';
import { Attention, type LlamaConfig } from './llama';
import { type RotaryAngles, readRope, ropePositionLimit } from './rope';
import { RotaryDecoder, type StateNorm, stateNorm } from './rotary-decoder';
import type { Family, ForwardPass } from './types';

export interface CohereConfig extends LlamaConfig {
  /** What logits are multiplied by. */
  readonly logitScale: number;
}

export function readCohereConfig(reader: ConfigReader): CohereConfig {
  if (reader.boolean('use_qk_norm', false)) throw reader.wrong('use_qk_norm', true, 'false, as in all but the largest model');
  return readAnyCohere(reader, 'cohere', 500000);
}

export function readCohere2Config(reader: ConfigReader): CohereConfig {
  const common = readAnyCohere(reader, 'cohere2', 10000);
  const windows = readWindows(reader, common.numHiddenLayers);
  return { ...common, windows, rotaryLayers: windows.map((window) => window !== undefined) };
}

function readAnyCohere(reader: ConfigReader, family: Family, theta: number): CohereConfig {
  const raw = { eos_token_id: 255001, ...reader.raw };
  const common = readModelConfig(new ConfigReader(raw, reader.place), family, {
    tieWordEmbeddings: true,
    maxPositionEmbeddings: 8192,
    dropout: { attention: { key: 'attention_dropout', missing: 0 } },
  });
  const rope = readRope(reader, common.headDim, common.maxPositionEmbeddings, { theta });
  const bias = reader.boolean('attention_bias', false);
  return {
    ...common,
    raw: reader.raw,
    paddingIdx: readPaddingIdx(reader, common.vocabSize, 0),
    positionLimit: ropePositionLimit(rope),
    hiddenAct: reader.activation('hidden_act', 'silu'),
    rmsNormEps: reader.notNegative('layer_norm_eps', 1e-5),
    norms: 'of layers',
    rope,
    rotaryLayers: new Array<boolean>(common.numHiddenLayers).fill(true),
    interleavedPairs: true,
    qkvBias: bias,
    outputBias: bias,
    mlpBias: false,
    windows: new Array<undefined>(common.numHiddenLayers).fill(undefined),
    attentionScale: common.headDim ** -0.5,
    logitScale: reader.positive('logit_scale', 0.0625),
  };
}

function readWindows(reader: ConfigReader, layers: number): Array<number | undefined> {
  const window = new ConfigReader({ sliding_window: 4096, ...reader.raw }, reader.place).count('sliding_window');
  const pattern = reader.count('sliding_window_pattern', 4);
  return readTypedWindows(
    reader,
    layers,
    (layer) => (layer + 1) % pattern !== 0,
    () => window,
  );
}

class Block {
  private readonly inputNorm: StateNorm;
  private readonly attention: Attention;
  private readonly mlp: GatedMlp;

  constructor(
    config: CohereConfig,
    private readonly layer: number,
    parameters: ParameterList,
  ) {
    const name = `model.layers.${layer}`;
    this.attention = new Attention(config, layer, parameters, `${name}.self_attn`);
    this.mlp = new GatedMlp(parameters, `${name}.mlp`, { ...config, bias: config.mlpBias });
    this.inputNorm = stateNorm(config, parameters, `${name}.input_layernorm`);
  }

  apply(x: tf.Tensor2D, angles: RotaryAngles, { attend, carry }: ForwardPass): tf.Tensor2D {
    const normalized = this.inputNorm.apply(x);
    const attended: tf.Tensor2D = tf.add(carry(this.layer, x), this.attention.apply(normalized, angles, attend));
    return tf.add(attended, this.mlp.apply(carry(this.layer, normalized)));
  }
}

export class Cohere extends RotaryDecoder<CohereConfig> {
  private readonly logitScale: number;

  constructor(config: CohereConfig, origin: Origin) {
    super(config, origin, Block);
    this.logitScale = config.logitScale;
  }

  protected override finish(x: tf.Tensor2D): tf.Tensor2D {
    // logits are products with these states, and so are multiplied with them
    return times(super.finish(x), this.logitScale);
  }
}
