/** Tables of a packed row for attention: which rows each group of blocks (segments.ts) reads, and what its queries see. */
import type { AttentionOptions } from '../../ops';
import { LONGEST_BLOCK } from '../../segments';
import { HIDDEN } from '../fused-attention';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { loop } from './loop';

/**
 * Sequences with a tensor for each group. What fills up a group's shorter blocks comes after all tokens of the block, so no query of the
 * block sees it.
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
  /**
   * Rows of keys and values in [tokens·kvHeads, …], those of the prefix first: int32 [blocks·kvHeads, 1, keys]. What fills up are any. Of a segment
   * of n tokens all groups together list n²/256 keys a head: of 4,096 tokens and three heads 0.8 MB, where a step keeps some 5,000.
   */
  keys: string;
  /** What the queries see is a part of `masks`: where in it that begins, and where it ends, int32 [2] each. */
  maskStart: string;
  maskEnd: string;
  /** For queries with as many keys before them as a row may have, and fewer: 0 where they may look, HIDDEN elsewhere; no sequence. */
  masks: string;
}

/** What a row's tables are made from: a tensor of its tokens, and its borders (segments.ts). */
interface Row {
  tokens: string;
  blocks: string;
  groups: string;
}

/** The tables of a row; all layers share them, but those of windows of another size. */
export function groupTables(graph: GraphBuilder, row: Row, heads: AttentionOptions): GroupTables {
  const { count, reach, sequences } = graph.once(`tables of ${row.blocks} for ${heads.heads} and ${heads.kvHeads}`, () => {
    const count = graph.op('Squeeze', [graph.sizeOf(row.groups, 0)]);
    const tokens = graph.op('Cast', [graph.sizeOf(row.tokens, 0)], { to: ELEMENT_TYPES.int32 });
    const reach = reachOf(graph, row.blocks);
    const plan = { count, sequences: new Array<'int32'>(5).fill('int32') };
    const sequences = loop(graph, plan, (body, iteration) => ({ items: tablesOf(body, { ...row, tokens, reach }, heads, iteration) }));
    return { count, reach, sequences };
  });
  const [queries, ownQueries, keys, maskStart, maskEnd] = sequences;
  return { count, queries, ownQueries, keys, maskStart, maskEnd, masks: masksOf(graph, reach, heads.window) };
}

/** The most keys that any query has before it or at its own place, int32 [1]. @param blocks as of `Row` */
function reachOf(graph: GraphBuilder, blocks: string): string {
  return graph.once(`reach of ${blocks}`, () => {
    const [, prefixTokens, segment, , end] = graph.ops('Split', [blocks], 5, { axis: 1, num_outputs: 5 });
    const keys = graph.op('Add', [graph.op('Sub', [end, segment]), prefixTokens]);
    return graph.op('ReduceMax', [keys, graph.ints([0])], { keepdims: 0 });
  });
}

/**
 * What each of the queries of the longest block may see, if `reach` keys come before the first: [LONGEST_BLOCK, reach + LONGEST_BLOCK]. Of
 * fewer keys before it the last columns are the same.
 */
function masksOf(graph: GraphBuilder, reach: string, window: number | undefined): string {
  return graph.once(`masks of ${reach} within ${window}`, () => {
    const queries = numbers(graph, LONGEST_BLOCK, [LONGEST_BLOCK, 1]);
    const columns = graph.upTo(graph.op('Add', [reach, graph.scalar('int32', LONGEST_BLOCK)]));
    const keys = graph.op('Sub', [columns, reach]);
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const past = graph.op('Where', [graph.op('Less', [queries, keys]), hidden, shown]);
    if (window === undefined) return past;
    const first = graph.op('Sub', [queries, graph.scalar('int32', window - 1)]);
    return graph.op('Where', [graph.op('Less', [keys, first]), hidden, past]);
  });
}

/** The tables of one group, in the order of `groupTables`; `tokens` is the number of the row's tokens, [1]. */
function tablesOf(
  graph: GraphBuilder,
  { tokens, reach, blocks, groups }: Row & { reach: string },
  { heads, kvHeads }: AttentionOptions,
  iteration: string,
): string[] {
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
  const keyCount = graph.op('Add', [before, queryCount]);
  const lastToken = graph.op('Sub', [tokens, graph.scalar('int32', 1)]);
  const places = graph.op('Add', [start, graph.upTo(queryCount)]);
  const inRow = graph.op('Min', [places, lastToken]);
  const ownOnly = graph.op('Where', [graph.op('Less', [places, end]), places, tokens]);
  const keyPlaces = graph.upTo(keyCount);
  const origin = graph.op('Where', [graph.op('Less', [keyPlaces, prefixTokens]), prefix, first]);
  const keys = graph.op('Min', [graph.op('Add', [origin, keyPlaces]), lastToken]);
  const column = graph.op('Sub', [reach, before]);
  const group = heads / kvHeads;
  const parts = partsOf(graph, own, kvHeads);
  const vector = (x: string): string => graph.op('Reshape', [x, graph.ints([1])]);
  return [
    rowsOf(graph, inRow, { kvHeads, group, parts }),
    rowsOf(graph, ownOnly, { kvHeads, group, parts }),
    rowsOf(graph, keys, { kvHeads, group: 1, parts: graph.ints([1]) }),
    graph.op('Concat', [graph.constant('int32', [0], [1]), column], { axis: 0 }),
    graph.op('Concat', [vector(queryCount), graph.op('Add', [column, vector(keyCount)])], { axis: 0 }),
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
