/**
 * What Llama and most models after it are made of: embeddings, blocks whose attention turns queries and keys by their positions, a last root mean
 * square norm, and the output head.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { Decoder, type Origin } from './decoder';
import { type Embedding, LayerNorm, type OutputHead, ParameterList, RmsNorm } from './layers';
import { type RopeConfig, type RotaryAngles, RotaryEmbedding } from './rope';
import type { ForwardPass, ModelConfig, Stages } from './types';

export interface RotaryConfig extends ModelConfig {
  /** The token whose embedding learns nothing from being read. */
  readonly paddingIdx?: number;
  /** What rows of the embedding are multiplied by. Default 1. */
  readonly embeddingScale?: number;
  /** What norms add to the square of what they divide by. */
  readonly rmsNormEps: number;
  /**
   * Where checkpoints hold the weights of norms as what they differ from 1 by, norms have none, or are those of layers: without biases, or without
   * weights, too.
   */
  readonly norms?: 'around one' | 'without weights' | 'of layers' | 'of layers, without weights';
  readonly rope: RopeConfig;
  /** Of the layers with a window, where they turn otherwise than the rest. */
  readonly slidingRope?: RopeConfig;
  /** Sliding window of each layer; undefined: the layer sees everything before it. */
  readonly windows: ReadonlyArray<number | undefined>;
}

/** One layer: attention, or what is in its place, and MLP with their norms. */
export interface RotaryBlock {
  /** @param x [tokens, features] */
  apply(x: tf.Tensor2D, angles: RotaryAngles, pass: ForwardPass): tf.Tensor2D;
}

/** The class of a family's blocks. */
export type RotaryBlocks<C> = new (config: C, layer: number, parameters: ParameterList) => RotaryBlock;

export class RotaryDecoder<C extends RotaryConfig> extends Decoder {
  private readonly embedTokens: Embedding;
  private readonly blocks: readonly RotaryBlock[];
  protected readonly norm: StateNorm;
  protected readonly head: OutputHead;
  private readonly rotaryEmbedding: RotaryEmbedding;
  private readonly slidingRotaryEmbedding?: RotaryEmbedding;
  private readonly windows: RotaryConfig['windows'];

  /** @param names of checkpoints, where they are others than Llama's */
  constructor(config: C, origin: Origin, Block: RotaryBlocks<C>, { norm = 'model.norm' } = {}) {
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, paddingIdx, embeddingScale: scale, rope, slidingRope } = config;
    this.embedTokens = parameters.embedding('model.embed_tokens', vocabSize, hiddenSize, { paddingIdx, scale });
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters));
    this.norm = stateNorm(config, parameters, norm);
    this.head = parameters.outputHead('lm_head', this.embedTokens, { tied: config.tieWordEmbeddings });
    this.rotaryEmbedding = new RotaryEmbedding(rope);
    this.slidingRotaryEmbedding = slidingRope && new RotaryEmbedding(slidingRope);
    this.windows = config.windows;
  }

  stages(pass: ForwardPass): Stages {
    const angles = this.rotaryEmbedding.angles(pass.positions, pass.length);
    const slidingAngles = this.slidingRotaryEmbedding?.angles(pass.positions, pass.length) ?? angles;
    const anglesOf = (layer: number): RotaryAngles => (this.windows[layer] === undefined ? angles : slidingAngles);
    return {
      embed: () => this.embed(pass.ids),
      layers: this.blocks.map((block, layer) => (x) => block.apply(x, anglesOf(layer), pass)),
      finish: (x) => this.finish(x),
    };
  }

  /** What the first block reads, [tokens, features]. @param ids int32 [tokens] */
  protected embed(ids: tf.Tensor1D): tf.Tensor2D {
    return this.embedTokens.apply(ids);
  }

  /** The final hidden states. @param x what the last block gives, [tokens, features] */
  protected finish(x: tf.Tensor2D): tf.Tensor2D {
    return this.norm.apply(x);
  }

  override dispose(): void {
    super.dispose();
    this.rotaryEmbedding.dispose();
    this.slidingRotaryEmbedding?.dispose();
  }
}

/** A norm of hidden states. */
export type StateNorm = RmsNorm | LayerNorm;

/** One, as checkpoints of the family hold its weights. */
export function stateNorm({ norms, hiddenSize, rmsNormEps }: RotaryConfig, parameters: ParameterList, name: string): StateNorm {
  if (norms === 'of layers') return parameters.layerNormWithoutBias(name, hiddenSize, rmsNormEps);
  if (norms === 'of layers, without weights') return new LayerNorm(undefined, undefined, rmsNormEps);
  if (norms === 'without weights') return new RmsNorm(undefined, rmsNormEps);
  return parameters[norms === 'around one' ? 'rmsNormAroundOne' : 'rmsNorm'](name, hiddenSize, rmsNormEps);
}
