/** Groups of blocks of a packed row (segments.ts), as the Loops of attention take one after the other. */
import type { AttentionOptions } from '../../ops';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';

/** Options of attention, and what follows from them and the width of the queries. */
export interface Heads extends AttentionOptions {
  headDim: number;
}

/** Tables of a row, as int64. */
export interface RowTables {
  /** [blocks, 3] and [groups, 2]; see segments.ts. */
  blocks: string;
  groups: string;
  /** Number of groups, []. */
  count: string;
  /** Tokens of the row, [1]. */
  tokens: string;
}

/** int32 as int64, the type of ONNX's indices. */
const wide = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });

/** The tables of a row; all layers share them. */
export function rowTables(graph: GraphBuilder, { tokens, blocks, groups }: { tokens: string; blocks: string; groups: string }): RowTables {
  const shared = (what: string, make: () => string): string => graph.once(`${what} of ${blocks}`, make);
  return {
    blocks: shared('blocks', () => wide(graph, blocks)),
    groups: shared('groups', () => wide(graph, groups)),
    count: shared('count of groups', () => graph.op('Squeeze', [graph.sizeOf(groups, 0)])),
    tokens: shared('tokens', () => graph.sizeOf(tokens, 0)),
  };
}

/**
 * For each token and head its row in what the groups give one after the other, [count·heads·places, …] each: int64 [tokens, heads].
 * @param slots int32 [tokens, 3]; see segments.ts
 */
export function placesOf(graph: GraphBuilder, slots: string, heads: number): string {
  return graph.once(`places of ${heads} heads in ${slots}`, () => {
    const [before, width, place] = graph.ops('Split', [wide(graph, slots)], 3, { axis: 1, num_outputs: 3 });
    const first = graph.op('Add', [graph.op('Mul', [before, graph.ints([heads])]), place]);
    return graph.op('Add', [first, graph.op('Mul', [width, numbers(graph, heads, [1, heads])])]);
  });
}

/** The whole numbers from 0. */
function numbers(graph: GraphBuilder, count: number, shape: number[]): string {
  return graph.constant('int64', [...Array(count).keys()], shape);
}

/** Added to a score to hide it; finite, so that differences of hidden scores are numbers. */
const HIDDEN = -1e30;

/**
 * How far below the largest score of a query the hidden ones stay in the softmax. Their probability, e⁻⁴⁰ = 4·10⁻¹⁸, is nothing beside
 * float32's rounding. Of much smaller scores the exponential, or what a gradient multiplies by it, would be a denormal number, on which
 * processors take many times as long.
 */
const DEPTH = 40;

/**
 * One group inside the Loop's body: blocks side by side, filled up to the longest. What fills up comes after all tokens of the block, so no
 * query of the block sees it.
 */
export class Group {
  /** Where in the row the segment of each block starts, where the block starts, where it ends; int64 [count, 1] each. */
  private readonly segment: string;
  private readonly start: string;
  private readonly end: string;
  /** Queries of the longest block, and its keys; int64 [1] each. */
  private readonly queryCount: string;
  private readonly keyCount: string;
  /** Tokens of the segment before the block, int64 [1]: several blocks are a group only where there are none. */
  private readonly before: string;

  constructor(
    private readonly graph: GraphBuilder,
    private readonly row: RowTables,
    private readonly heads: Heads,
    iteration: string,
  ) {
    const bounds = graph.op('Squeeze', [graph.op('Gather', [row.groups, iteration], { axis: 0 }), graph.ints([0])]);
    const [first, behind] = graph.ops('Split', [bounds], 2, { axis: 0, num_outputs: 2 });
    const own = graph.op('Slice', [row.blocks, first, behind, graph.ints([0])]);
    [this.segment, this.start, this.end] = graph.ops('Split', [own], 3, { axis: 1, num_outputs: 3 });
    const longestFrom = (start: string): string =>
      graph.op('ReduceMax', [graph.op('Sub', [this.end, start]), graph.ints([0, 1])], { keepdims: 0 });
    const [queries, keys] = [longestFrom(this.start), longestFrom(this.segment)];
    this.queryCount = graph.reshape(queries, [1]);
    this.keyCount = graph.reshape(keys, [1]);
    this.before = graph.op('Sub', [this.keyCount, this.queryCount]);
  }

  /** Queries, [count·kvHeads, group·places, headDim], of a tensor [tokens·heads, headDim]. Heads of a group share their keys. */
  queries(x: string): string {
    const rows = this.once('queries', () => this.rowsOf(this.inRow(this.places(this.start, this.queryCount)), this.groupSize));
    return this.graph.op('Gather', [x, rows], { axis: 0 });
  }

  /** The same of a tensor that has one more token, for the places that fill up. */
  ownQueries(x: string): string {
    const rows = this.once('own queries', () => {
      const places = this.places(this.start, this.queryCount);
      const isOwn = this.graph.op('Less', [places, this.end]);
      return this.rowsOf(this.graph.op('Where', [isOwn, places, this.row.tokens]), this.groupSize);
    });
    return this.graph.op('Gather', [x, rows], { axis: 0 });
  }

  /** Keys or values, [count·kvHeads, places, headDim], of a tensor [tokens·kvHeads, headDim]. */
  keys(x: string): string {
    const rows = this.once('keys', () => this.rowsOf(this.inRow(this.places(this.segment, this.keyCount)), 1));
    return this.graph.op('Gather', [x, rows], { axis: 0 });
  }

  /** softmax(scale·q·kᵀ) over what each query sees, [count·kvHeads, group·places, keys]. */
  probabilities(queries: string, keys: string): string {
    const { graph } = this;
    const scores = matrixProduct(graph, queries, keys, { ranks: [3, 3], transB: true, alpha: this.heads.scale });
    const byHead = graph.op('Concat', [graph.ints([0, this.groupSize, -1]), this.keyCount], { axis: 0 });
    const masked = graph.op('Add', [graph.op('Reshape', [scores, byHead]), this.mask()]);
    const highest = graph.op('ReduceMax', [masked, graph.ints([-1])], { keepdims: 1 });
    const raised = graph.op('Max', [masked, graph.op('Sub', [highest, graph.scalar('float32', DEPTH)])]);
    const grouped = graph.op('Concat', [graph.ints([0, -1]), this.keyCount], { axis: 0 });
    return graph.op('Reshape', [graph.op('Softmax', [raised], { axis: -1 }), grouped]);
  }

  /**
   * Adds to gradients of keys or values what later blocks of the segment gave, and parts the result: the block's own, and those before.
   * @param gradient [count·kvHeads, keys, headDim]
   * @param carried [1, kvHeads, earlier keys, headDim]
   */
  settle(gradient: string, carried: string): { own: string; before: string } {
    const { graph } = this;
    const { kvHeads, headDim } = this.heads;
    const byBlock = graph.op('Concat', [graph.ints([-1, kvHeads]), this.keyCount, graph.ints([headDim])], { axis: 0 });
    // What the segment's last block gets is no keys: those before the segment that went before.
    const missing = graph.op('Sub', [this.keyCount, graph.sizeOf(carried, 2)]);
    const pads = graph.op('Concat', [graph.ints([0, 0, 0, 0, 0, 0]), missing, graph.ints([0])], { axis: 0 });
    const total = graph.op('Add', [graph.op('Reshape', [gradient, byBlock]), graph.op('Pad', [carried, pads])]);
    const ends = graph.op('Concat', [graph.ints([1]), this.before], { axis: 0 });
    return {
      own: graph.op('Slice', [total, this.before, this.keyCount, graph.ints([2])]),
      before: graph.op('Slice', [total, graph.ints([0, 0]), ends, graph.ints([0, 2])]),
    };
  }

  private get groupSize(): number {
    return this.heads.heads / this.heads.kvHeads;
  }

  /** Places in the row from a start on, int64 [count, places]. */
  private places(start: string, count: string): string {
    return this.graph.op('Add', [start, this.upTo(count)]);
  }

  /** With what lies behind the row's end at its last token. */
  private inRow(places: string): string {
    return this.graph.op('Min', [places, this.graph.op('Sub', [this.row.tokens, this.graph.ints([1])])]);
  }

  /** The rows in [tokens·heads, …] of tokens [count, places], with `group` heads for each of keys: [count·kvHeads, group·places]. */
  private rowsOf(tokens: string, group: number): string {
    const { graph } = this;
    const { kvHeads } = this.heads;
    const ofToken = graph.op('Mul', [graph.op('Unsqueeze', [tokens, graph.ints([1, 2])]), graph.ints([kvHeads * group])]);
    const rows = graph.op('Add', [ofToken, numbers(graph, kvHeads * group, [1, kvHeads, group, 1])]);
    const width = graph.op('Mul', [graph.sizeOf(tokens, 1), graph.ints([group])]);
    return graph.op('Reshape', [rows, graph.op('Concat', [graph.ints([-1]), width], { axis: 0 })]);
  }

  /** [places, keys]: 0 where a query (row) may look, HIDDEN elsewhere. */
  private mask(): string {
    const { graph } = this;
    const own = graph.op('Unsqueeze', [graph.op('Add', [this.upTo(this.queryCount), this.before]), graph.ints([1])]);
    const distance = graph.op('Sub', [own, graph.op('Unsqueeze', [this.upTo(this.keyCount), graph.ints([0])])]);
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const past = graph.op('Where', [graph.op('Less', [distance, graph.scalar('int64', 0)]), hidden, shown]);
    const { window } = this.heads;
    if (window === undefined) return past;
    return graph.op('Where', [graph.op('Less', [distance, graph.scalar('int64', window)]), past, hidden]);
  }

  /** int64, from 0 up to a size. */
  private upTo(size: string): string {
    const { graph } = this;
    return this.once(`up to ${size}`, () =>
      graph.op('Range', [graph.scalar('int64', 0), graph.op('Squeeze', [size]), graph.scalar('int64', 1)]),
    );
  }

  private once(what: string, make: () => string): string {
    return this.graph.once(`${what} of the group`, make);
  }
}
