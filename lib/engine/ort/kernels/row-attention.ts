/**
 * Attention of all segments of a row at once, where it cannot go from group to group (attention.ts): on devices that leave
 * loops to the CPU, and in float16. A mask hides what lies outside of a token's segment, so the scores take
 * [heads, tokens, tokens].
 */
import type { AttentionOptions } from '../../ops';
import type { Operand } from '../kernel';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { matrixProduct } from '../products';

/** Below the smallest finite score that matters, and finite itself. */
const HIDDEN = -1e30;

const ranks = [4, 4] as const;

interface Operands {
  q: Operand;
  k: Operand;
  v: Operand;
  /** Borders of the segments' blocks, int32 [blocks, 3]; see segments.ts. */
  blocks: Operand;
}

/** softmax(scale·q·kᵀ + mask)·v, [tokens, heads·headDim]. */
export function rowAttention(graph: GraphBuilder, { q, k, v, blocks }: Operands, options: AttentionOptions): string {
  const queries = byHead(graph, q, options, options.heads / options.kvHeads);
  const [keys, values] = [k, v].map((x) => byHead(graph, x, options, 1));
  const probabilities = probabilitiesOf(graph, queries, keys, maskOf(graph, q.name, blocks.name, options.window), options.scale);
  return byToken(graph, matrixProduct(graph, probabilities, values, { ranks }));
}

/** The gradients of q, k and v; the formulas are those of SegmentAttentionGrad. */
export function rowAttentionGradients(
  graph: GraphBuilder,
  { dy, q, k, v, y, blocks }: Operands & { dy: Operand; y: Operand },
  options: AttentionOptions,
): string[] {
  const [queries, dOutput, output] = [q, dy, y].map((x) => byHead(graph, x, options, options.heads / options.kvHeads));
  const [keys, values] = [k, v].map((x) => byHead(graph, x, options, 1));
  const probabilities = probabilitiesOf(graph, queries, keys, maskOf(graph, q.name, blocks.name, options.window), options.scale);
  const dProbabilities = matrixProduct(graph, dOutput, values, { ranks, transB: true });
  const along = graph.op('ReduceSum', [graph.op('Mul', [dOutput, output]), graph.ints([-1])], { keepdims: 1 });
  const dScores = graph.op('Mul', [probabilities, graph.op('Sub', [dProbabilities, along])]);
  const dQueries = matrixProduct(graph, dScores, keys, { ranks, alpha: options.scale });
  const dKeys = matrixProduct(graph, dScores, queries, { ranks, transA: true, alpha: options.scale });
  const dValues = matrixProduct(graph, probabilities, dOutput, { ranks, transA: true });
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

function probabilitiesOf(graph: GraphBuilder, q: string, k: string, mask: string, scale: number): string {
  const scores = matrixProduct(graph, q, k, { ranks, transB: true, alpha: scale });
  return graph.op('Softmax', [graph.op('Add', [scores, mask])], { axis: -1 });
}

/** [tokens, tokens]: 0 where a token (row) may look, HIDDEN elsewhere. The same for all layers. */
function maskOf(graph: GraphBuilder, x: string, blocks: string, window?: number): string {
  return graph.once(`mask of ${blocks}, ${window}`, () => {
    const { places, first } = visibleRange(graph, x, blocks, window);
    const [row, column] = [graph.ints([1]), graph.ints([0])];
    const columns = graph.op('Unsqueeze', [places, column]);
    const [shown, hidden] = [graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)];
    const past = graph.op('Where', [graph.op('LessOrEqual', [columns, graph.op('Unsqueeze', [places, row])]), shown, hidden]);
    return graph.op('Where', [graph.op('Less', [columns, graph.op('Unsqueeze', [first, row])]), hidden, past]);
  });
}

/** For each token its place in the row and the first place that it may look at: float32 [tokens]. As integers these would be left to the CPU. */
function visibleRange(graph: GraphBuilder, x: string, blocks: string, window?: number): { places: string; first: string } {
  const wide = graph.op('Cast', [blocks], { to: ELEMENT_TYPES.int64 });
  const [segments, starts] = graph
    .ops('Split', [wide], 3, { axis: 1, num_outputs: 3 })
    .map((x) => graph.op('Reshape', [x, graph.ints([1, -1])]));
  const tokens = graph.op('Squeeze', [graph.sizeOf(x, 0)]);
  const places = graph.op('Range', [graph.scalar('int64', 0), tokens, graph.scalar('int64', 1)]);
  // a token's segment: the last of those of the blocks that start before it
  const reached = graph.op('LessOrEqual', [starts, graph.op('Unsqueeze', [places, graph.ints([1])])]);
  const candidates = graph.op('Where', [reached, segments, graph.scalar('int64', 0)]);
  let first = graph.op('ReduceMax', [candidates, graph.ints([1])], { keepdims: 0 });
  if (window !== undefined) first = graph.op('Max', [first, graph.op('Sub', [places, graph.scalar('int64', window - 1)])]);
  const [placesOut, firstOut] = [places, first].map((list) => graph.op('Cast', [list], { to: ELEMENT_TYPES.float32 }));
  return { places: placesOut, first: firstOut };
}
