/** What GPT-J, CodeGen, GPT-NeoX, Phi, StableLM and StarCoder2 are made of: embeddings, blocks that turn queries and keys by their positions, a last layer norm, and the output head. */
import type * as tf from '@tensorflow/tfjs-core';
import { Decoder, type Origin } from './decoder';
import { type Embedding, type LayerNorm, type OutputHead, ParameterList } from './layers';
import { type RopeConfig, RotaryEmbedding } from './rope';
import type { RotaryBlock, RotaryBlocks } from './rotary-decoder';
import type { ForwardPass, ModelConfig, Stages } from './types';

export interface LayerNormConfig extends ModelConfig {
  /** The token whose embedding learns nothing from being read. */
  readonly paddingIdx?: number;
  readonly layerNormEps: number;
  readonly rope: RopeConfig;
}

/** What checkpoints call the parts, and what a family has beside them. */
export interface LayerNormParts {
  embedding?: string;
  norm?: string;
  head?: string;
  /** Whether the output head has a bias. Default false. */
  headBias?: boolean;
}

export class LayerNormDecoder<C extends LayerNormConfig> extends Decoder {
  private readonly embedTokens: Embedding;
  private readonly blocks: readonly RotaryBlock[];
  private readonly finalNorm: LayerNorm;
  protected readonly head: OutputHead;
  private readonly rotaryEmbedding: RotaryEmbedding;

  constructor(config: C, origin: Origin, Block: RotaryBlocks<C>, parts: LayerNormParts = {}) {
    const { embedding = 'model.embed_tokens', norm = 'model.norm', head = 'lm_head', headBias: bias } = parts;
    const parameters = new ParameterList();
    super(config, parameters, origin);
    const { vocabSize, hiddenSize, paddingIdx } = config;
    this.embedTokens = parameters.embedding(embedding, vocabSize, hiddenSize, { paddingIdx });
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, layer) => new Block(config, layer, parameters));
    this.finalNorm = parameters.layerNorm(norm, hiddenSize, config.layerNormEps);
    this.head = parameters.outputHead(head, this.embedTokens, { tied: config.tieWordEmbeddings, bias });
    this.rotaryEmbedding = new RotaryEmbedding(config.rope);
  }

  stages(pass: ForwardPass): Stages {
    const angles = this.rotaryEmbedding.angles(pass.positions, pass.length);
    return {
      embed: () => pass.drop(this.embedTokens.apply(pass.ids), 0, this.config.embeddingDropout),
      layers: this.blocks.map((block) => (x: tf.Tensor2D) => block.apply(x, angles, pass)),
      finish: (x) => this.finalNorm.apply(x),
    };
  }

  override dispose(): void {
    super.dispose();
    this.rotaryEmbedding.dispose();
  }
}
