/** The layers that all families are made of: parameters with checkpoint names, and the modules around them. */
import * as tf from '@tensorflow/tfjs-core';
import {
  type CompactMatrix,
  compactLinear,
  compactRows,
  computeRecorded,
  disposeCompact,
  embedding,
  type Factors,
  type HalfMatrix,
  layerNorm,
  linear,
  ownedVariable,
  rmsNorm,
} from '../engine';
import { usualName } from './names';

/**
 * How a parameter starts in a fresh model: normal with the configuration's deviation, a constant, as decays do (`DECAYS`), or as the logarithms of
 * 1, 2, 3, ….
 */
export type Initializer = 'normal' | 'zeros' | 'ones' | 'decay' | 'logarithms';

/** A decay starts as the logarithm of an even number from the first to the second of these (as in Mamba 2; Dao & Gu 2024). */
export const DECAYS = [0.01, 16] as const;

/** A named tensor that is trained. Declared with its shape when the model is built, filled when the weights arrive. */
export class Parameter<R extends tf.Rank = tf.Rank> {
  /** Whether it is trained. A buffer, as PyTorch calls what is not, is part of checkpoints all the same. */
  isTrained = true;
  private filled?: tf.Variable<R>;
  private rounded?: CompactMatrix;

  constructor(
    readonly name: string,
    readonly shape: tf.ShapeMap[R],
    readonly initializer: Initializer,
    /** Whether checkpoints hold it transposed, [in, out]. */
    readonly transposed = false,
    /** What checkpoints call its parts, one below the other, where they hold it so (parts.ts). */
    readonly parts?: readonly string[],
  ) {}

  /** The trained variable itself. */
  get value(): tf.Variable<R> {
    if (!this.filled) throw new Error(`The parameter ${this.name} has no value ${this.rounded ? 'in float32' : 'yet'}.`);
    return this.filled;
  }

  /** What it has in the place of a value that is trained: a matrix of few bits, which stays as it is. */
  get compact(): CompactMatrix | undefined {
    return this.rounded;
  }

  /** The same, typed for use in operations. */
  get tensor(): tf.Tensor<R> {
    return this.value as tf.Tensor<R>;
  }

  /** Gives it a value; the array is taken over, not copied. */
  fill(data: Float32Array): void {
    if (this.filled) throw new Error(`The parameter ${this.name} already has a value.`);
    this.filled = ownedVariable(data, this.shape, this.isTrained);
  }

  /** Gives it such a matrix of its shape, which it owns from now on. */
  fillCompact(matrix: CompactMatrix): void {
    this.rounded = matrix;
  }

  dispose(): void {
    this.filled?.dispose();
    if (this.rounded) disposeCompact(this.rounded);
    this.filled = this.rounded = undefined;
  }
}

/** Collects the parameters of a model while its modules are built. */
export class ParameterList {
  readonly all = new Map<string, Parameter>();
  readonly linears = new Map<string, Linear>();
  readonly stacks = new Map<string, MatrixStack>();
  readonly embeddings: Embedding[] = [];
  /** Names of tensors that checkpoints may hold, and that nothing reads. */
  readonly unread = new Set<string>();

  declare<R extends tf.Rank>(
    name: string,
    shape: tf.ShapeMap[R],
    initializer: Initializer,
    transposed?: boolean,
    parts?: readonly string[],
  ): Parameter<R> {
    const parameter = new Parameter<R>(name, shape, initializer, transposed, parts);
    this.all.set(name, parameter as unknown as Parameter);
    return parameter;
  }

  /** @param features `transposed`: whether checkpoints hold the weight as [in, out] */
  linear(name: string, features: { in: number; out: number; bias: boolean; transposed?: boolean }): Linear {
    const weight = this.declare<tf.Rank.R2>(`${name}.weight`, [features.out, features.in], 'normal', features.transposed);
    const bias = features.bias ? this.declare<tf.Rank.R1>(`${name}.bias`, [features.out], 'zeros') : undefined;
    const layer = new Linear(name, weight, bias);
    this.linears.set(name, layer);
    return layer;
  }

  /** A vector that checkpoints hold and no training changes. */
  buffer(name: string, size: number, initializer: Initializer = 'zeros'): Parameter<tf.Rank.R1> {
    const buffer = this.declare<tf.Rank.R1>(name, [size], initializer);
    buffer.isTrained = false;
    return buffer;
  }

  /** @param names of tensors that checkpoints may hold, and that nothing reads */
  leaveAside(names: readonly string[]): void {
    for (const name of names) this.unread.add(name);
  }

  matrix(name: string, rows: number, columns: number): Parameter<tf.Rank.R2> {
    return this.declare<tf.Rank.R2>(name, [rows, columns], 'normal');
  }

  /** Vectors of norms, one below the other. @param parts what checkpoints call them */
  rows(name: string, shape: tf.ShapeMap[tf.Rank.R2], parts: readonly string[]): Parameter<tf.Rank.R2> {
    return this.declare<tf.Rank.R2>(name, shape, 'ones', false, parts);
  }

  /** Matrices of one shape. @param parts what checkpoints call them, or parts of them, where they hold them so */
  matrices(name: string, shape: tf.ShapeMap[tf.Rank.R3], parts?: readonly string[]): Parameter<tf.Rank.R3> {
    return this.declare<tf.Rank.R3>(name, shape, 'normal', false, parts);
  }

  /** Makes a parameter one that an adapter can be added to; they are added in the order in which they are named. */
  stack<R extends tf.Rank.R2 | tf.Rank.R3>(weight: Parameter<R>, { transposed = false, mayBeCompact = false } = {}): MatrixStack<R> {
    const stack = new MatrixStack(usualName(weight.name), weight, { transposed, mayBeCompact });
    this.stacks.set(stack.name, stack as unknown as MatrixStack);
    return stack;
  }

  embedding(name: string, rows: number, features: number, options?: EmbeddingOptions): Embedding {
    const table = new Embedding(this.matrix(`${name}.weight`, rows, features), options);
    this.embeddings.push(table);
    return table;
  }

  /** @param options `tied`: whether it is the table itself; `bias`: whether it has one, its own either way. Default false */
  outputHead(name: string, table: Embedding, { tied, bias = false }: { tied: boolean; bias?: boolean }): OutputHead {
    const declareOwn = () => this.matrix(`${name}.weight`, ...table.weight.shape);
    const head = new OutputHead(table, declareOwn, tied);
    if (bias) head.bias = this.declare<tf.Rank.R1>(`${name}.bias`, [table.weight.shape[0]], 'zeros');
    return head;
  }

  rmsNorm(name: string, features: number, eps: number): RmsNorm {
    return new RmsNorm(this.declare<tf.Rank.R1>(`${name}.weight`, [features], 'ones'), eps);
  }

  /** One that a checkpoint has as what it differs from 1 by. */
  rmsNormAroundOne(name: string, features: number, eps: number): RmsNorm {
    return new RmsNorm(this.declare<tf.Rank.R1>(`${name}.weight`, [features], 'zeros'), eps, { aroundOne: true });
  }

  layerNorm(name: string, features: number, eps: number): LayerNorm {
    const weight = this.declare<tf.Rank.R1>(`${name}.weight`, [features], 'ones');
    return new LayerNorm(weight, this.declare<tf.Rank.R1>(`${name}.bias`, [features], 'zeros'), eps);
  }

  layerNormWithoutBias(name: string, features: number, eps: number): LayerNorm {
    return new LayerNorm(this.declare<tf.Rank.R1>(`${name}.weight`, [features], 'ones'), undefined, eps);
  }
}

/** x times a factor of the configuration: a constant of the graph, where a plain number would be a feed of it at every place. */
export function times(x: tf.Tensor2D, factor: number): tf.Tensor2D {
  return factor === 1 ? x : tf.mul(x, tf.fill([1], factor));
}

/** y = x Wᵀ + b. */
export class Linear {
  /** When set, computes the layer's output from its input and its own output: how LoRA adapts a layer whose weights stay. */
  adapter?: (x: tf.Tensor2D, y: tf.Tensor2D) => tf.Tensor2D;
  /** While set, computes about x Wᵀ in its place. */
  approximation?: (x: tf.Tensor2D, weight: tf.Tensor2D) => tf.Tensor2D;

  constructor(
    /** Module name, as in the checkpoint without `.weight`. */
    readonly name: string,
    readonly weight: Parameter<tf.Rank.R2>,
    readonly bias?: Parameter<tf.Rank.R1>,
  ) {}

  apply(x: tf.Tensor2D): tf.Tensor2D {
    const y = this.product(x);
    return this.adapter ? this.adapter(x, y) : y;
  }

  private product(x: tf.Tensor2D): tf.Tensor2D {
    const { weight, bias, approximation } = this;
    const y = approximation ? approximation(x, weight.tensor) : this.timesWeight(x);
    return bias ? tf.add(y, bias.tensor) : y;
  }

  /** x Wᵀ. */
  timesWeight(x: tf.Tensor2D): tf.Tensor2D {
    const { compact } = this.weight;
    return compact ? compactLinear(x, compact) : linear(x, this.weight.tensor);
  }
}

/** A matrix that is no layer of its own, or one of each expert: what PEFT adapts by its parameter. */
export class MatrixStack<R extends tf.Rank = tf.Rank> {
  /** When set, what an adapter adds to them: the product of two thin matrices to each. */
  adapter?: () => Factors;

  constructor(
    /** Of the parameter, as transformers has it. */
    readonly name: string,
    readonly weight: Parameter<R>,
    /** `transposed`: whether they are [in, out]; `mayBeCompact`: whether they may be kept in 16 bits beside an adapter, as linear layers are. */
    private readonly options: { transposed: boolean; mayBeCompact: boolean },
  ) {}

  get transposed(): boolean {
    return this.options.transposed;
  }

  get mayBeCompact(): boolean {
    return this.options.mayBeCompact;
  }

  get tensor(): tf.Tensor<R> {
    return this.weight.tensor;
  }

  /** What there is of them: in float32, or in 16 bits, the rows of all one below the other. */
  get matrices(): tf.Tensor<R> | HalfMatrix {
    const { compact } = this.weight;
    return compact?.bits === 16 ? compact : this.tensor;
  }
}

export interface EmbeddingOptions {
  /** The id whose row looking it up does not train. */
  paddingIdx?: number;
  /** What the rows are multiplied by. Default 1. */
  scale?: number;
  /** Whether the table may be kept in 16 bits beside an adapter, as linear layers are: it is no output head, and so large that it counts. Default false. */
  mayBeCompact?: boolean;
}

/** Rows of a table. */
export class Embedding {
  /** While set, looks up about the same rows in its place. */
  approximation?: (ids: tf.Tensor1D, weight: tf.Tensor2D) => tf.Tensor2D;
  /** While set, is added to the rows: [tokens, features], noise for training. */
  noise?: tf.Tensor2D;

  constructor(
    readonly weight: Parameter<tf.Rank.R2>,
    private readonly options: EmbeddingOptions = {},
  ) {}

  get mayBeCompact(): boolean {
    return this.options.mayBeCompact ?? false;
  }

  apply(ids: tf.Tensor1D): tf.Tensor2D {
    const { scale = 1 } = this.options;
    const rows = scale === 1 ? this.lookUp(ids) : tf.mul<tf.Tensor2D>(this.lookUp(ids), scale);
    return this.noise ? tf.add(rows, this.noise) : rows;
  }

  private lookUp(ids: tf.Tensor1D): tf.Tensor2D {
    const { compact } = this.weight;
    if (compact) return compactRows(ids, compact);
    const { tensor } = this.weight;
    return this.approximation ? this.approximation(ids, tensor) : embedding(tensor, ids, this.options.paddingIdx);
  }
}

/** What the final hidden states are multiplied with for logits: a matrix of its own, or the table of the embeddings. */
export class OutputHead {
  /** What is added to each token's logits, where there is one. */
  bias?: Parameter<tf.Rank.R1>;
  private own?: Parameter<tf.Rank.R2>;

  constructor(
    private readonly table: Embedding,
    private readonly declareOwn: () => Parameter<tf.Rank.R2>,
    tied: boolean,
  ) {
    if (!tied) this.own = declareOwn();
  }

  get tensor(): tf.Tensor2D {
    return (this.own ?? this.table.weight).tensor;
  }

  /** Makes a head that is the table a matrix of its own, still with the table's values. */
  untie(): void {
    const { shape, tensor } = this.table.weight;
    this.own = this.declareOwn();
    this.own.fill(new Float32Array(shape[0] * shape[1]));
    // a copy: what is trained changes where it lies
    tf.tidy(() => this.own?.value.assign(tf.mul(tensor, 1)));
    computeRecorded();
  }
}

/** Root mean square normalization. */
export class RmsNorm {
  constructor(
    /** What is multiplied with afterwards, where there is something. */
    readonly weight: Parameter<tf.Rank.R1> | undefined,
    readonly eps: number,
    /** Whether the weight is what it differs from 1 by. */
    private readonly options: { aroundOne?: boolean } = {},
  ) {}

  apply<T extends tf.Tensor>(x: T): T {
    return rmsNorm(x, this.factors(x.shape[x.rank - 1]), this.eps);
  }

  private factors(features: number): tf.Tensor1D {
    if (!this.weight) return tf.fill([features], 1) as tf.Tensor1D;
    const { tensor } = this.weight;
    return this.options.aroundOne ? tf.add(tensor, tf.fill([1], 1)) : tensor;
  }

  /** Normalizes each of the heads that lie side by side in the rows by itself. */
  applyToHeads(x: tf.Tensor2D, heads: number): tf.Tensor2D {
    return tf.reshape(this.apply(inHeads(x, heads)), x.shape);
  }

  /** Normalizes each of the groups that lie side by side in the rows by itself, and weighs all features, each by its own weight. */
  applyInGroups(x: tf.Tensor2D, groups: number): tf.Tensor2D {
    if (groups === 1) return this.apply(x);
    const [tokens, features] = x.shape;
    const perGroup = tf.reshape(x, [tokens, groups, features / groups]);
    const normalized = rmsNorm(perGroup, tf.fill([features / groups], 1) as tf.Tensor1D, this.eps);
    return tf.mul(tf.reshape(normalized, [tokens, features]), this.factors(features));
  }
}

/** Heads that lie side by side in the rows, as an axis: [tokens, heads, headDim]. */
export function inHeads(x: tf.Tensor2D, heads: number): tf.Tensor3D {
  const [tokens, features] = x.shape;
  return tf.reshape(x, [tokens, heads, features / heads]);
}

/** Layer normalization. */
export class LayerNorm {
  constructor(
    /** What is multiplied with afterwards, and what is added then, where there is something. */
    readonly weight: Parameter<tf.Rank.R1> | undefined,
    readonly bias: Parameter<tf.Rank.R1> | undefined,
    readonly eps: number,
  ) {}

  apply<T extends tf.Tensor>(x: T): T {
    const { weight, bias, eps } = this;
    const all = (value: number) => tf.fill([x.shape[x.rank - 1]], value) as tf.Tensor1D;
    return layerNorm(x, weight?.tensor ?? all(1), bias?.tensor ?? all(0), eps);
  }

  /** Normalizes each of the heads that lie side by side in the rows by itself. */
  applyToHeads(x: tf.Tensor2D, heads: number): tf.Tensor2D {
    return tf.reshape(this.apply(inHeads(x, heads)), x.shape);
  }
}
