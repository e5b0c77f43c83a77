/** Tables of a packed row for attention: which rows each group of blocks (segments.ts) reads, and what its queries see. */
import type { AttentionOptions } from '../../ops';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { loop } from './loop';

/** Sequences with a tensor for each group. What fills up a group's shorter blocks comes after all tokens of the block, so no query of the block sees it. */
export interface GroupTables {
  /** Number of groups, []. */
  count: string;
  /**
   * Rows of queries in [tokens·heads, …], int64 [blocks·kvHeads, group·places], where `group` heads share their keys. What fills up are
   * any tokens; for `ownQueries` it is one behind the last.
   */
  queries: string;
  ownQueries: string;
  /** Rows of keys and values in [tokens·kvHeads, …], int64 [blocks·kvHeads, keys]. */
  keys: string;
  /** [places, keys]: 0 where a query may look, HIDDEN elsewhere. */
  mask: string;
}

/** Added to a score to hide it; finite, so that differences of hidden scores are numbers. */
const HIDDEN = -1e30;

/** int32 as int64, the type of ONNX's indices. */
const wide = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });

/**
 * The tables of a row; all layers share them.
 * @param row a tensor of the row's tokens, and its borders (segments.ts)
 */
export function groupTables(
  graph: GraphBuilder,
  row: { tokens: string; blocks: string; groups: string },
  heads: AttentionOptions,
): GroupTables {
  return graph.once(`tables of ${row.blocks} for ${heads.heads}, ${heads.kvHeads}, ${heads.window}`, () => {
    const count = graph.op('Squeeze', [graph.sizeOf(row.groups, 0)]);
    const [blocks, groups] = [wide(graph, row.blocks), wide(graph, row.groups)];
    const tokens = graph.sizeOf(row.tokens, 0);
    const [queries, ownQueries, keys, mask] = loop(
      graph,
      { count, sequences: ['int64', 'int64', 'int64', 'float32'] },
      (body, iteration) => ({ items: tablesOf(body, new Blocks(body, { blocks, groups, tokens }, iteration), heads) }),
    );
    return { count, queries, ownQueries, keys, mask };
  });
}

function tablesOf(graph: GraphBuilder, blocks: Blocks, { heads, kvHeads, window }: AttentionOptions): string[] {
  return [
    rowsOf(graph, blocks.queries, kvHeads, heads / kvHeads),
    rowsOf(graph, blocks.ownQueries, kvHeads, heads / kvHeads),
    rowsOf(graph, blocks.keys, kvHeads, 1),
    blocks.mask(window),
  ];
}

/** The blocks of one group, side by side. */
class Blocks {
  /** Tokens of the row, [count, places] each. */
  readonly queries: string;
  readonly ownQueries: string;
  readonly keys: string;
  /** From 0 up to the number of the longest block's queries, and of its keys. */
  private readonly upToQueries: string;
  private readonly upToKeys: string;
  /** Tokens of the segment before the block, []: several blocks are a group only where there are none. */
  private readonly before: string;

  constructor(
    private readonly graph: GraphBuilder,
    row: { blocks: string; groups: string; tokens: string },
    iteration: string,
  ) {
    const bounds = graph.op('Gather', [row.groups, iteration], { axis: 0 });
    const [first, behind] = graph.ops('Split', [bounds], 2, { axis: 0, num_outputs: 2 });
    const own = graph.op('Slice', [row.blocks, first, behind, graph.ints([0])]);
    const [segment, start, end] = graph.ops('Split', [own], 3, { axis: 1, num_outputs: 3 });
    const longestFrom = (from: string): string =>
      graph.op('ReduceMax', [graph.op('Sub', [end, from]), graph.ints([0, 1])], { keepdims: 0 });
    const [queryCount, keyCount] = [longestFrom(start), longestFrom(segment)];
    this.before = graph.op('Sub', [keyCount, queryCount]);
    this.upToQueries = upTo(graph, queryCount);
    this.upToKeys = upTo(graph, keyCount);
    const last = graph.op('Sub', [row.tokens, graph.ints([1])]);
    const places = graph.op('Add', [start, this.upToQueries]);
    this.queries = graph.op('Min', [places, last]);
    this.ownQueries = graph.op('Where', [graph.op('Less', [places, end]), places, row.tokens]);
    this.keys = graph.op('Min', [graph.op('Add', [segment, this.upToKeys]), last]);
  }

  /** [places, keys] */
  mask(window: number | undefined): string {
    const { graph } = this;
    const own = graph.op('Unsqueeze', [graph.op('Add', [this.upToQueries, this.before]), graph.ints([1])]);
    const distance = graph.op('Sub', [own, graph.op('Unsqueeze', [this.upToKeys, graph.ints([0])])]);
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const past = graph.op('Where', [graph.op('Less', [distance, graph.scalar('int64', 0)]), hidden, shown]);
    if (window === undefined) return past;
    return graph.op('Where', [graph.op('Less', [distance, graph.scalar('int64', window)]), past, hidden]);
  }
}

/** int64, from 0 up to a size. */
function upTo(graph: GraphBuilder, size: string): string {
  return graph.op('Range', [graph.scalar('int64', 0), size, graph.scalar('int64', 1)]);
}

/** The rows in [tokens·heads, …] of tokens [count, places], with `group` heads for each of keys: [count·kvHeads, group·places]. */
function rowsOf(graph: GraphBuilder, tokens: string, kvHeads: number, group: number): string {
  const ofToken = graph.op('Mul', [graph.op('Unsqueeze', [tokens, graph.ints([1, 2])]), graph.ints([kvHeads * group])]);
  const rows = graph.op('Add', [ofToken, numbers(graph, kvHeads * group, [1, kvHeads, group, 1])]);
  const width = graph.op('Mul', [graph.sizeOf(tokens, 1), graph.ints([group])]);
  return graph.op('Reshape', [rows, graph.op('Concat', [graph.ints([-1]), width], { axis: 0 })]);
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
