/** Tables of a packed row for attention: which rows each group of blocks (segments.ts) reads, and what its queries see. */
import type { AttentionOptions } from '../../ops';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { loop } from './loop';

/**
 * Sequences with a tensor for each group. What fills up a group's shorter blocks comes after all tokens of the block, so no query of the
 * block sees it.
 */
export interface GroupTables {
  /** Number of groups, []. */
  count: string;
  /**
   * Rows of queries in [tokens·heads, …], int32 [blocks·kvHeads, group·places], where `group` heads share their keys. What fills up are
   * any tokens; for `ownQueries` it is one behind the last.
   */
  queries: string;
  ownQueries: string;
  /** Rows of keys and values in [tokens·kvHeads, …], int32 [blocks·kvHeads, keys]. */
  keys: string;
  /** Where in the segment the longest block's queries are, int32 [places, 1], and its keys, [1, keys]. */
  queryPlaces: string;
  keyPlaces: string;
}

/**
 * The tables of a row; all layers share them.
 * @param row a tensor of the row's tokens, and its borders (segments.ts)
 */
export function groupTables(
  graph: GraphBuilder,
  row: { tokens: string; blocks: string; groups: string },
  heads: AttentionOptions,
): GroupTables {
  return graph.once(`tables of ${row.blocks} for ${heads.heads} and ${heads.kvHeads}`, () => {
    const count = graph.op('Squeeze', [graph.sizeOf(row.groups, 0)]);
    const tokens = graph.op('Cast', [graph.sizeOf(row.tokens, 0)], { to: ELEMENT_TYPES.int32 });
    const plan = { count, sequences: ['int32', 'int32', 'int32', 'int32', 'int32'] } as const;
    const [queries, ownQueries, keys, queryPlaces, keyPlaces] = loop(graph, plan, (body, iteration) => ({
      items: tablesOf(body, new Blocks(body, { ...row, tokens }, iteration), heads),
    }));
    return { count, queries, ownQueries, keys, queryPlaces, keyPlaces };
  });
}

function tablesOf(graph: GraphBuilder, blocks: Blocks, { heads, kvHeads }: AttentionOptions): string[] {
  return [
    rowsOf(graph, blocks.queries, kvHeads, heads / kvHeads),
    rowsOf(graph, blocks.ownQueries, kvHeads, heads / kvHeads),
    rowsOf(graph, blocks.keys, kvHeads, 1),
    blocks.queryPlaces,
    blocks.keyPlaces,
  ];
}

/** The blocks of one group, side by side. */
class Blocks {
  /** Tokens of the row, [count, places] each. */
  readonly queries: string;
  readonly ownQueries: string;
  readonly keys: string;
  /** See GroupTables. */
  readonly queryPlaces: string;
  readonly keyPlaces: string;

  constructor(graph: GraphBuilder, row: { blocks: string; groups: string; tokens: string }, iteration: string) {
    const bounds = graph.op('Gather', [row.groups, iteration], { axis: 0 });
    const [first, behind] = graph.ops('Split', [bounds], 2, { axis: 0, num_outputs: 2 });
    const own = graph.op('Slice', [row.blocks, first, behind, graph.constant('int32', [0], [1])]);
    const [segment, start, end] = graph.ops('Split', [own], 3, { axis: 1, num_outputs: 3 });
    const longestFrom = (from: string): string =>
      graph.op('ReduceMax', [graph.op('Sub', [end, from]), graph.ints([0, 1])], { keepdims: 0 });
    const [queryCount, keyCount] = [longestFrom(start), longestFrom(segment)];
    const last = graph.op('Sub', [row.tokens, graph.scalar('int32', 1)]);
    const places = graph.op('Add', [start, upTo(graph, queryCount)]);
    this.queries = graph.op('Min', [places, last]);
    this.ownQueries = graph.op('Where', [graph.op('Less', [places, end]), places, row.tokens]);
    this.keys = graph.op('Min', [graph.op('Add', [segment, upTo(graph, keyCount)]), last]);
    // Several blocks are a group only where none of their segments' tokens come before.
    const before = graph.op('Sub', [keyCount, queryCount]);
    this.queryPlaces = graph.op('Unsqueeze', [graph.op('Add', [upTo(graph, queryCount), before]), graph.ints([1])]);
    this.keyPlaces = graph.op('Unsqueeze', [upTo(graph, keyCount), graph.ints([0])]);
  }
}

/** int32, from 0 up to a size. */
function upTo(graph: GraphBuilder, size: string): string {
  return graph.op('Range', [graph.scalar('int32', 0), size, graph.scalar('int32', 1)]);
}

/** The rows in [tokens·heads, …] of tokens [count, places], with `group` heads for each of keys: [count·kvHeads, group·places]. */
function rowsOf(graph: GraphBuilder, tokens: string, kvHeads: number, group: number): string {
  const ofToken = graph.op('Mul', [graph.op('Unsqueeze', [tokens, graph.ints([1, 2])]), graph.scalar('int32', kvHeads * group)]);
  const rows = graph.op('Add', [ofToken, numbers(graph, kvHeads * group, [1, kvHeads, group, 1])]);
  const width = graph.op('Mul', [graph.sizeOf(tokens, 1), graph.ints([group])]);
  return graph.op('Reshape', [rows, graph.op('Concat', [graph.ints([-1]), width], { axis: 0 })]);
}

/**
 * For each token and head its row in what the groups give one after the other, [count·heads·places, …] each: int32 [tokens, heads].
 * @param slots int32 [tokens, 3]; see segments.ts
 */
export function placesOf(graph: GraphBuilder, slots: string, heads: number): string {
  return graph.once(`places of ${heads} heads in ${slots}`, () => {
    const [before, width, place] = graph.ops('Split', [slots], 3, { axis: 1, num_outputs: 3 });
    const first = graph.op('Add', [graph.op('Mul', [before, graph.scalar('int32', heads)]), place]);
    return graph.op('Add', [first, graph.op('Mul', [width, numbers(graph, heads, [1, heads])])]);
  });
}

/** The whole numbers from 0. */
function numbers(graph: GraphBuilder, count: number, shape: number[]): string {
  return graph.constant('int32', [...Array(count).keys()], shape);
}
