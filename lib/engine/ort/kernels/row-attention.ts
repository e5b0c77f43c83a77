/**
 * Attention of all segments of a row at once, where it cannot go from group to group (attention.ts): on devices that leave
 * loops to the CPU, and in float16. A mask hides what lies outside of a token's segment, so the scores take
 * [heads, tokens, tokens].
 */
import type { AttentionOptions } from '../../ops';
import { HIDDEN } from '../fused-attention';
import type { Operand } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';
import { factorsOf, type WeightFactors } from './dropout';
import { softCapped, softCapSlope } from './soft-cap';

const ranks = [4, 4] as const;

interface Operands {
  q: Operand;
  k: Operand;
  v: Operand;
  /** Borders of the segments' blocks, int32 [blocks, 5]; see segments.ts. */
  blocks: Operand;
  /** Where weights are dropped. */
  factors?: WeightFactors;
}

/** softmax(scores + mask)·v, [tokens, heads·headDim]. */
export function rowAttention(graph: GraphBuilder, { q, k, v, blocks, factors }: Operands, options: AttentionOptions): string {
  const queries = byHead(graph, q, options, options.heads / options.kvHeads);
  const [keys, values] = [k, v].map((x) => byHead(graph, x, options, 1));
  const mask = maskOf(graph, q.name, blocks.name, options.window);
  const probabilities = probabilitiesOf(graph, scoresOf(graph, queries, keys, options), mask);
  const left = leaving(graph, q.name, blocks.name, factors, options);
  return byToken(graph, matrixProduct(graph, left(probabilities), values, { ranks }));
}

/** The same, where all weights are kept, with log Σ exp(score) of what each query sees, [tokens, heads]. */
export function rowAttentionWithSums(graph: GraphBuilder, operands: Operands, options: AttentionOptions): string[] {
  const { q, k, blocks } = operands;
  const [queries, keys] = [byHead(graph, q, options, options.heads / options.kvHeads), byHead(graph, k, options, 1)];
  const masked = graph.op('Add', [scoresOf(graph, queries, keys, options), maskOf(graph, q.name, blocks.name, options.window)]);
  return [rowAttention(graph, operands, options), byToken(graph, logSumsOf(graph, masked))];
}

/** In steps that every device has. */
function logSumsOf(graph: GraphBuilder, scores: string): string {
  const along = (op: string, x: string): string => graph.op(op, [x, graph.ints([-1])], { keepdims: 1 });
  const highest = along('ReduceMax', scores);
  const exponentials = graph.op('Exp', [graph.op('Sub', [scores, highest])]);
  return graph.op('Add', [highest, graph.op('Log', [along('ReduceSum', exponentials)])]);
}

/** The gradients of q, k and v; the formulas are those of SegmentAttentionGrad. */
export function rowAttentionGradients(
  graph: GraphBuilder,
  { dy, q, k, v, y, blocks, factors, dSums }: Operands & { dy: Operand; y: Operand; dSums?: Operand },
  options: AttentionOptions,
): string[] {
  const [queries, dOutput, output] = [q, dy, y].map((x) => byHead(graph, x, options, options.heads / options.kvHeads));
  const [keys, values] = [k, v].map((x) => byHead(graph, x, options, 1));
  const mask = maskOf(graph, q.name, blocks.name, options.window);
  const scores = scoresOf(graph, queries, keys, options);
  const probabilities = probabilitiesOf(graph, scores, mask);
  const left = leaving(graph, q.name, blocks.name, factors, options);
  const dProbabilities = left(matrixProduct(graph, dOutput, values, { ranks, transB: true }));
  const sums = graph.op('ReduceSum', [graph.op('Mul', [dOutput, output]), graph.ints([-1])], { keepdims: 1 });
  const along = dSums?.name ? graph.op('Sub', [sums, byHead(graph, dSums, options, options.heads / options.kvHeads)]) : sums;
  const dCapped = graph.op('Mul', [probabilities, graph.op('Sub', [dProbabilities, along])]);
  const { softcap } = options;
  const dScores = softcap === undefined ? dCapped : graph.op('Mul', [dCapped, softCapSlope(graph, scores, softcap)]);
  const dQueries = matrixProduct(graph, dScores, keys, { ranks, alpha: options.scale });
  const dKeys = matrixProduct(graph, dScores, queries, { ranks, transA: true, alpha: options.scale });
  const dValues = matrixProduct(graph, left(probabilities), dOutput, { ranks, transA: true });
  const overGroups = (x: string): string => graph.op('ReduceSum', [x, graph.ints([1])], { keepdims: 1 });
  return [dQueries, overGroups(dKeys), overGroups(dValues)].map((x) => byToken(graph, x));
}

/** [tokens, heads·headDim] to [kvHeads, groups, tokens, headDim]; `groups` query heads share a head of keys and values, which have 1. */
function byHead(graph: GraphBuilder, { name }: Operand, { kvHeads }: AttentionOptions, groups: number): string {
  // The features are left to ONNX: their number may happen to be one that varies elsewhere.
  const split = graph.op('Reshape', [name, graph.ints([0, kvHeads, groups, -1])]);
  return graph.op('Transpose', [split], { perm: [1, 2, 0, 3] });
}

/** Back from `byHead`. */
function byToken(graph: GraphBuilder, x: string): string {
  return graph.op('Reshape', [graph.op('Transpose', [x], { perm: [2, 0, 1, 3] }), graph.ints([0, -1])]);
}

/** scale·q·kᵀ, soft-capped where they are. */
function scoresOf(graph: GraphBuilder, q: string, k: string, { scale, softcap }: AttentionOptions): string {
  const products = matrixProduct(graph, q, k, { ranks, transB: true, alpha: scale });
  return softcap === undefined ? products : softCapped(graph, products, softcap);
}

function probabilitiesOf(graph: GraphBuilder, scores: string, mask: string): string {
  return graph.op('Softmax', [graph.op('Add', [scores, mask])], { axis: -1 });
}

/** What multiplies weights by their factors, where there are any. */
function leaving(
  graph: GraphBuilder,
  x: string,
  blocks: string,
  factors: WeightFactors | undefined,
  { heads, kvHeads }: AttentionOptions,
): (weights: string) => string {
  if (!factors) return (weights) => weights;
  const byHead = graph.op('Concat', [graph.ints([kvHeads, heads / kvHeads]), graph.sizeOf(x, 0), graph.sizeOf(x, 0)], { axis: 0 });
  const all = graph.op('Reshape', [factorsOfRow(graph, x, blocks, factors, heads), byHead]);
  return (weights) => graph.op('Mul', [weights, all]);
}

/** [heads, tokens, tokens]: the factors of each token (row) for those of its segment, anything for the others. */
function factorsOfRow(graph: GraphBuilder, x: string, blocks: string, { rows, table }: WeightFactors, heads: number): string {
  const ofToken = graph.op('Reshape', [
    factorsOf(graph, table, rows),
    graph.op('Concat', [graph.sizeOf(x, 0), graph.ints([heads, -1])], { axis: 0 }),
  ]);
  // the range of what is seen without a window begins with the segment
  const { places, first } = rangeInRow(graph, x, blocks);
  const [width, place, segment] = [graph.sizeOf(ofToken, 2), places, first].map((x) => graph.op('Cast', [x], { to: ELEMENT_TYPES.int32 }));
  const upright = (list: string): string => graph.op('Unsqueeze', [list, graph.ints([1])]);
  const inSegment = graph.op('Sub', [graph.op('Unsqueeze', [place, graph.ints([0])]), upright(segment)]);
  const last = graph.op('Sub', [width, graph.scalar('int32', 1)]);
  const bounded = graph.op('Min', [graph.op('Max', [inSegment, graph.scalar('int32', 0)]), last]);
  const index = graph.op('Add', [graph.op('Mul', [upright(place), width]), bounded]);
  const flat = graph.op('Reshape', [graph.op('Transpose', [ofToken], { perm: [1, 0, 2] }), graph.ints([heads, -1])]);
  return graph.op('Gather', [flat, index], { axis: 1 });
}

/** [tokens, tokens]: 0 where a token (row) may look, HIDDEN elsewhere. The same for all layers. */
function maskOf(graph: GraphBuilder, x: string, blocks: string, window?: number): string {
  return graph.once(`mask of ${blocks}, ${window}`, () => {
    const { places, first, prefix, prefixEnd } = visibleRange(graph, x, blocks, window);
    const columns = graph.op('Unsqueeze', [places, graph.ints([0])]);
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const before = (bound: string): string => graph.op('Less', [columns, graph.op('Unsqueeze', [bound, graph.ints([1])])]);
    const past = graph.op('Where', [graph.op('LessOrEqual', [columns, graph.op('Unsqueeze', [places, graph.ints([1])])]), shown, hidden]);
    const own = graph.op('Where', [before(first), hidden, past]);
    return graph.op('Where', [before(prefix), own, graph.op('Where', [before(prefixEnd), shown, own])]);
  });
}

/** What a token sees, [tokens] each. */
interface VisibleRange {
  /** Each token's place in the row. */
  places: string;
  /** The first place of its own segment that it sees. */
  first: string;
  /** The first place of its prefix that it sees, and the one behind the last; equal where there is none. */
  prefix: string;
  prefixEnd: string;
}

/** In float32: comparisons of integers would be left to the CPU. */
function visibleRange(graph: GraphBuilder, x: string, blocks: string, window?: number): VisibleRange {
  const { places, first, prefix, prefixEnd } = rangeInRow(graph, x, blocks, window);
  const asFloat = (list: string): string => graph.op('Cast', [list], { to: ELEMENT_TYPES.float32 });
  return { places: asFloat(places), first: asFloat(first), prefix: asFloat(prefix), prefixEnd: asFloat(prefixEnd) };
}

/** In int64. */
function rangeInRow(graph: GraphBuilder, x: string, blocks: string, window?: number): VisibleRange {
  const wide = graph.op('Cast', [blocks], { to: ELEMENT_TYPES.int64 });
  const columns = graph.ops('Split', [wide], 5, { axis: 1, num_outputs: 5 }).map((x) => graph.op('Reshape', [x, graph.ints([1, -1])]));
  const tokens = graph.op('Squeeze', [graph.sizeOf(x, 0)]);
  const places = graph.op('Range', [graph.scalar('int64', 0), tokens, graph.scalar('int64', 1)]);
  const place = graph.op('Unsqueeze', [places, graph.ints([1])]);
  const inBlock = graph.op('And', [graph.op('LessOrEqual', [columns[3], place]), graph.op('Less', [place, columns[4]])]);
  const [prefix, prefixTokens, segment] = columns
    .slice(0, 3)
    .map((column) =>
      graph.op('ReduceMax', [graph.op('Where', [inBlock, column, graph.scalar('int64', 0)]), graph.ints([1])], { keepdims: 0 }),
    );
  const range = { places, first: segment, prefix, prefixEnd: graph.op('Add', [prefix, prefixTokens]) };
  if (window !== undefined) {
    // Where the window begins; tokens of a prefix count as if they lay right before the segment.
    const from = graph.op('Sub', [places, graph.scalar('int64', window - 1)]);
    range.first = graph.op('Max', [segment, from]);
    const hidden = graph.op('Max', [graph.op('Sub', [graph.op('Add', [from, prefixTokens]), segment]), graph.scalar('int64', 0)]);
    range.prefix = graph.op('Min', [graph.op('Add', [prefix, hidden]), range.prefixEnd]);
  }
  return range;
}
