/** Groups of blocks of a packed row (segments.ts), as the Loops of attention take one after the other. */
import type { AttentionOptions } from '../../ops';
import { type AttentionOperands, fusedProbabilities } from '../fused-attention';
import type { GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';
import type { GroupTables } from './attention-tables';
import { BITS, factorsOf, type WeightFactors } from './dropout';
import { softCapped, softCapSlope } from './soft-cap';

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
    return this.graph.op('Gather', [x, this.own(this.tables.keys)], { axis: 0 });
  }

  /** softmax of the scores over what each query sees, [count·kvHeads, parts, group·places / parts, keys]. */
  probabilities(queries: string, keys: string): string {
    const { graph, heads } = this;
    const probabilities =
      graph.target.fusesAttention && heads.softcap === undefined
        ? fusedProbabilities(graph, this.operands(queries, keys), heads.scale)
        : this.raisedSoftmax(this.scores(queries, keys));
    return graph.op('Reshape', [probabilities, graph.op('Concat', [graph.op('Shape', [queries], { end: 3 }), this.keyCount], { axis: 0 })]);
  }

  /** scale·q·kᵀ, soft-capped where they are. */
  private scores(queries: string, keys: string): string {
    const { graph, heads } = this;
    const products = matrixProduct(graph, queries, keys, { ranks: [4, 4], transB: true, alpha: heads.scale });
    return heads.softcap === undefined ? products : softCapped(graph, products, heads.softcap);
  }

  /** Gradients of the scores as those of the products, before their soft-capping. */
  throughCap(dScores: string, queries: string, keys: string): string {
    const { graph, heads } = this;
    if (heads.softcap === undefined) return dScores;
    return graph.op('Mul', [dScores, softCapSlope(graph, this.scores(queries, keys), heads.softcap)]);
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
    const { graph, heads } = this;
    const shape = graph.op('Concat', [graph.ints([-1, heads.heads]), this.queryCount, graph.ints([heads.headDim])], { axis: 0 });
    return { queries: graph.op('Reshape', [queries, shape]), keys: this.byBlock(keys), mask: this.mask() };
  }

  /** log Σ exp(score) over what each query sees, [count·kvHeads, group, places, 1]. */
  logSums(queries: string, keys: string): string {
    const { graph } = this;
    return graph.op('ReduceLogSumExp', [this.masked(this.scores(queries, keys)), graph.ints([-1])], { keepdims: 1 });
  }

  /** Scores as [count·kvHeads, group, places, keys], those hidden that a query does not see. */
  private masked(scores: string): string {
    const { graph } = this;
    const byHead = graph.op('Concat', [graph.ints([0, this.heads.heads / this.heads.kvHeads, -1]), this.keyCount], { axis: 0 });
    return graph.op('Add', [graph.op('Reshape', [scores, byHead]), this.mask()]);
  }

  /** The softmax of what each query sees of its scores, as [count·kvHeads, group, places, keys]. */
  private raisedSoftmax(scores: string): string {
    const { graph } = this;
    const masked = this.masked(scores);
    const highest = graph.op('ReduceMax', [masked, graph.ints([-1])], { keepdims: 1 });
    const raised = graph.op('Max', [masked, graph.op('Sub', [highest, graph.scalar('float32', DEPTH)])]);
    return graph.op('Softmax', [raised], { axis: -1 });
  }

  /**
   * Adds to gradients of keys and values what earlier groups gave, which come later in the segment or share its beginning, and parts the
   * results: the blocks' own keys, and those before them, which are one segment's.
   * @param gradients [count·kvHeads, parts, headDim, keys] each, the sum of the parts
   * @param carried [1, kvHeads, headDim, keys before the own ones of the earlier group] each
   * @returns the own ones as [count, kvHeads, places, headDim], those before as the next group takes them
   */
  settle(gradients: readonly string[], carried: readonly string[]): Array<{ own: string; before: string }> {
    const { graph, heads, keyCount, queryCount } = this;
    const less = (a: string, b: string): string => graph.op('Sub', [a, b]);
    const turned = [graph.ints([-1, heads.kvHeads, heads.headDim]), keyCount];
    const shape = graph.op('Concat', turned, { axis: 0 });
    const byBlock = gradients.map((gradient) => graph.op('Reshape', [this.sumOfParts(gradient), shape]));
    const blocks = graph.sizeOf(byBlock[0], 0);
    // The last tokens have got nothing yet. Of several blocks only what they share has, and the first block takes it for all of them.
    const missing = [less(blocks, graph.ints([1])), less(keyCount, graph.sizeOf(carried[0], 3))];
    const pads = graph.op('Concat', [graph.ints([0, 0]), ...missing], { axis: 0 });
    const sizes = graph.op('Concat', [less(keyCount, queryCount), queryCount], { axis: 0 });
    return byBlock.map((gradient, which) => {
      const earlier = graph.op('Pad', [carried[which], pads, '', graph.ints([0, 3])]);
      const [before, own] = graph.ops('Split', [graph.op('Add', [gradient, earlier]), sizes], 2, { axis: 3 });
      return { own: graph.op('Transpose', [own], { perm: [0, 1, 3, 2] }), before: this.sumOfBlocks(before, blocks) };
    });
  }

  /** [count·kvHeads, parts, headDim, keys] as [count·kvHeads, headDim, keys], with a third axis of 1 where there is but one part. */
  private sumOfParts(x: string): string {
    const { graph, heads } = this;
    if (heads.kvHeads % 2 === 0) return x;
    const parts = graph.sizeOf(this.own(this.tables.queries), 1);
    return graph.op('MatMul', [this.ones(parts), graph.op('Reshape', [x, graph.ints([0, 0, -1])])]);
  }

  /** [blocks, kvHeads, headDim, keys] as [1, kvHeads, headDim, keys]; as a product, because ReduceSum is slow over a single block. */
  private sumOfBlocks(x: string, blocks: string): string {
    const { graph, heads } = this;
    const sum = graph.op('MatMul', [this.ones(blocks), graph.op('Reshape', [x, graph.ints([0, -1])])]);
    return graph.op('Reshape', [sum, graph.ints([1, heads.kvHeads, heads.headDim, -1])]);
  }

  /** [1, count], to add up with. @param count int64 [1] */
  private ones(count: string): string {
    const { graph } = this;
    return graph.op('Expand', [graph.scalar('float32', 1), graph.op('Concat', [graph.ints([1]), count], { axis: 0 })]);
  }

  /** What has [count·kvHeads, keys, headDim] numbers as [count, kvHeads, keys, headDim]. */
  private byBlock(x: string): string {
    const { graph, heads, keyCount } = this;
    const shape = [graph.ints([-1, heads.kvHeads]), keyCount, graph.ints([heads.headDim])];
    return graph.op('Reshape', [x, graph.op('Concat', shape, { axis: 0 })]);
  }

  /** [places, keys]: 0 where a query may look, HIDDEN elsewhere. */
  mask(): string {
    const { maskStart, maskEnd, masks } = this.tables;
    return this.graph.op('Slice', [masks, this.own(maskStart), this.own(maskEnd)]);
  }

  /** Number of the longest block's queries, int64 [1]. */
  private get queryCount(): string {
    return this.graph.sizeOf(this.mask(), 0);
  }

  /** Number of its keys, those of the prefix included, int64 [1]. */
  private get keyCount(): string {
    return this.graph.sizeOf(this.mask(), 1);
  }

  /** What a sequence has for this group. */
  private own(sequence: string): string {
    return this.graph.op('SequenceAt', [sequence, this.iteration]);
  }
}
