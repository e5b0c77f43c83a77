/**
 * Causal attention inside the segments of a packed row, and its gradient.
 *
 * A Loop takes one group of blocks of queries after the other (segments.ts), each block with the keys from the start of its segment to its
 * own end, and those of a prefix that the segment shares with others before them. So the work is about that of each example's own length,
 * and scores exist for one group at a time: memory grows with the row's length, not with its square. The gradient computes them again.
 */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { AttentionOptions } from '../../ops';
import { fusedAttention } from '../fused-attention';
import type { Attrs, Operand, OrtKernel } from '../kernel';
import { exactly, type GraphBuilder } from '../onnx';
import { matrixProduct, type ProductOptions } from '../products';
import { Group, type Heads } from './attention-groups';
import { groupTables, placesOf } from './attention-tables';
import { type WeightFactors, weightFactors } from './dropout';
import { loop } from './loop';
import { rowAttention, rowAttentionGradients, rowAttentionWithSums } from './row-attention';

/** A float32 output of a tensor's shape. */
export const like = (x: TensorInfo) => ({ shape: x.shape, dtype: 'float32' as const });

/** Options that change the graph of an attention. */
export const attentionKey = ({ heads, kvHeads, scale, window, softcap }: Attrs): string =>
  `${heads},${kvHeads},${scale},${window ?? ''}${softcap === undefined ? '' : `,capped at ${softcap}`}`;

/** The same where a share of the weights may be dropped. */
const droppingKey = (attrs: Attrs): string => `${attentionKey(attrs)},${attrs.factor === undefined ? '' : exactly(attrs.factor)}`;

function headsOf(attrs: Attrs, width: number): Heads {
  const options = attrs as AttentionOptions;
  return { ...options, headDim: width / options.heads };
}

/** Whether to go from group to group: devices that leave loops to the CPU take the row as one piece, and so does float16. */
function canLoop({ target }: GraphBuilder): boolean {
  return target.device === 'cpu' && target.precision === 'float32';
}

/** Names of the tables by which attention goes through a row (segments.ts). */
interface RowTables {
  blocks: string;
  groups: string;
  slots: string;
}

/** [tokens, heads·headDim] as [tokens·heads, headDim], as groups gather it. */
function headRows(graph: GraphBuilder, x: string, { headDim }: Pick<Heads, 'headDim'>): string {
  return graph.op('Reshape', [x, graph.ints([-1, headDim])]);
}

/** What a Loop has put into a sequence, rows of heads group by group, as [tokens, heads·headDim]. */
function inTokenOrder(graph: GraphBuilder, sequence: string, slots: string, heads: number, { headDim }: Pick<Heads, 'headDim'>): string {
  const rows = graph.op('ConcatFromSequence', [sequence], { axis: 0 });
  const ordered = graph.op('Gather', [rows, placesOf(graph, slots, heads)], { axis: 0 });
  return graph.op('Reshape', [ordered, graph.ints([-1, heads * headDim])]);
}

const attention: OrtKernel = {
  name: 'SegmentAttention',
  inputs: ['q', 'k', 'v', 'blocks', 'groups', 'slots'],
  infer: ([q]) => like(q),
  key: (attrs, [q]) => `${droppingKey(attrs)},${q.shape[1]}`,
  emit: ({ graph, inputs: [q, k, v, blocks, groups, slots, kept], attrs, concrete }) => {
    const heads = headsOf(attrs, concrete[0][1]);
    const factors = factorsFor(graph, kept, q, attrs);
    if (!canLoop(graph)) return rowAttention(graph, { q, k, v, blocks, factors }, heads);
    const operands = { q: q.name, k: k.name, v: v.name };
    const tables = { blocks: blocks.name, groups: groups.name, slots: slots.name };
    if (!factors && graph.target.fusesAttention) return fusedOutput(graph, operands, tables, heads);
    return steppedOutput(graph, operands, tables, heads, factors);
  },
};

/** @param kept bits of the weights; an operand without a name, or none, where all are kept */
function factorsFor(graph: GraphBuilder, kept: Operand | undefined, q: Operand, { heads, factor }: Attrs): WeightFactors | undefined {
  return kept?.name ? weightFactors(graph, { kept: kept.name, tokens: q.name }, { heads, factor }) : undefined;
}

/**
 * The same with the logarithm of the sum of the exponentials of each query's scores, [tokens, heads], of which attention with sinks is made
 * (`attentionWithSinks`).
 */
const attentionSums: OrtKernel = {
  name: 'SegmentAttentionSums',
  inputs: ['q', 'k', 'v', 'blocks', 'groups', 'slots'],
  infer: ([q], { heads }) => [like(q), { shape: [q.shape[0], heads], dtype: 'float32' }],
  key: (attrs, [q]) => `${attentionKey(attrs)},${q.shape[1]}`,
  emit: ({ graph, inputs: [q, k, v, blocks, groups, slots], attrs, concrete }) => {
    const heads = headsOf(attrs, concrete[0][1]);
    if (!canLoop(graph)) return rowAttentionWithSums(graph, { q, k, v, blocks }, heads);
    const tables = groupTables(graph, { tokens: q.name, blocks: blocks.name, groups: groups.name }, heads);
    const [qRows, kRows, vRows] = [q, k, v].map(({ name }) => headRows(graph, name, heads));
    const [outputs, sums] = loop(graph, { count: tables.count, sequences: ['float32', 'float32'] }, (body, iteration) => {
      const group = new Group(body, tables, heads, iteration);
      const [queries, keys] = [group.queries(qRows), group.keys(kRows)];
      const output = body.op('MatMul', [group.probabilities(queries, keys), group.keys(vRows)]);
      return { items: [headRows(body, output, heads), headRows(body, group.logSums(queries, keys), ONE_NUMBER)] };
    });
    return [inTokenOrder(graph, outputs, slots.name, heads.heads, heads), inTokenOrder(graph, sums, slots.name, heads.heads, ONE_NUMBER)];
  },
};

/** Of what has one number for each head. */
const ONE_NUMBER = { headDim: 1 };

/** The same of what is left of the weights. */
const attentionDropout: OrtKernel = {
  ...attention,
  name: 'SegmentAttentionDropout',
  inputs: ['q', 'k', 'v', 'blocks', 'groups', 'slots', 'kept'],
};

/** Names of [tokens, …·headDim] each. */
interface Operands {
  q: string;
  k: string;
  v: string;
}

/** Group by group with ONNX Runtime's one operator, which reads whole tokens. */
function fusedOutput(graph: GraphBuilder, { q, k, v }: Operands, { blocks, groups, slots }: RowTables, heads: Heads): string {
  const whole = { ...heads, heads: 1, kvHeads: 1, headDim: heads.heads * heads.headDim };
  const tables = groupTables(graph, { tokens: q, blocks, groups }, whole);
  const [sequence] = loop(graph, { count: tables.count, sequences: ['float32'] }, (body, iteration) => {
    const group = new Group(body, tables, whole, iteration);
    const queries = body.op('Reshape', [group.queries(q), body.ints([0, -1, whole.headDim])]);
    const [keys, values] = [k, v].map((x) => body.op('Squeeze', [group.keys(x), body.ints([1])]));
    return { items: [headRows(body, fusedAttention(body, { queries, keys, mask: group.mask() }, values, heads), whole)] };
  });
  return inTokenOrder(graph, sequence, slots, whole.heads, whole);
}

/** Group by group, head by head. */
function steppedOutput(
  graph: GraphBuilder,
  { q, k, v }: Operands,
  { blocks, groups, slots }: RowTables,
  heads: Heads,
  factors: WeightFactors | undefined,
): string {
  const tables = groupTables(graph, { tokens: q, blocks, groups }, heads);
  const [qRows, kRows, vRows] = [q, k, v].map((x) => headRows(graph, x, heads));
  const [sequence] = loop(graph, { count: tables.count, sequences: ['float32'] }, (body, iteration) => {
    const group = new Group(body, tables, heads, iteration);
    const probabilities = group.probabilities(group.queries(qRows), group.keys(kRows));
    const weights = factors ? body.op('Mul', [probabilities, group.factors(factors)]) : probabilities;
    return { items: [headRows(body, body.op('MatMul', [weights, group.keys(vRows)]), heads)] };
  });
  return inTokenOrder(graph, sequence, slots, heads.heads, heads);
}

/**
 * With P the probabilities and o = P·v: dv = Pᵀ·do, dP = do·vᵀ, dS = P∘(dP − rowsum(do∘o)), dq = scale·dS·k,
 * dk = scale·dSᵀ·q (as in FlashAttention; Dao et al. 2022). A segment of several blocks comes last block first, and the Loop carries along
 * the gradients of the keys and values before the block: what a block adds to its own keys and values is their last part. What is left
 * before a segment's first block is its prefix: it is carried on to the next segment that shares it, and last to the one where it lies.
 * With F the factors of dropout o = (P∘F)·v: dv = (P∘F)ᵀ·do and dP = F∘(do·vᵀ). Soft-capped scores s give dS the factor 1 − (s / cap)². Where the
 * logarithms l of the sums of exponentials were given, too, dl/dS = P: dS = P∘(dP − (rowsum(do∘o) − dl)).
 */
const attentionGrad: OrtKernel = {
  name: 'SegmentAttentionGrad',
  inputs: ['dy', 'q', 'k', 'v', 'y', 'blocks', 'groups', 'slots', 'kept', 'dSums'],
  infer: ([, q, k, v]) => [like(q), like(k), like(v)],
  key: (attrs, [, q]) => `${droppingKey(attrs)},${q.shape[1]}`,
  emit: ({ graph, inputs: [dy, q, k, v, y, blocks, groups, slots, kept, dSums], attrs, concrete }) => {
    const heads = headsOf(attrs, concrete[1][1]);
    const factors = factorsFor(graph, kept, q, attrs);
    if (!canLoop(graph)) return rowAttentionGradients(graph, { dy, q, k, v, y, blocks, factors, dSums }, heads);
    const tables = groupTables(graph, { tokens: q.name, blocks: blocks.name, groups: groups.name }, heads);
    const row = { ...gradientOperands(graph, [dy.name, q.name, k.name, v.name, y.name], heads, dSums?.name), factors };
    const nothing = graph.constant('float32', [], [1, heads.kvHeads, heads.headDim, 0]);
    const plan = { count: tables.count, sequences: ['float32', 'float32', 'float32'], carried: [nothing, nothing] } as const;
    const results = loop(graph, plan, (body, iteration, carried) => {
      const group = new Group(body, tables, heads, iteration);
      const [dQueries, ...toKeys] = groupGradients(body, group, row, heads);
      const [dKeys, dValues] = group.settle(toKeys, carried);
      return {
        items: [dQueries, dKeys.own, dValues.own].map((part) => headRows(body, part, heads)),
        carried: [dKeys.before, dValues.before],
      };
    });
    return [heads.heads, heads.kvHeads, heads.kvHeads].map((count, which) => inTokenOrder(graph, results[which], slots.name, count, heads));
  },
};

/** What the gradient reads of the whole row, [tokens·heads, …] each. */
interface GradientOperands {
  q: string;
  k: string;
  v: string;
  /** Gradient of the output, and rowsum(do∘o), less dl where that is given; with zeros behind them, as of one more token. */
  dOutput: string;
  along: string;
  /** Where weights are dropped. */
  factors?: WeightFactors;
}

function gradientOperands(graph: GraphBuilder, [dy, q, k, v, y]: string[], heads: Heads, dSums?: string): GradientOperands {
  const [qRows, kRows, vRows] = [q, k, v].map((x) => headRows(graph, x, heads));
  const products = headRows(graph, graph.op('Mul', [dy, y]), heads);
  const sums = graph.op('ReduceSum', [products, graph.ints([-1])], { keepdims: 1 });
  const along = dSums ? graph.op('Sub', [sums, headRows(graph, dSums, ONE_NUMBER)]) : sums;
  const withZeros = (x: string, width: number): string =>
    graph.op('Concat', [x, graph.constant('float32', new Array(heads.heads * width).fill(0), [heads.heads, width])], { axis: 0 });
  return {
    ...{ q: qRows, k: kRows, v: vRows },
    dOutput: withZeros(headRows(graph, dy, heads), heads.headDim),
    along: withZeros(along, 1),
  };
}

/**
 * dq of the group's queries, [count·kvHeads, parts, …, headDim], and what each part of them adds to dk and dv of the keys that they see, turned:
 * [count·kvHeads, parts, headDim, keys]. So it is the few columns of queries that a product turns, not the gradients of all scores.
 */
function groupGradients(graph: GraphBuilder, group: Group, row: GradientOperands, heads: Heads): string[] {
  const product = (a: string, b: string, options: Omit<ProductOptions, 'ranks'>): string =>
    matrixProduct(graph, a, b, { ...options, ranks: [4, 4] });
  const queries = group.queries(row.q);
  const [keys, values] = [group.keys(row.k), group.keys(row.v)];
  const probabilities = group.probabilities(queries, keys);
  const factors = row.factors && group.factors(row.factors);
  const left = (x: string): string => (factors ? graph.op('Mul', [x, factors]) : x);
  const dOutput = group.ownQueries(row.dOutput);
  const dProbabilities = graph.op('Sub', [left(product(dOutput, values, { transB: true })), group.ownQueries(row.along)]);
  const dScores = group.throughCap(graph.op('Mul', [probabilities, dProbabilities]), queries, keys);
  return [
    product(dScores, keys, { alpha: heads.scale }),
    product(queries, dScores, { transA: true, alpha: heads.scale }),
    product(dOutput, left(probabilities), { transA: true }),
  ];
}

export const attentionKernels = [attention, attentionSums, attentionDropout, attentionGrad];
