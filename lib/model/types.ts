/** What the rest of the library knows of a language model: its interface, its configuration, and the tokens it reads. */
import type * as tf from '@tensorflow/tfjs-core';
import type { AttentionOptions, Dropping, DroppingWeights, RecurrenceHeads, RecurrenceOperands, Segments, Shelf } from '../engine';
import type { Tokenizer } from '../text';
import type { ExpertsConfig } from './experts';
import type { Embedding, Linear, MatrixStack } from './layers';
import type { LoraAdapter } from './lora';
import type { InParts } from './parts';
import type { WeightDtype } from './weight-dtypes';

/**
 * The families; each is one file of this folder. Llama's also serves Mistral and Qwen2, and computes Mixtral, Qwen2-MoE, SmolLM3, Ministral 3, ERNIE 4.5,
 * the first OLMo and the first Gemma; OLMo 2's serves OLMo 3, and Granite's computes GraniteMoE and Granite 4.0, as Qwen3's does Qwen3-MoE, LFM2's
 * LFM2-MoE, Cohere's Cohere 2, and GLM's GLM-4 0414. What Gemma 2 and 3 share is in gemma.ts; Gemma 4's layers are in
 * gemma4.ts, its configuration in gemma4-config.ts.
 */
export type Family =
  | 'llama'
  | 'smollm3'
  | 'ernie4_5'
  | 'olmo'
  | 'olmo2'
  | 'olmoe'
  | 'granite'
  | 'granitemoe'
  | 'granitemoehybrid'
  | 'falcon_h1'
  | 'phi'
  | 'phi3'
  | 'stablelm'
  | 'mixtral'
  | 'lfm2'
  | 'lfm2_moe'
  | 'gpt_neox'
  | 'opt'
  | 'qwen2_moe'
  | 'qwen3'
  | 'qwen3_moe'
  | 'qwen3_5'
  | 'gemma'
  | 'gemma2'
  | 'gemma3'
  | 'gemma4'
  | 'nanochat'
  | 'hunyuan_v1_dense'
  | 'starcoder2'
  | 'ministral3'
  | 'exaone4'
  | 'cohere'
  | 'cohere2'
  | 'gpt2'
  | 'gpt_neo'
  | 'gpt_oss'
  | 'glm'
  | 'glm4'
  | 'gptj'
  | 'codegen'
  | 'gpt_bigcode'
  | 'bloom';

/** Tokens to read: examples laid end to end in one row, without padding. The caller disposes its tensors. */
export interface TokenBatch {
  /** int32 [tokens] */
  ids: tf.Tensor1D;
  /** int32 [tokens]; starts again in each segment: at 0, or behind the prefix that it borrows. */
  positions: tf.Tensor1D;
  segments: Segments;
  /** Tokens of the longest text, for which positions stretch (dynamic RoPE); it may be one of another row. */
  length: number;
  /** What is dropped of the hidden states while training. */
  dropout?: Dropping;
  /** And of the weights of each layer's attention, by the layer's number. */
  attentionDropout?: DroppingWeights;
}

/** `config.json`, parsed: what every family has. */
export interface ModelConfig {
  readonly family: Family;
  /** Hugging Face's own name: `llama`, `mistral`, `qwen2`, ... */
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Heads of keys and values; fewer than query heads in grouped-query attention. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  /** How many positions the model was made for; Infinity where it needs none (ALiBi). */
  readonly maxPositionEmbeddings: number;
  /** The longest sequence the model can read; Infinity where its positions stretch (dynamic RoPE), or it needs none (ALiBi). */
  readonly positionLimit: number;
  /**
   * Whether layers keep a state of their text: then no text can go on from another's beginning, and no token can be taken back.
   */
  readonly keepsState: boolean;
  /** Of models with experts in the place of the MLP, or beside it. */
  readonly experts?: ExpertsConfig;
  /** Whether the output head is the embedding table itself. */
  readonly tieWordEmbeddings: boolean;
  /** What logits are soft-capped by (`softCap`), where they are. */
  readonly finalLogitSoftcapping?: number;
  /** Standard deviation of fresh weights. */
  readonly initializerRange: number;
  /** Share of the hidden states that is dropped while training, behind each sublayer. */
  readonly hiddenDropout: number;
  /** The same of the embeddings. */
  readonly embeddingDropout: number;
  /** Share of the attentions' weights that is dropped while training. */
  readonly attentionDropout: number;
  /** Share of the layers that transformers would skip while training (OPT's). None is skipped here. */
  readonly layerdrop: number;
  /** Words of random numbers that each layer draws in training before it computes, and that change nothing (OPT's). */
  readonly wordsPerLayer: number;
  /** Words that transformers draws as it loads the model, and that change nothing, as the checkpoint has what they were drawn for (Qwen3.5's). */
  readonly wordsOfLoading: number;
  /** Ids that end a text, as the configuration has them; may be empty. */
  readonly eosTokenIds: readonly number[];
  /** The JSON as it was read; written back by `saveModel`. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** How a layer's tokens look at each other. */
export interface AttendOptions extends AttentionOptions {
  /** Share of the weights that is dropped while training. */
  dropout: number;
  /** Of each head one more score of which nothing is read (`attentionWithSinks`), where there are some; then nothing is dropped. */
  sinks?: tf.Tensor1D;
  /** The earlier layer whose keys and values these are, where they are not the layer's own. */
  keysOf?: number;
}

/** Lets a layer's tokens look at each other: along a packed row, or in the cache of a generation. */
export type Attend = (layer: number, q: tf.Tensor2D, k: tf.Tensor2D, v: tf.Tensor2D, options: AttendOptions) => tf.Tensor2D;

/**
 * Mixes each of a layer's tokens with its nearest before it, feature by feature (a short convolution); once for each layer that does.
 * @param x [tokens, features]
 * @param weights [taps, features]: for the own token, for the one before it, and so on
 * @returns rows of all tokens
 */
export type Convolve = (layer: number, x: tf.Tensor2D, weights: tf.Tensor2D) => tf.Tensor2D;

/**
 * What a short convolution reads, where it is taken out of a cache.
 * @param x [tokens, features]
 * @param count how many before each it reads, at least 1
 * @returns for each token the row of the one right before it in its text, that of the one before that, and so on; zeros where there is none
 */
export type Before = (layer: number, x: tf.Tensor2D, count: number) => tf.Tensor2D[];

/**
 * Lets a layer's tokens read and change the state of their text, where it keeps one (the gated delta rule, Mamba 2); once for each such layer, after `convolve`.
 * @returns what the tokens that `carry` takes on have read, [tokens, valueHeads·valueDim]
 */
export type Recur = (layer: number, operands: RecurrenceOperands, heads: RecurrenceHeads) => tf.Tensor2D;

/**
 * What of a layer's tokens goes on past its attention or convolution: all of them, but in the last layer perhaps only those whose final states
 * are read, since from there on no token looks at another.
 * @param x [tokens, features]
 */
export type Carry = (layer: number, x: tf.Tensor2D) => tf.Tensor2D;

/**
 * While training drops some of what a sublayer has computed; else changes nothing.
 * @param x [tokens, features]
 * @param place 0, 1, … for each sublayer of the model: each drops others
 * @param share that is dropped
 */
export type Drop = (x: tf.Tensor2D, place: number, share: number) => tf.Tensor2D;

/**
 * Told which experts a layer's tokens go through.
 * @param logits [tokens, experts] by which they were chosen; differentiable
 * @param chosen [tokens, experts]: 1 for each that was, else 0
 */
export type Routed = (layer: number, logits: tf.Tensor2D, chosen: tf.Tensor2D) => void;

/** One pass of tokens through a model. */
export interface ForwardPass {
  /** int32 [tokens] */
  ids: tf.Tensor1D;
  /** int32 [tokens] */
  positions: tf.Tensor1D;
  /** More than the largest position; the length of the longest text where positions stretch with it (dynamic RoPE). */
  length: number;
  /** Returns what the tokens that `carry` takes on have seen. */
  attend: Attend;
  convolve: Convolve;
  recur: Recur;
  carry: Carry;
  drop: Drop;
  /** Told which experts a layer's tokens go through, where it has any. */
  routed?: Routed;
  /** Where layers leave what later ones read beside the hidden states. */
  shelf: Shelf;
}

/** A pass as a chain: each part reads the [tokens, features] that the one before it returned. Each runs inside the caller's `tf.tidy`. */
export interface Stages {
  /** What the first layer reads. */
  embed(): tf.Tensor2D;
  layers: ReadonlyArray<(x: tf.Tensor2D) => tf.Tensor2D>;
  /** From the last layer's output to the final, normalized hidden states. */
  finish(x: tf.Tensor2D): tf.Tensor2D;
}

/** A causal language model with its tokenizer. */
export interface CausalLM {
  /** The file that implements it. */
  readonly family: Family;
  /** What `config.json` says of the model: its sizes, how far it can read. */
  readonly config: ModelConfig;
  /** Checkpoint names (as in safetensors) and their values, but for those in 4 bits; a tied head appears once, as the embedding. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** Names of matrices that checkpoints hold transposed, [in, out]. */
  readonly transposed: ReadonlySet<string>;
  /** Parameters that checkpoints hold in parts, by their names. */
  readonly inParts: ReadonlyMap<string, InParts>;
  /** How many numbers the weights are, those in 4 bits included; without an adapter's. */
  readonly numParameters: number;
  /** Linear layers by module name (`model.layers.0.self_attn.q_proj`); an adapter hangs itself in here. */
  readonly linears: ReadonlyMap<string, Linear>;
  /** What else an adapter can be added to, by the names of parameters in transformers: what experts have, and what chooses among them. */
  readonly stacks: ReadonlyMap<string, MatrixStack>;
  /** Tables that tokens are looked up in. */
  readonly embeddings: readonly Embedding[];
  /** The adapter that the layers compute with, if there is one: it is trained and saved in the place of the model's own weights. */
  adapter?: LoraAdapter;
  /** Turns texts into the ids that the model reads, and back. */
  readonly tokenizer: Tokenizer;
  /** The folder or Hub id that it came from. */
  readonly source: string;
  /** Branch, tag or commit that was asked for on the Hub, if one was. */
  readonly revision?: string;
  /** Local folder of the checkpoint's files, where there is one. */
  readonly directory?: string;
  /** generation_config.json as it was read, where there is one; written back by `saveModel`. */
  readonly generationConfig?: Uint8Array;
  /** Whether training or a merged adapter has made the weights others than those in the checkpoint. */
  weightsChanged?: boolean;
  /**
   * [vocabulary, features]: the weight of the output head; the embedding itself where tied. What comes of it is soft-capped as the configuration
   * says.
   */
  readonly outputHead: tf.Tensor2D;
  /** [vocabulary]: the bias of the output head, where it has one. */
  readonly outputBias?: tf.Tensor1D;
  /** Gives the output head a matrix of its own, with the same values, where it is the embedding; then each can be trained without the other. */
  untie(): void;
  /**
   * Final, normalized hidden states, [tokens, features], of which `logitsOf` (logits.ts) makes logits.
   * Differentiable. Runs inside the caller's `tf.tidy`.
   * @param places int32 [tokens]: the tokens of the row whose states are wanted; what only others need of the last layer is left out.
   *   All of them where absent.
   */
  hiddenStates(batch: TokenBatch, places?: tf.Tensor1D): tf.Tensor2D;
  /** The same with another way of attending; generation uses it. */
  forward(pass: ForwardPass): tf.Tensor2D;
  /** The same in parts, for who wants to do something between the layers. Runs inside the caller's `tf.tidy`. */
  stages(pass: ForwardPass): Stages;
  /** Frees every tensor of the model. */
  dispose(): void;
}

/** Number format of a saved checkpoint. */
export type SavedDtype = 'float32' | 'float16' | 'bfloat16';

/** How far loading has come. */
export interface LoadProgress {
  /** From the Hub to the disk, or from the disk into memory. */
  stage: 'download' | 'load';
  /** The file at hand. */
  file: string;
  /** Bytes so far, of all files. */
  loaded: number;
  /** Bytes of all files. */
  total: number;
}

export interface LoadOptions {
  /**
   * Number format in which the weights of the linear layers are kept; `auto` is that of the checkpoint. In 16 bits they take half the memory, for
   * training an adapter beside them; products are computed in float32 all the same. The output head stays in float32. Experts (but gpt-oss's), and
   * the table in which layers look tokens up (Gemma 4), are kept so, too. Default float32.
   */
  dtype?: WeightDtype;
  onProgress?: (progress: LoadProgress) => void;
  /** Git revision on the Hub. */
  revision?: string;
  /**
   * Whether the weights of the linear layers are kept in 4 bits (NF4), in an eighth of the memory, for training an adapter beside them (QLoRA;
   * transformers' `load_in_4bit`). The output head stays in float32, and so does a layer whose weights are no multiple of 64. Default false.
   */
  loadIn4bit?: boolean;
  /**
   * The token that ends a text, in the place of the one that the tokenizer names (TRL's `eos_token`): `<|im_end|>` for a base model that is to
   * learn a chat template. It is saved with the model.
   */
  eosToken?: string;
  /**
   * The folder or Hub id of another model, such as a chat model, whose chat template and EOS token this one takes, with all added tokens that it
   * lacks (TRL's `chat_template_path`): vocabulary, embedding and output head grow by them, up to a multiple of 64. They are saved with the
   * model.
   */
  chatTemplateFrom?: string;
}

export interface CreateOptions {
  /** Same seed, same weights. */
  seed: number;
  tokenizer: Tokenizer;
}

export interface SaveOptions {
  /** Default float32. */
  dtype?: SavedDtype;
}
