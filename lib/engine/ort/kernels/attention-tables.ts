/** Tables of a packed row for attention: which rows each group of blocks (segments.ts) reads, and what its queries see. */
import type { AttentionOptions } from '../../ops';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { loop } from './loop';

/**
 * Sequences with a tensor for each group. What fills up a group's shorter blocks comes after all tokens of the block, so no query of the
 * block sees it. All blocks of a segment have its prefix and its first tokens as keys, so no list of each block's keys is kept: together
 * they would grow with the square of the row's length.
 */
export interface GroupTables {
  /** Number of groups, []; no sequence. */
  count: string;
  /**
   * Rows of queries in [tokens·heads, …], int32 [blocks·kvHeads, parts, group·places / parts], where `group` heads share their keys.
   * What fills up are any tokens; for `ownQueries` it is one behind the last.
   */
  queries: string;
  ownQueries: string;
  /** Where in the segment, its prefix included, the longest block's queries are, int32 [places, 1]. */
  queryPlaces: string;
  /** Tokens in the blocks' prefixes, int32 []. */
  prefixCount: string;
  /** Rows of the prefix's first keys and values in [tokens·kvHeads, …], int32 [blocks·kvHeads, 1, 1]. */
  prefixKeys: string;
  /** The same of the segment's own, less those of as many tokens as the prefix has: where the first would be if it did not lie elsewhere. */
  firstKeys: string;
  /** The last such row, [1], for what fills up beyond it; no sequence. */
  lastKey: string;
  /** Keys of the longest block, those of the prefix included, int32 []. */
  keyCount: string;
}

/** What a row's tables are made from: a tensor of its tokens, and its borders (segments.ts). */
interface Row {
  tokens: string;
  blocks: string;
  groups: string;
}

/** The tables of a row; all layers share them. */
export function groupTables(graph: GraphBuilder, row: Row, heads: AttentionOptions): GroupTables {
  return graph.once(`tables of ${row.blocks} for ${heads.heads} and ${heads.kvHeads}`, () => {
    const count = graph.op('Squeeze', [graph.sizeOf(row.groups, 0)]);
    const tokens = graph.op('Cast', [graph.sizeOf(row.tokens, 0)], { to: ELEMENT_TYPES.int32 });
    const keyRows = graph.op('Mul', [tokens, graph.scalar('int32', heads.kvHeads)]);
    const lastKey = graph.op('Sub', [keyRows, graph.scalar('int32', 1)]);
    const plan = { count, sequences: new Array<'int32'>(7).fill('int32') };
    const [queries, ownQueries, queryPlaces, prefixCount, prefixKeys, firstKeys, keyCount] = loop(graph, plan, (body, iteration) => ({
      items: tablesOf(body, { ...row, tokens }, heads, iteration),
    }));
    return { count, queries, ownQueries, queryPlaces, prefixCount, prefixKeys, firstKeys, lastKey, keyCount };
  });
}

/** The tables of one group, in the order of `groupTables`; `tokens` is the number of the row's tokens, [1]. */
function tablesOf(graph: GraphBuilder, { tokens, blocks, groups }: Row, { heads, kvHeads }: AttentionOptions, iteration: string): string[] {
  const bounds = graph.op('Gather', [groups, iteration], { axis: 0 });
  const [from, behind] = graph.ops('Split', [bounds], 2, { axis: 0, num_outputs: 2 });
  const own = graph.op('Slice', [blocks, from, behind, graph.constant('int32', [0], [1])]);
  const [prefix, prefixTokens, segment, start, end] = graph.ops('Split', [own], 5, { axis: 1, num_outputs: 5 });
  const largest = (of: string): string => graph.op('ReduceMax', [of, graph.ints([0, 1])], { keepdims: 0 });
  const first = graph.op('Sub', [segment, prefixTokens]);
  const [longest, longestWithKeys] = [start, first].map((from) => largest(graph.op('Sub', [end, from])));
  // Several blocks are a group only where nothing but prefixes of one length comes before.
  const before = graph.op('Sub', [longestWithKeys, longest]);
  const queryCount = evenly(graph, longest);
  const upToQueries = graph.upTo(queryCount);
  const places = graph.op('Add', [start, upToQueries]);
  const inRow = graph.op('Min', [places, graph.op('Sub', [tokens, graph.scalar('int32', 1)])]);
  const ownOnly = graph.op('Where', [graph.op('Less', [places, end]), places, tokens]);
  const group = heads / kvHeads;
  const parts = partsOf(graph, own, kvHeads);
  const whole = graph.ints([1]);
  return [
    rowsOf(graph, inRow, { kvHeads, group, parts }),
    rowsOf(graph, ownOnly, { kvHeads, group, parts }),
    graph.op('Unsqueeze', [graph.op('Add', [upToQueries, before]), graph.ints([1])]),
    largest(prefixTokens),
    rowsOf(graph, prefix, { kvHeads, group: 1, parts: whole }),
    rowsOf(graph, first, { kvHeads, group: 1, parts: whole }),
    graph.op('Add', [before, queryCount]),
  ];
}

/** The next even number. */
function evenly(graph: GraphBuilder, count: string): string {
  return graph.op('Add', [count, graph.op('Mod', [count, graph.scalar('int32', 2)])]);
}

/**
 * Into how many parts the queries of blocks are cut, int64 [1]. Each product of a block's queries with the keys of a head is a thread's;
 * an odd number of them leaves one of two threads idle while the other computes the last.
 */
function partsOf(graph: GraphBuilder, blocks: string, kvHeads: number): string {
  const one = graph.ints([1]);
  return kvHeads % 2 === 0 ? one : graph.op('Add', [one, graph.op('Mod', [graph.sizeOf(blocks, 0), graph.ints([2])])]);
}

/**
 * The rows in [tokens·heads, …] of tokens [count, places], an even number of them, with `group` heads for each of keys:
 * [count·kvHeads, parts, group·places / parts].
 */
function rowsOf(graph: GraphBuilder, tokens: string, { kvHeads, group, parts }: { kvHeads: number; group: number; parts: string }): string {
  const ofToken = graph.op('Mul', [graph.op('Unsqueeze', [tokens, graph.ints([1, 2])]), graph.scalar('int32', kvHeads * group)]);
  const rows = graph.op('Add', [ofToken, numbers(graph, kvHeads * group, [1, kvHeads, group, 1])]);
  const width = graph.op('Div', [graph.op('Mul', [graph.sizeOf(tokens, 1), graph.ints([group])]), parts]);
  return graph.op('Reshape', [rows, graph.op('Concat', [graph.ints([-1]), parts, width], { axis: 0 })]);
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
