/**
 * Causal attention inside the segments of a packed row, and its gradient.
 *
 * A Loop takes one segment after the other, so that the work is that of each example's own length, and the
 * [length, length] scores exist for one segment at a time; the gradient computes them again.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { AttentionOptions } from '../../ops';
import type { Attrs, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';

const like = (x: TensorInfo) => ({ shape: x.shape, dtype: 'float32' as const });
const keyOf = (attrs: Attrs): string => `${attrs.heads},${attrs.kvHeads},${attrs.scale},${attrs.window ?? ''}`;

/** Below the smallest finite score that matters, and finite itself. */
const HIDDEN = -1e30;

/** A segment of the row inside the Loop's body: its rows of each operand, by head. */
class SegmentBody {
  readonly graph: GraphBuilder;
  private readonly start: string;
  private readonly end: string;

  constructor(
    outer: GraphBuilder,
    private readonly borders: { starts: string; ends: string },
    private readonly options: AttentionOptions,
  ) {
    this.graph = outer.subgraph();
    const iteration = this.graph.input(this.graph.freshName(), 'int64', []);
    const condition = this.graph.input(this.graph.freshName(), 'bool', []);
    this.graph.outputAs(this.graph.freshName(), this.graph.op('Identity', [condition]), 'bool', []);
    const index = this.graph.reshape(iteration, [1]);
    this.start = this.graph.op('Gather', [this.borders.starts, index], { axis: 0 });
    this.end = this.graph.op('Gather', [this.borders.ends, index], { axis: 0 });
  }

  /** The segment's rows of a [tokens, heads·headDim] tensor, as [kvHeads, (heads/kvHeads)·length, headDim]. */
  byHead(x: string, heads: number): string {
    const { graph, options } = this;
    const groups = heads / options.kvHeads;
    const rows = graph.op('Slice', [x, this.start, this.end, graph.ints([0])]);
    const split = graph.op('Reshape', [rows, graph.ints([0, options.kvHeads, groups, -1])]);
    const turned = graph.op('Transpose', [split], { perm: [1, 2, 0, 3] });
    return groups === 1 ? graph.op('Squeeze', [turned, graph.ints([1])]) : this.mergeGroups(turned);
  }

  private mergeGroups(x: string): string {
    const { graph } = this;
    const shape = graph.op('Concat', [graph.ints([this.options.kvHeads, -1]), graph.sizeOf(x, 3)], { axis: 0 });
    return graph.op('Reshape', [x, shape]);
  }

  /** Back from `byHead` to [length, heads·headDim]. */
  byToken(x: string, heads: number): string {
    const { graph, options } = this;
    const groups = heads / options.kvHeads;
    const shape = graph.op('Concat', [graph.ints([options.kvHeads, groups]), this.length(), graph.sizeOf(x, 2)], { axis: 0 });
    const turned = graph.op('Transpose', [graph.op('Reshape', [x, shape])], { perm: [2, 0, 1, 3] });
    return graph.op('Reshape', [turned, graph.op('Concat', [this.length(), graph.ints([-1])], { axis: 0 })]);
  }

  private lengthName?: string;
  private length(): string {
    this.lengthName ??= this.graph.op('Sub', [this.end, this.start]);
    return this.lengthName;
  }

  /** softmax(scale·q·kᵀ + mask), [kvHeads, groups·length, length]. */
  probabilities(q: string, k: string): string {
    const { graph, options } = this;
    const products = graph.op('FusedMatMul', [q, k], { transB: 1, alpha: float(options.scale) });
    const groups = options.heads / options.kvHeads;
    const length = this.length();
    if (groups === 1) return graph.op('Softmax', [graph.op('Add', [products, this.mask()])], { axis: -1 });
    const grouped = graph.op('Concat', [graph.ints([options.kvHeads, groups]), length, length], { axis: 0 });
    const masked = graph.op('Add', [graph.op('Reshape', [products, grouped]), this.mask()]);
    const merged = graph.op('Concat', [graph.ints([options.kvHeads, -1]), length], { axis: 0 });
    return graph.op('Reshape', [graph.op('Softmax', [masked], { axis: -1 }), merged]);
  }

  /** [length, length]: 0 where a token may look, HIDDEN elsewhere. */
  private mask(): string {
    const { graph, options } = this;
    const length = graph.op('Squeeze', [this.length()]);
    const places = graph.op('Range', [graph.scalar('int64', 0), length, graph.scalar('int64', 1)]);
    const rows = graph.op('Unsqueeze', [places, graph.ints([1])]);
    let visible = graph.op('LessOrEqual', [places, rows]);
    if (options.window !== undefined) {
      const first = graph.op('Sub', [rows, graph.scalar('int64', options.window)]);
      visible = graph.op('And', [visible, graph.op('Greater', [places, first])]);
    }
    return graph.op('Where', [visible, graph.scalar('float32', 0), graph.scalar('float32', HIDDEN)]);
  }

  rowsOf(x: string): string {
    return this.graph.op('Slice', [x, this.start, this.end, this.graph.ints([0])]);
  }
}

/** Runs a body for each segment and lays its results end to end. */
function forEachSegment(
  graph: GraphBuilder,
  lengths: string,
  options: AttentionOptions,
  results: number,
  body: (segment: SegmentBody) => string[],
): string[] {
  const wide = graph.op('Cast', [lengths], { to: ELEMENT_TYPES.int64 });
  const ends = graph.op('CumSum', [wide, graph.scalar('int64', 0)]);
  const starts = graph.op('Sub', [ends, wide]);
  const segment = new SegmentBody(graph, { starts, ends }, options);
  const inner = segment.graph;
  const carried = Array.from({ length: results }, () => inner.input(inner.freshName(), 'sequence'));
  for (const [index, result] of body(segment).entries()) {
    const longer = inner.op('SequenceInsert', [carried[index], result]);
    inner.output(longer, 'sequence');
  }
  const empty = Array.from({ length: results }, () => graph.op('SequenceEmpty', [], { dtype: 1 }));
  const sequences = graph.ops('Loop', [graph.op('Size', [lengths]), '', ...empty], results, { body: inner });
  return sequences.map((sequence) => graph.op('ConcatFromSequence', [sequence], { axis: 0 }));
}

const attention: OrtKernel = {
  name: 'SegmentAttention',
  inputs: ['q', 'k', 'v', 'lengths'],
  infer: ([q]) => like(q),
  key: keyOf,
  emit: ({ graph, inputs: [q, k, v, lengths], attrs }) => {
    const options = attrs as AttentionOptions;
    return forEachSegment(graph, lengths.name, options, 1, (segment) => {
      const probabilities = segment.probabilities(segment.byHead(q.name, options.heads), segment.byHead(k.name, options.kvHeads));
      const mixed = segment.graph.op('MatMul', [probabilities, segment.byHead(v.name, options.kvHeads)]);
      return [segment.byToken(mixed, options.heads)];
    });
  },
};

/**
 * With P the probabilities and o = P·v: dv = Pᵀ·do, dP = do·vᵀ, dS = P∘(dP − rowsum(do∘o)), dq = scale·dS·k,
 * dk = scale·dSᵀ·q (as in FlashAttention; Dao et al. 2022).
 */
const attentionGrad: OrtKernel = {
  name: 'SegmentAttentionGrad',
  inputs: ['dy', 'q', 'k', 'v', 'y', 'lengths'],
  infer: ([, q, k, v]) => [like(q), like(k), like(v)],
  key: keyOf,
  emit: ({ graph, inputs: [dy, q, k, v, y, lengths], attrs }) => {
    const options = attrs as AttentionOptions;
    const { heads, kvHeads } = options;
    const scale = float(options.scale);
    return forEachSegment(graph, lengths.name, options, 3, (segment) => {
      const { graph: g } = segment;
      const [queries, keys, values] = [segment.byHead(q.name, heads), segment.byHead(k.name, kvHeads), segment.byHead(v.name, kvHeads)];
      const [dOutput, output] = [segment.byHead(dy.name, heads), segment.byHead(y.name, heads)];
      const probabilities = segment.probabilities(queries, keys);
      const dProbabilities = g.op('FusedMatMul', [dOutput, values], { transB: 1, alpha: float(1) });
      const along = g.op('ReduceSum', [g.op('Mul', [dOutput, output]), g.ints([-1])], { keepdims: 1 });
      const dScores = g.op('Mul', [probabilities, g.op('Sub', [dProbabilities, along])]);
      const dQueries = g.op('FusedMatMul', [dScores, keys], { alpha: scale });
      const dKeys = g.op('FusedMatMul', [dScores, queries], { transA: 1, alpha: scale });
      const dValues = g.op('FusedMatMul', [probabilities, dOutput], { transA: 1, alpha: float(1) });
      return [segment.byToken(dQueries, heads), segment.byToken(dKeys, kvHeads), segment.byToken(dValues, kvHeads)];
    });
  },
};

/**
 * One new token of each sequence against its cache, by ONNX Runtime's own kernel, which writes the token's keys and
 * values into the cache's memory when it may.
 */
const cachedAttention: OrtKernel = {
  name: 'CachedAttention',
  inputs: ['q', 'k', 'v', 'keys', 'values', 'lengths'],
  infer: ([q, , , keys, values]) => [like(q), like(keys), like(values)],
  key: keyOf,
  inPlace: [
    [3, 1],
    [4, 2],
  ],
  emit: ({ graph, inputs: [q, k, v, keys, values, lengths], attrs }) => {
    const { heads, kvHeads, scale, window } = attrs as AttentionOptions;
    const second = graph.ints([1]);
    const [query, key, value] = [q, k, v].map((x) => graph.op('Unsqueeze', [x.name, second]));
    const total = graph.op('Add', [graph.op('ReduceMax', [lengths.name], { keepdims: 0 }), graph.scalar('int32', 1)]);
    const outputs = graph.ops('GroupQueryAttention', [query, key, value, keys.name, values.name, lengths.name, total], 3, {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(scale),
      local_window_size: window ?? -1,
    });
    return [graph.op('Squeeze', [outputs[0], second]), outputs[1], outputs[2]];
  },
};

export const attentionKernels = [attention, attentionGrad, cachedAttention];
