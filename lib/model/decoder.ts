/** What all families share: owning parameters, and reading packed rows. */
import * as tf from '@tensorflow/tfjs-core';
import { printed } from '../display';
import { UserError } from '../errors';
import type { Tokenizer } from '../text';
import { carryOnly, packedPass } from './batch';
import { compactName } from './compact-weights';
import { withoutTie } from './config';
import type { Embedding, Linear, MatrixStack, OutputHead, ParameterList } from './layers';
import type { LoraAdapter } from './lora';
import type { InParts } from './parts';
import type { CausalLM, Family, ForwardPass, ModelConfig, Stages, TokenBatch } from './types';

/** Where a model came from. */
export interface Origin {
  tokenizer: Tokenizer;
  source: string;
  revision?: string;
  directory?: string;
  generationConfig?: Uint8Array;
}

/** A decoder-only model; a family adds its modules and `stages`. */
export abstract class Decoder implements CausalLM {
  readonly family: Family;
  readonly tokenizer: Tokenizer;
  readonly source: string;
  readonly revision?: string;
  readonly directory?: string;
  readonly generationConfig?: Uint8Array;
  readonly linears: ReadonlyMap<string, Linear>;
  readonly stacks: ReadonlyMap<string, MatrixStack>;
  readonly embeddings: readonly Embedding[];
  adapter?: LoraAdapter;
  weightsChanged?: boolean;
  private variables?: ReadonlyMap<string, tf.Variable>;

  constructor(
    public config: ModelConfig,
    /** Declared by the family's modules, filled by the loader. */
    readonly declared: ParameterList,
    origin: Origin,
  ) {
    this.family = config.family;
    this.tokenizer = origin.tokenizer;
    this.source = origin.source;
    this.revision = origin.revision;
    this.directory = origin.directory;
    this.generationConfig = origin.generationConfig;
    this.linears = declared.linears;
    this.stacks = declared.stacks;
    this.embeddings = declared.embeddings;
  }

  protected abstract readonly head: OutputHead;
  abstract stages(pass: ForwardPass): Stages;

  get parameters(): ReadonlyMap<string, tf.Variable> {
    if (this.variables) return this.variables;
    const inFloats = [...this.declared.all.values()].filter(({ compact }) => !compact);
    this.variables = new Map(inFloats.map(({ name, value }) => [name, value]));
    return this.variables;
  }

  get transposed(): ReadonlySet<string> {
    return new Set([...this.declared.all.values()].filter(({ transposed }) => transposed).map(({ name }) => name));
  }

  get inParts(): ReadonlyMap<string, InParts> {
    return new Map([...this.declared.all.values()].flatMap(({ name, shape, parts: names }) => (names ? [[name, { shape, names }]] : [])));
  }

  get numParameters(): number {
    return countOf([...this.declared.all.values()].filter(({ isTrained }) => isTrained));
  }

  get outputHead(): tf.Tensor2D {
    return this.head.tensor;
  }

  get outputBias(): tf.Tensor1D | undefined {
    return this.head.bias?.tensor;
  }

  untie(): void {
    if (!this.config.tieWordEmbeddings) return;
    this.head.untie();
    this.config = { ...this.config, tieWordEmbeddings: false, raw: withoutTie(this.config.raw) };
    this.variables = undefined;
  }

  /** For families with a table of positions. @throws UserError when a text is longer than it */
  protected checkLength(length: number): void {
    const { maxPositionEmbeddings } = this.config;
    if (length <= maxPositionEmbeddings) return;
    throw new UserError(
      `A sequence of ${length} tokens is longer than the ${maxPositionEmbeddings} positions of ${this.source}; shorten it or lower max_length.`,
    );
  }

  hiddenStates(batch: TokenBatch, places?: tf.Tensor1D): tf.Tensor2D {
    return tf.tidy(() => this.forward(packedPass(batch, places && carryOnly(places, this.config))));
  }

  forward(pass: ForwardPass): tf.Tensor2D {
    this.adapter?.prepare();
    const { embed, layers, finish } = this.stages(pass);
    let x = embed();
    for (const layer of layers) x = layer(x);
    return finish(x);
  }

  /** `llama model: 2.3 million parameters, 4 layers, from ../data/base`, where it is a cell's last expression. */
  [printed](): string {
    const { modelType, numHiddenLayers: layers } = this.config;
    const parameters = shownCount(this.numParameters);
    const adapter = this.adapter ? `, with an adapter of ${shownCount(countOf([...this.adapter.parameters.values()]))}` : '';
    const name = compactName(this);
    const compact = name === undefined ? '' : ` in ${name}`;
    return `${modelType} model: ${parameters} parameters${compact}${adapter}, ${layers} layer${layers === 1 ? '' : 's'}, from ${this.source}`;
  }

  dispose(): void {
    this.adapter?.dispose();
    this.adapter = undefined;
    for (const parameter of this.declared.all.values()) parameter.dispose();
  }
}

/** How many numbers tensors have together. */
function countOf(tensors: ReadonlyArray<{ shape: readonly number[] }>): number {
  return tensors.reduce((sum, { shape }) => sum + shape.reduce((product, n) => product * n, 1), 0);
}

/** `81,920` or `2.3 million`. */
function shownCount(count: number): string {
  return count < 1e6 ? count.toLocaleString('en') : `${(count / 1e6).toFixed(1)} million`;
}
