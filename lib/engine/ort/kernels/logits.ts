/**
 * Tables with a number for each target and each entry of a piece of the vocabulary, in the two ways in which they lie: target after
 * target, or in the processor's own layout (blocked-products.ts), in which products come and go fastest. Both know the same operations.
 */
import { blocksOf, byChunks, chunksOf, matrixOfBlocks } from '../blocked-layout';
import { productInBlocks } from '../blocked-products';
import type { Operand } from '../kernel';
import { type Dim, ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import type { Piece } from '../pieces';
import { matrixProduct } from '../products';
import { softCapped, softCapSlope } from './soft-cap';

/** Ids are float32 in the graph, which holds all whole numbers up to here. */
const LARGEST_ID = 2 ** 24;

/** Vectors have a number of float32 for each target; entries count from the beginning of the piece. */
export interface Table {
  /** The largest number of each target. */
  readonly largest: string;
  /** The entry that it belongs to, the first of equal ones. */
  readonly likeliest: string;
  /** Of each target the number of one entry, int32 [targets]. */
  at(entries: string): string;
  /** exp(number − the target's reference). */
  exponentials(references: string): Table;
  /** Times a factor for each target. */
  scaled(factors: string): Table;
  /** cap·tanh(number / cap). */
  capped(cap: number): Table;
  /** The slope of that, of a table that is capped. */
  slopeOfCap(cap: number): Table;
  /** Times the numbers of another table of the same shape. */
  times(other: Table): Table;
  /** Σ over the entries. */
  sum(): string;
  /** Σ of the products with the numbers of another table of the same shape. */
  dot(other: Table): string;
  /** With numbers added, of each target to one entry. */
  plus(entries: string, addends: string): Table;
  /** The name as a matrix [targets, entries]; it lies as the table. */
  matrix(): string;
}

/** How logits are computed: of what, and after what. */
interface Logits {
  hidden: Operand;
  weight: string;
  /** [entries of the piece], where the head has one. */
  bias?: string;
  piece: Piece;
  /** Vectors that are computed first, so that the logits of all pieces need not lie in memory at once. */
  before: readonly string[];
}

/** hidden · weightᵀ + bias, a table of [targets, entries of the piece]. */
export function logitsTable(graph: GraphBuilder, { hidden, weight, bias: given, piece, before }: Logits): Table {
  const [targets, features] = hidden.shape as [Dim, number];
  const sizes = { rows: targets, inner: features, columns: piece.size };
  const zeros = (): string => graph.constant('float32', new Array(piece.size).fill(0), [piece.size]);
  const bias = (): string => (before.length > 0 ? laterVector(graph, given ?? zeros(), before) : (given ?? ''));
  const product = productInBlocks(graph, hidden.name, weight, sizes, bias);
  const blocks = product && blocksOf(graph, { name: product, shape: [targets, piece.size], dtype: 'float32' });
  if (blocks) return new BlockTable(graph, blocks, targets, piece.size);
  const x = before.length > 0 ? laterRows(graph, hidden.name, before) : hidden.name;
  return new RowTable(graph, matrixProduct(graph, x, weight, { ranks: [2, 2], transB: true, bias: given }), piece.size);
}

/** The same vector, but not before other vectors are known. */
function laterVector(graph: GraphBuilder, vector: string, before: readonly string[]): string {
  const nothing = graph.op('Slice', [graph.op('Concat', [...before], { axis: 0 }), graph.ints([0]), graph.ints([0])]);
  return graph.op('Concat', [vector, nothing], { axis: 0 });
}

/**
 * The same matrix, but not before vectors of its height are known. ONNX Runtime would compute the logits of every piece first, and their
 * memory be needed at once.
 */
function laterRows(graph: GraphBuilder, matrix: string, before: readonly string[]): string {
  const columns = before.map((vector) => column(graph, vector));
  const nothing = graph.op('Slice', [graph.op('Concat', columns, { axis: 1 }), graph.ints([0]), graph.ints([0]), graph.ints([1])]);
  return graph.op('Concat', [matrix, nothing], { axis: 1 });
}

/** The sum of the rows of a table's matrix, each times a factor, as the matrix lies: a vector [entries]. */
export function weighedSumOfRows(graph: GraphBuilder, factors: string, matrix: Operand): string {
  const blocks = blocksOf(graph, matrix);
  const inOneLine = (x: string): string => graph.op('Reshape', [x, graph.ints([-1])]);
  if (blocks === undefined) return inOneLine(graph.op('MatMul', [graph.op('Unsqueeze', [factors, graph.ints([0])]), matrix.name]));
  const [targets, entries] = matrix.shape as [Dim, number];
  const block = graph.target.block as number;
  const ofChunks = graph.op('MatMul', [
    byChunks(graph, factors, targets, 1, 1, -1),
    byChunks(graph, blocks, targets, entries / block, -1, block),
  ]);
  return inOneLine(graph.op('ReduceSum', [ofChunks, graph.ints([0])], { keepdims: 0 }));
}

/** A vector [targets] as a column [targets, 1]. */
export const column = (graph: GraphBuilder, vector: string): string => graph.op('Unsqueeze', [vector, graph.ints([1])]);

/** A table as a matrix [targets, entries]. */
class RowTable implements Table {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly name: string,
    private readonly entries: number,
  ) {}

  get largest(): string {
    return this.graph.op('ReduceMax', [this.name, this.graph.ints([-1])], { keepdims: 0 });
  }

  get likeliest(): string {
    const { graph } = this;
    if (graph.target.device === 'cpu') return toFloat(graph, graph.op('ArgMax', [this.name], { axis: -1, keepdims: 0 }));
    const ids = graph.constant('float32', [...Array(this.entries).keys()], [1, this.entries]);
    return smallestOfLargest(graph, this.name, column(graph, this.largest), ids);
  }

  at(entries: string): string {
    const { graph } = this;
    return graph.op('Squeeze', [graph.op('GatherElements', [this.name, column(graph, entries)], { axis: 1 }), graph.ints([1])]);
  }

  exponentials(references: string): Table {
    const { graph } = this;
    return new RowTable(graph, graph.op('Exp', [graph.op('Sub', [this.name, column(graph, references)])]), this.entries);
  }

  scaled(factors: string): Table {
    const { graph } = this;
    return new RowTable(graph, graph.op('Mul', [this.name, column(graph, factors)]), this.entries);
  }

  capped(cap: number): Table {
    return new RowTable(this.graph, softCapped(this.graph, this.name, cap), this.entries);
  }

  slopeOfCap(cap: number): Table {
    return new RowTable(this.graph, softCapSlope(this.graph, this.name, cap), this.entries);
  }

  times(other: Table): Table {
    return new RowTable(this.graph, this.graph.op('Mul', [this.name, other.matrix()]), this.entries);
  }

  sum(): string {
    return this.graph.op('ReduceSum', [this.name, this.graph.ints([-1])], { keepdims: 0 });
  }

  /** On the CPU as products of a row and a column: one pass over both. WebGPU has no kernel for that. */
  dot(other: Table): string {
    const { graph } = this;
    const operands = [this.name, other.matrix()];
    if (graph.target.device === 'webgpu') return graph.op('ReduceSum', [graph.op('Mul', operands), graph.ints([-1])], { keepdims: 0 });
    const rows = operands.map((x) => graph.op('Unsqueeze', [x, graph.ints([1])]));
    return graph.op('Squeeze', [graph.op('FusedMatMul', rows, { transB: 1, alpha: float(1) }), graph.ints([1, 2])]);
  }

  plus(entries: string, addends: string): Table {
    const { graph } = this;
    const [places, numbers] = [entries, addends].map((vector) => column(graph, vector));
    return new RowTable(graph, graph.op('ScatterElements', [this.name, places, numbers], { axis: 1, reduction: 'add' }), this.entries);
  }

  matrix(): string {
    return this.name;
  }
}

/** A table in the blocked layout, in chunks: [chunks, entries / block, targets / chunks · block]. Only on the CPU. */
class BlockTable implements Table {
  private readonly block: number;

  constructor(
    private readonly graph: GraphBuilder,
    /** Its name. */
    private readonly blocks: string,
    private readonly targets: Dim,
    private readonly entries: number,
  ) {
    this.block = graph.target.block as number;
    graph.describe(blocks, [`chunks of ${targets}`, entries / this.block, `places in chunks of ${targets}`]);
  }

  get largest(): string {
    return this.inOneLine(this.graph.op('ReduceMax', [this.blockMaxima, this.graph.ints([1])], { keepdims: 0 }));
  }

  /** The first block with the largest number, and the first place in it. */
  get likeliest(): string {
    const { graph, block } = this;
    const firstBlock = this.inOneLine(toInt(graph, graph.op('ArgMax', [this.blockMaxima], { axis: 1, keepdims: 0 })));
    const runs = graph.op('Reshape', [this.blocks, graph.ints([-1, block])]);
    const candidates = graph.op('Gather', [runs, this.runOf(firstBlock)], { axis: 0 });
    const place = toInt(graph, graph.op('ArgMax', [candidates], { axis: 1, keepdims: 0 }));
    return toFloat(graph, graph.op('Add', [graph.op('Mul', [firstBlock, graph.scalar('int32', block)]), place]));
  }

  at(entries: string): string {
    return this.graph.op('Gather', [this.flat, this.placesOf(entries)], { axis: 0 });
  }

  exponentials(references: string): Table {
    const { graph } = this;
    const { blocks } = this.like(graph.op('Sub', [this.blocks, this.inEachBlock(references)]));
    return this.like(graph.op('Exp', [blocks]));
  }

  scaled(factors: string): Table {
    return this.like(this.graph.op('Mul', [this.blocks, this.inEachBlock(factors)]));
  }

  capped(cap: number): Table {
    return this.like(softCapped(this.graph, this.blocks, cap));
  }

  slopeOfCap(cap: number): Table {
    return this.like(softCapSlope(this.graph, this.blocks, cap));
  }

  times(other: Table): Table {
    return this.like(this.graph.op('Mul', [this.blocks, (other as BlockTable).blocks]));
  }

  sum(): string {
    return this.sumOf(this.blocks);
  }

  dot(other: Table): string {
    return this.sumOf(this.graph.op('Mul', [this.blocks, (other as BlockTable).blocks]));
  }

  plus(entries: string, addends: string): Table {
    const { graph } = this;
    const sum = graph.op('ScatterElements', [this.flat, this.placesOf(entries), addends], { axis: 0, reduction: 'add' });
    graph.describe(sum, [this.size]);
    return this.like(this.inChunks(sum, this.entries / this.block, -1));
  }

  matrix(): string {
    return matrixOfBlocks(this.graph, this.blocks, [this.targets, this.entries]);
  }

  private like(blocks: string): BlockTable {
    return new BlockTable(this.graph, blocks, this.targets, this.entries);
  }

  /** A vector as a line of each chunk, [chunks, 1, targets / chunks · block]: each number as often as a block has places. */
  private inEachBlock(vector: string): string {
    const { graph } = this;
    const shape = graph.op('Concat', [graph.sizeOf(vector, 0), graph.ints([this.block])], { axis: 0 });
    return this.inChunks(graph.op('Expand', [column(graph, vector), shape]), 1, -1);
  }

  /** The largest number of each block, [chunks, entries / block, targets / chunks]. */
  private get blockMaxima(): string {
    const { graph, block } = this;
    const cells = this.inChunks(this.blocks, this.entries / block, -1, block);
    return graph.op('ReduceMax', [cells, graph.ints([3])], { keepdims: 0 });
  }

  private get flat(): string {
    return this.graph.describe(this.inOneLine(this.blocks), [this.size]);
  }

  /** In a shape whose first axis are the chunks. */
  private inChunks(x: string, ...sizes: number[]): string {
    return byChunks(this.graph, x, this.targets, ...sizes);
  }

  private inOneLine(x: string): string {
    return this.graph.op('Reshape', [x, this.graph.ints([-1])]);
  }

  private get size(): Dim {
    return times(this.targets, this.entries);
  }

  /** Where the table has these entries of the targets, if it lies in one line. */
  private placesOf(entries: string): string {
    const { graph } = this;
    const block = graph.scalar('int32', this.block);
    const blockOf = graph.op('Div', [entries, block]);
    const inBlock = graph.op('Sub', [entries, graph.op('Mul', [blockOf, block])]);
    return graph.op('Add', [graph.op('Mul', [this.runOf(blockOf), block]), inBlock]);
  }

  /** Which of the table's runs of `block` numbers has a block of each target. A chunk has one after the other for all of its targets. */
  private runOf(blocks: string): string {
    const { graph, block } = this;
    const [op, int] = [graph.op.bind(graph), (value: number): string => graph.scalar('int32', value)];
    const count = op('Cast', [op('Squeeze', [graph.shape([this.targets])])], { to: ELEMENT_TYPES.int32 });
    const chunks = op('Cast', [op('Squeeze', [chunksOf(graph, this.targets)])], { to: ELEMENT_TYPES.int32 });
    const perChunk = op('Div', [count, chunks]);
    const target = graph.upTo(count);
    const inChunk = op('Mod', [target, perChunk]);
    const before = op('Mul', [op('Sub', [target, inChunk]), int(this.entries / block)]);
    return op('Add', [op('Add', [before, inChunk]), op('Mul', [blocks, perChunk])]);
  }

  /** Σ over the blocks, as a product, which reads the table straight through, then inside of them. */
  private sumOf(blocks: string): string {
    const { graph, block } = this;
    const count = this.entries / block;
    const sums = graph.op('MatMul', [graph.constant('float32', new Array(count).fill(1), [1, count]), blocks]);
    return graph.op('ReduceSum', [graph.op('Reshape', [sums, graph.ints([-1, block])]), graph.ints([1])], { keepdims: 0 });
  }
}

const times = (size: Dim, factor: number): Dim => (typeof size === 'number' ? size * factor : `${size}*${factor}`);
const toFloat = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.float32 });
const toInt = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int32 });

/**
 * Of each row the smallest of the ids, [1 or rows, entries], whose value is the largest, [rows, 1]: a vector. ArgMax does the same, but
 * its int64 numbers WebGPU can only hand to the CPU.
 */
export function smallestOfLargest(graph: GraphBuilder, values: string, largest: string, ids: string): string {
  const others = graph.scalar('float32', LARGEST_ID);
  const candidates = graph.op('Where', [graph.op('Equal', [values, largest]), ids, others]);
  return graph.op('ReduceMin', [candidates, graph.ints([-1])], { keepdims: 0 });
}
