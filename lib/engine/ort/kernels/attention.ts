/**
 * Causal attention inside the segments of a packed row, and its gradient.
 *
 * A Loop takes one block of queries after the other (segments.ts), with the keys from the start of their segment to the
 * end of the block. So the work is that of each example's own length, without most of what causality hides, and scores
 * exist for one block at a time: memory grows with the row's length, not with its square. The gradient computes them again.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { AttentionOptions } from '../../ops';
import type { Attrs, OrtKernel } from '../kernel';
import { ELEMENT_TYPES, float, type GraphBuilder } from '../onnx';
import { matrixProduct, type ProductOptions } from '../products';
import { rowAttention, rowAttentionGradients } from './row-attention';

const like = (x: TensorInfo) => ({ shape: x.shape, dtype: 'float32' as const });
const keyOf = (attrs: Attrs): string => `${attrs.heads},${attrs.kvHeads},${attrs.scale},${attrs.window ?? ''}`;

/** Options of attention, and what follows from them and the width of the queries. */
interface Heads extends AttentionOptions {
  headDim: number;
}

function headsOf(attrs: Attrs, width: number): Heads {
  const options = attrs as AttentionOptions;
  return { ...options, headDim: width / options.heads };
}

/** Whether ONNX Runtime's operator that attends and gives the probabilities can be used: on the CPU, in float32, on features in eights. */
function canFuse({ target }: GraphBuilder, { headDim }: Heads): boolean {
  return target.device === 'cpu' && target.precision === 'float32' && headDim % 8 === 0;
}

/** [tokens, heads·headDim] as [heads, tokens, headDim]. */
function byHead(graph: GraphBuilder, x: string, heads: number): string {
  return graph.op('Transpose', [graph.op('Reshape', [x, graph.ints([0, heads, -1])])], { perm: [1, 0, 2] });
}

/** Back from `byHead`. */
function byToken(graph: GraphBuilder, x: string, width: number): string {
  return graph.op('Reshape', [graph.op('Transpose', [x], { perm: [1, 0, 2] }), graph.ints([-1, width])]);
}

function batched(graph: GraphBuilder, x: string): string {
  return graph.op('Unsqueeze', [x, graph.ints([0])]);
}

/** Queries, keys and values of the row, as blocks read them. */
interface Operands {
  /** [1, tokens, heads·headDim], then [1, tokens, kvHeads·headDim] twice. */
  tokens: { q: string; k: string; v: string };
  /** [1, kvHeads, tokens, headDim] each. */
  heads: { k: string; v: string };
}

function operandsOf(graph: GraphBuilder, [q, k, v]: string[], { kvHeads }: Heads): Operands {
  const turned = (x: string): string => batched(graph, byHead(graph, x, kvHeads));
  return {
    tokens: { q: batched(graph, q), k: batched(graph, k), v: batched(graph, v) },
    heads: { k: turned(k), v: turned(v) },
  };
}

/** Value of the attribute qk_output: the fourth output is the probabilities. */
const AFTER_SOFTMAX = 2;

/** What a block's attention gives. */
interface Attended {
  /** [1, block, heads·headDim]. */
  output: string;
  /** [1, heads, block, keys]. */
  probabilities: string;
  /** Those that the block sees, [1, kvHeads, keys, headDim] each. */
  keys: string;
  values: string;
}

/** One block of queries inside the Loop's body. */
class Block {
  /** Where in the row its segment starts, where it starts, where it ends; int64 [1] each. */
  private readonly segment: string;
  private readonly start: string;
  private readonly end: string;
  /** Tokens of the segment before the block, and up to its end; int64 [1] each. */
  readonly before: string;
  readonly keyCount: string;

  constructor(
    readonly graph: GraphBuilder,
    blocks: string,
    index: string,
  ) {
    const borders = graph.op('Squeeze', [graph.op('Gather', [blocks, index], { axis: 0 }), graph.ints([0])]);
    [this.segment, this.start, this.end] = graph.ops('Split', [borders], 3, { axis: 0, num_outputs: 3 });
    this.before = graph.op('Sub', [this.start, this.segment]);
    this.keyCount = graph.op('Sub', [this.end, this.segment]);
  }

  /** The block's own part of a tensor, along an axis that counts tokens. */
  own(x: string, axis: number): string {
    return this.graph.op('Slice', [x, this.start, this.end, this.graph.ints([axis])]);
  }

  /** ONNX Runtime's own attention of the block's queries to all keys up to them. */
  attend({ tokens, heads }: Operands, { heads: count, kvHeads, scale, window }: Heads): Attended {
    const { graph } = this;
    const earlier = (x: string): string => graph.op('Slice', [x, this.segment, this.start, graph.ints([2])]);
    const total = graph.op('Cast', [this.keyCount], { to: ELEMENT_TYPES.int32 });
    const last = graph.op('Sub', [total, graph.constant('int32', [1], [1])]);
    const own = [tokens.q, tokens.k, tokens.v].map((x) => this.own(x, 1));
    const inputs = [...own, earlier(heads.k), earlier(heads.v), last, graph.op('Squeeze', [total])];
    const [output, keys, values, probabilities] = graph.ops('GroupQueryAttention', inputs, 4, {
      num_heads: count,
      kv_num_heads: kvHeads,
      scale: float(scale),
      local_window_size: window ?? -1,
      qk_output: AFTER_SOFTMAX,
    });
    return { output, probabilities, keys, values };
  }
}

/** A graph for the Loop's body, whose first input is the iteration, here as int64 [1], and whose condition stays true. */
function loopBody(outer: GraphBuilder): { body: GraphBuilder; iteration: string } {
  const body = outer.subgraph();
  const iteration = body.input(body.freshName(), 'int64', []);
  const condition = body.input(body.freshName(), 'bool', []);
  body.outputAs(body.freshName(), body.op('Identity', [condition]), 'bool', []);
  return { body, iteration: body.reshape(iteration, [1]) };
}

/** int32 as int64, the type of ONNX's indices. */
const wide = (graph: GraphBuilder, x: string): string => graph.op('Cast', [x], { to: ELEMENT_TYPES.int64 });

const emptySequence = (graph: GraphBuilder): string => graph.op('SequenceEmpty', [], { dtype: 1 });

const attention: OrtKernel = {
  name: 'SegmentAttention',
  inputs: ['q', 'k', 'v', 'blocks'],
  infer: ([q]) => like(q),
  key: (attrs, [q]) => `${keyOf(attrs)},${q.shape[1]}`,
  emit: (emission) => {
    const { graph, inputs } = emission;
    const [q, k, v, blocks] = inputs;
    const heads = headsOf(emission.attrs, emission.concrete[0][1]);
    if (!canFuse(graph, heads)) return rowAttention(graph, { q, k, v, blocks }, heads);
    const operands = operandsOf(graph, [q.name, k.name, v.name], heads);
    const { body, iteration } = loopBody(graph);
    const outputs = body.input(body.freshName(), 'sequence');
    const { output } = new Block(body, wide(graph, blocks.name), iteration).attend(operands, heads);
    body.output(body.op('SequenceInsert', [outputs, output]), 'sequence');
    const count = graph.op('Squeeze', [graph.sizeOf(blocks.name, 0)]);
    const [sequence] = graph.ops('Loop', [count, '', emptySequence(graph)], 1, { body });
    return graph.op('Squeeze', [graph.op('ConcatFromSequence', [sequence], { axis: 1 }), graph.ints([0])]);
  },
};

/**
 * With P the probabilities and o = P·v: dv = Pᵀ·do, dP = do·vᵀ, dS = P∘(dP − rowsum(do∘o)), dq = scale·dS·k,
 * dk = scale·dSᵀ·q (as in FlashAttention; Dao et al. 2022). The Loop goes from the last block to the first and carries along
 * the gradients of the keys and values before the block: what a block adds to its own keys and values is their last part.
 */
const attentionGrad: OrtKernel = {
  name: 'SegmentAttentionGrad',
  inputs: ['dy', 'q', 'k', 'v', 'y', 'blocks'],
  infer: ([, q, k, v]) => [like(q), like(k), like(v)],
  key: (attrs, [, q]) => `${keyOf(attrs)},${q.shape[1]}`,
  emit: (emission) => {
    const { graph, inputs } = emission;
    const [dy, q, k, v, y, blocks] = inputs;
    const width = emission.concrete[1][1];
    const heads = headsOf(emission.attrs, width);
    if (!canFuse(graph, heads)) return rowAttentionGradients(graph, { dy, q, k, v, y, blocks }, heads);
    const row = rowGradientOperands(graph, [dy.name, q.name, k.name, v.name, y.name], heads);
    const { body, iteration } = loopBody(graph);
    const sequences = [0, 1, 2].map(() => body.input(body.freshName(), 'sequence'));
    const carried = [0, 1].map(() => body.input(body.freshName(), 'float32'));
    const count = graph.sizeOf(blocks.name, 0);
    const index = body.op('Sub', [body.op('Sub', [count, iteration]), body.ints([1])]);
    const block = new Block(body, wide(graph, blocks.name), index);
    const [dQueries, ...toKeys] = blockGradients(block, row, heads);
    const [dKeys, dValues] = toKeys.map((gradient, which) => settle(block, gradient, carried[which]));
    for (const [which, part] of [dQueries, dKeys.own, dValues.own].entries())
      body.output(body.op('SequenceInsert', [sequences[which], part, body.scalar('int64', 0)]), 'sequence');
    for (const { before } of [dKeys, dValues]) body.output(before, 'float32');

    const nothing = graph.constant('float32', [], [heads.kvHeads, 0, heads.headDim]);
    const initial = [...[0, 1, 2].map(() => emptySequence(graph)), nothing, nothing];
    const results = graph.ops('Loop', [graph.op('Squeeze', [count]), '', ...initial], 5, { body });
    const widths = [width, heads.kvHeads * heads.headDim, heads.kvHeads * heads.headDim];
    return widths.map((features, which) => byToken(graph, graph.op('ConcatFromSequence', [results[which]], { axis: 1 }), features));
  },
};

/** What the gradient reads of the whole row: beside the operands, tensors of [heads, tokens, …]. */
interface RowGradientOperands {
  operands: Operands;
  queries: string;
  dOutput: string;
  /** rowsum(do∘o), [heads, tokens, 1]. */
  along: string;
}

function rowGradientOperands(graph: GraphBuilder, [dy, q, k, v, y]: string[], heads: Heads): RowGradientOperands {
  const products = byHead(graph, graph.op('Mul', [dy, y]), heads.heads);
  return {
    operands: operandsOf(graph, [q, k, v], heads),
    queries: byHead(graph, q, heads.heads),
    dOutput: byHead(graph, dy, heads.heads),
    along: graph.op('ReduceSum', [products, graph.ints([-1])], { keepdims: 1 }),
  };
}

/** dq of the block, [heads, block, headDim], and what the block adds to dk and dv of the keys up to its end, [kvHeads, keys, headDim]. */
function blockGradients(block: Block, { operands, queries, dOutput, along }: RowGradientOperands, heads: Heads): string[] {
  const { graph } = block;
  const { kvHeads, headDim } = heads;
  /** [heads, rows, columns] as [kvHeads, (heads/kvHeads)·rows, columns]: heads that share keys, one after the other. */
  const grouped = (x: string, columns: number): string => graph.op('Reshape', [x, graph.ints([kvHeads, -1, columns])]);
  const product = (a: string, b: string, options: Omit<ProductOptions, 'ranks'>): string =>
    matrixProduct(graph, a, b, { ...options, ranks: [3, 3] });
  const attended = block.attend(operands, heads);
  const [keys, values] = [attended.keys, attended.values].map((x) => graph.op('Squeeze', [x, graph.ints([0])]));
  const scoreShape = graph.op('Concat', [graph.ints([kvHeads, -1]), block.keyCount], { axis: 0 });
  const probabilities = graph.op('Reshape', [attended.probabilities, scoreShape]);
  const ownQueries = grouped(block.own(queries, 1), headDim);
  const ownGradient = grouped(block.own(dOutput, 1), headDim);
  const dProbabilities = graph.op('Sub', [product(ownGradient, values, { transB: true }), grouped(block.own(along, 1), 1)]);
  const dScores = graph.op('Mul', [probabilities, dProbabilities]);
  return [
    graph.op('Reshape', [product(dScores, keys, { alpha: heads.scale }), graph.ints([heads.heads, -1, headDim])]),
    product(dScores, ownQueries, { transA: true, alpha: heads.scale }),
    product(probabilities, ownGradient, { transA: true }),
  ];
}

/** Adds what later blocks of the segment gave to the same keys, and parts the result: the block's own keys, and those before. */
function settle(block: Block, gradient: string, carried: string): { own: string; before: string } {
  const { graph } = block;
  const axis = graph.ints([1]);
  // The segment's last block comes first; what is carried then are the no keys before the segment that went before.
  const missing = graph.op('Sub', [block.keyCount, graph.sizeOf(carried, 1)]);
  const pads = graph.op('Concat', [graph.ints([0, 0, 0, 0]), missing, graph.ints([0])], { axis: 0 });
  const total = graph.op('Add', [gradient, graph.op('Pad', [carried, pads])]);
  return {
    own: graph.op('Slice', [total, block.before, block.keyCount, axis]),
    before: graph.op('Slice', [total, graph.ints([0]), block.before, axis]),
  };
}

/**
 * One new token of each sequence, or several of the only one, against the cache, by ONNX Runtime's own kernel, which writes
 * their keys and values into the cache's memory when it may.
 */
const cachedAttention: OrtKernel = {
  name: 'CachedAttention',
  inputs: ['q', 'k', 'v', 'keys', 'values', 'lengths'],
  infer: ([q, , , keys, values]) => [like(q), like(keys), like(values)],
  key: (attrs, [q, , , keys]) => `${keyOf(attrs)},${q.shape[0] > keys.shape[0] ? 'several' : 'one'}`,
  inPlace: [
    [3, 1],
    [4, 2],
  ],
  emit: ({ graph, inputs: [q, k, v, keys, values, lengths], concrete: [{ 0: rows }, , , { 0: batch }], attrs }) => {
    const { heads, kvHeads, scale, window } = attrs as AttentionOptions;
    // [batch, 1, …], or [1, tokens, …]
    const axis = graph.ints([rows > batch ? 0 : 1]);
    const [query, key, value] = [q, k, v].map((x) => graph.op('Unsqueeze', [x.name, axis]));
    // All layers have the same.
    const shared = (what: string, make: () => string): string => graph.once(`${what} of ${rows} after ${lengths.name}`, make);
    const tokens = shared('tokens', () => graph.op('Cast', [graph.op('Squeeze', [graph.sizeOf(query, 1)])], { to: ELEMENT_TYPES.int32 }));
    const total = shared('total', () => graph.op('Add', [graph.op('ReduceMax', [lengths.name], { keepdims: 0 }), tokens]));
    const last = shared('last', () => graph.op('Add', [lengths.name, graph.op('Sub', [tokens, graph.scalar('int32', 1)])]));
    const outputs = graph.ops('GroupQueryAttention', [query, key, value, keys.name, values.name, last, total], 3, {
      num_heads: heads,
      kv_num_heads: kvHeads,
      scale: float(scale),
      local_window_size: window ?? -1,
    });
    return [graph.op('Squeeze', [outputs[0], axis]), outputs[1], outputs[2]];
  },
};

export const attentionKernels = [attention, attentionGrad, cachedAttention];
