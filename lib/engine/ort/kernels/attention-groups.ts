/** Groups of blocks of a packed row (segments.ts), as the Loops of attention take one after the other. */
import type { AttentionOptions } from '../../ops';
import { type AttentionOperands, fusedProbabilities, HIDDEN } from '../fused-attention';
import type { GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';
import type { GroupTables } from './attention-tables';
import { BITS, factorsOf, type WeightFactors } from './dropout';

/** Options of attention, and what follows from them and the width of the queries. */
export interface Heads extends AttentionOptions {
  headDim: number;
}

/**
 * How far below the largest score of a query the hidden ones stay, where the softmax would make denormal numbers of them, on which
 * processors take many times as long. Their probability, e⁻⁴⁰ = 4·10⁻¹⁸, is nothing beside float32's rounding.
 */
const DEPTH = 40;

/** One group inside a Loop's body: blocks side by side, filled up to the longest. */
export class Group {
  constructor(
    private readonly graph: GraphBuilder,
    private readonly tables: GroupTables,
    private readonly heads: Heads,
    private readonly iteration: string,
  ) {}

  /** Queries, [count·kvHeads, parts, group·places / parts, headDim], of a tensor [tokens·heads, headDim]. Heads of a group share their keys. */
  queries(x: string): string {
    return this.graph.op('Gather', [x, this.own(this.tables.queries)], { axis: 0 });
  }

  /** The same of a tensor that has one more token, for the places that fill up. */
  ownQueries(x: string): string {
    return this.graph.op('Gather', [x, this.own(this.tables.ownQueries)], { axis: 0 });
  }

  /** Keys or values, [count·kvHeads, 1, places, headDim], of a tensor [tokens·kvHeads, headDim]. */
  keys(x: string): string {
    const { graph } = this;
    const isPrefix = graph.op('Less', [this.keyPlaces, this.own(this.tables.prefixCount)]);
    const first = graph.op('Where', [isPrefix, this.own(this.tables.prefixKeys), this.own(this.tables.firstKeys)]);
    const rows = graph.op('Add', [first, graph.op('Mul', [this.keyPlaces, graph.scalar('int32', this.heads.kvHeads)])]);
    return graph.op('Gather', [x, graph.op('Min', [rows, this.tables.lastKey])], { axis: 0 });
  }

  /** softmax(scale·q·kᵀ) over what each query sees, [count·kvHeads, parts, group·places / parts, keys]. */
  probabilities(queries: string, keys: string): string {
    const { graph } = this;
    const probabilities = graph.target.fusesAttention
      ? fusedProbabilities(graph, this.operands(queries, keys), this.heads.scale)
      : this.raisedSoftmax(matrixProduct(graph, queries, keys, { ranks: [4, 4], transB: true, alpha: this.heads.scale }));
    return graph.op('Reshape', [probabilities, graph.op('Concat', [graph.op('Shape', [queries], { end: 3 }), this.keyCount], { axis: 0 })]);
  }

  /** 0 or a factor for each of the probabilities. */
  factors({ rows, table }: WeightFactors): string {
    const { graph, keyCount } = this;
    const bytes = graph.op('Div', [graph.op('Add', [keyCount, graph.ints([BITS - 1])]), graph.ints([BITS])]);
    const [first, axis] = [graph.ints([0]), graph.ints([3])];
    const factors = factorsOf(graph, table, graph.op('Slice', [this.queries(rows), first, bytes, axis]));
    return graph.op('Slice', [graph.op('Reshape', [factors, graph.ints([0, 0, 0, -1])]), first, keyCount, axis]);
  }

  private operands(queries: string, keys: string): AttentionOperands {
    const { graph } = this;
    const places = graph.sizeOf(this.own(this.tables.queryPlaces), 0);
    const shape = graph.op('Concat', [graph.ints([-1, this.heads.heads]), places, graph.ints([this.heads.headDim])], { axis: 0 });
    return { queries: graph.op('Reshape', [queries, shape]), keys: this.byBlock(keys), mask: this.mask() };
  }

  /** The softmax of what each query sees of its scores, as [count·kvHeads, group, places, keys]. */
  private raisedSoftmax(scores: string): string {
    const { graph } = this;
    const byHead = graph.op('Concat', [graph.ints([0, this.heads.heads / this.heads.kvHeads, -1]), this.keyCount], { axis: 0 });
    const masked = graph.op('Add', [graph.op('Reshape', [scores, byHead]), this.mask()]);
    const highest = graph.op('ReduceMax', [masked, graph.ints([-1])], { keepdims: 1 });
    const raised = graph.op('Max', [masked, graph.op('Sub', [highest, graph.scalar('float32', DEPTH)])]);
    return graph.op('Softmax', [raised], { axis: -1 });
  }

  /**
   * Adds to gradients of keys or values what earlier groups gave, which come later in the segment or share its beginning, and parts the
   * result: the blocks' own keys, and those before them, which are one segment's.
   * @param gradient [count·kvHeads, parts, keys, headDim], the sum of the parts
   * @param carried [1, kvHeads, keys before the own ones of the earlier group, headDim]
   */
  settle(gradient: string, carried: string): { own: string; before: string } {
    const { graph, keyCount } = this;
    const byBlock = this.byBlock(this.sumOfParts(gradient));
    const blocks = graph.sizeOf(byBlock, 0);
    const less = (a: string, b: string): string => graph.op('Sub', [a, b]);
    // The last tokens have got nothing yet. Of several blocks only what they share has, and the first block takes it for all of them.
    const missing = [less(blocks, graph.ints([1])), graph.ints([0]), less(keyCount, graph.sizeOf(carried, 2)), graph.ints([0])];
    const earlier = graph.op('Pad', [carried, graph.op('Concat', [graph.ints([0, 0, 0, 0]), ...missing], { axis: 0 })]);
    const ownCount = graph.sizeOf(this.own(this.tables.queryPlaces), 0);
    const border = less(keyCount, ownCount);
    const parts = graph.op('Concat', [border, ownCount], { axis: 0 });
    const [before, own] = graph.ops('Split', [graph.op('Add', [byBlock, earlier]), parts], 2, { axis: 2 });
    return { own, before: this.sumOfBlocks(before, blocks, border) };
  }

  /** [count·kvHeads, parts, keys, headDim] as [count·kvHeads, 1, keys · headDim]. */
  private sumOfParts(x: string): string {
    const { graph, heads } = this;
    if (heads.kvHeads % 2 === 0) return x;
    const width = graph.op('Mul', [this.keyCount, graph.ints([heads.headDim])]);
    const parts = graph.sizeOf(x, 1);
    const ones = graph.op('Expand', [graph.scalar('float32', 1), graph.op('Concat', [graph.ints([1]), parts], { axis: 0 })]);
    return graph.op('MatMul', [ones, graph.op('Reshape', [x, graph.op('Concat', [graph.ints([0, 0]), width], { axis: 0 })])]);
  }

  /** [blocks, kvHeads, keys, headDim] as [1, kvHeads, keys, headDim]; as a product, because ReduceSum is slow over a single block. */
  private sumOfBlocks(x: string, blocks: string, keys: string): string {
    const { graph } = this;
    const width = graph.op('Mul', [keys, graph.ints([this.heads.kvHeads * this.heads.headDim])]);
    const rows = graph.op('Reshape', [x, graph.op('Concat', [blocks, width], { axis: 0 })], { allowzero: 1 });
    const ones = graph.op('Expand', [graph.scalar('float32', 1), graph.op('Concat', [graph.ints([1]), blocks], { axis: 0 })]);
    return graph.op('Reshape', [graph.op('MatMul', [ones, rows]), this.shapeOfKeys(graph.ints([1]), keys)], { allowzero: 1 });
  }

  /** What has [count·kvHeads, keys, headDim] numbers as [count, kvHeads, keys, headDim]. */
  private byBlock(x: string): string {
    return this.graph.op('Reshape', [x, this.shapeOfKeys(this.graph.ints([-1]), this.keyCount)]);
  }

  /** The shape [blocks, kvHeads, keys, headDim]. */
  private shapeOfKeys(blocks: string, keys: string): string {
    const { kvHeads, headDim } = this.heads;
    return this.graph.op('Concat', [blocks, this.graph.ints([kvHeads]), keys, this.graph.ints([headDim])], { axis: 0 });
  }

  /** [places, keys]: 0 where a query may look, HIDDEN elsewhere. */
  mask(): string {
    const { graph } = this;
    const [queries, keys] = [this.own(this.tables.queryPlaces), this.keyPlaces];
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const past = graph.op('Where', [graph.op('Less', [queries, keys]), hidden, shown]);
    const { window } = this.heads;
    if (window === undefined) return past;
    const first = graph.op('Sub', [queries, graph.scalar('int32', window - 1)]);
    return graph.op('Where', [graph.op('Less', [keys, first]), hidden, past]);
  }

  /** Where in the segment, its prefix included, the longest block's keys are, int32 [keys]. */
  private get keyPlaces(): string {
    return this.graph.upTo(this.own(this.tables.keyCount));
  }

  /** Their number, int64 [1]. */
  private get keyCount(): string {
    return this.graph.sizeOf(this.keyPlaces, 0);
  }

  /** What a sequence has for this group. */
  private own(sequence: string): string {
    return this.graph.op('SequenceAt', [sequence, this.iteration]);
  }
}
