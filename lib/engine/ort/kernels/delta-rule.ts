/** The gated delta rule (gated-delta.ts) as exported models have it, whose texts are of any length and go on from a state. */
import { CHUNK } from '../../chunks';
import type { OrtKernel } from '../kernel';
import { type Dim, ELEMENT_TYPES, type GraphBuilder } from '../onnx';

/**
 * What each token reads of its sequence's states, and the states behind the last one. q, k, v, g and beta are [batch, tokens, heads, …], with as
 * many heads each; the states before the first token are [batch, heads, keyDim, valueDim].
 *
 * ONNX's Scan goes along chunks of tokens. WebGPU has none: the states go to the processor and back with each chunk. A token alone, as in
 * generation, goes without.
 */
export const deltaRule: OrtKernel = {
  name: 'DeltaRule',
  inputs: ['q', 'k', 'v', 'g', 'beta', 'state'],
  infer: ([, , v, , , state]) => [
    { shape: v.shape, dtype: 'float32' },
    { shape: state.shape, dtype: 'float32' },
  ],
  emit: ({ graph, inputs, outputs: [{ shape }] }) => {
    // what the branches read has to be in float32, whatever the rest of the graph becomes
    const names = inputs.map(({ name }) => graph.op('Cast', [name], { to: ELEMENT_TYPES.float32 }));
    const [rows, state] = [names.slice(0, -1), names[names.length - 1]];
    const stateShape = inputs[inputs.length - 1].shape;
    const count = graph.shape([shape[1]]);
    const branch = (write: (graph: GraphBuilder) => Passed): GraphBuilder => {
      const branch = graph.subgraph();
      const { read, next } = write(branch);
      branch.output(read, 'float32', [...shape]);
      branch.output(next, 'float32', [...stateShape]);
      return branch;
    };
    const patterns = patternsIn(graph);
    return graph.ops('If', [graph.op('Equal', [count, graph.ints([1])])], 2, {
      then_branch: branch((graph) => oneToken(graph, rows, state)),
      else_branch: branch((graph) => allTokens(graph, { rows, state, count, stateShape, patterns })),
    });
  },
};

/** What tokens have read, and the states behind them. */
interface Passed {
  read: string;
  next: string;
}

/** By the formulas as they are. */
function oneToken(graph: GraphBuilder, rows: string[], state: string): Passed {
  // a column of each head; of g and beta a number
  const [q, k, v, g, beta] = rows.map((x) => graph.op('Transpose', [x], { perm: [0, 2, 3, 1] }));
  const inRow = (x: string): string => graph.op('Transpose', [x], { perm: [0, 1, 3, 2] });
  const decayed = graph.op('Mul', [state, graph.op('Exp', [g])]);
  const missing = graph.op('Sub', [inRow(v), graph.op('MatMul', [inRow(k), decayed])]);
  const next = graph.op('Add', [decayed, graph.op('Mul', [k, graph.op('Mul', [missing, beta])])]);
  const read = graph.op('MatMul', [inRow(q), next]);
  return { read: graph.op('Transpose', [read], { perm: [0, 2, 1, 3] }), next };
}

interface Tokens {
  rows: string[];
  state: string;
  /** How many tokens there are. */
  count: string;
  stateShape: Dim[];
  patterns: Patterns;
}

/** The last chunk is filled up with zeros, which change nothing. */
function allTokens(graph: GraphBuilder, { rows, state, count, stateShape, patterns }: Tokens): Passed {
  const toFill = graph.op('Mod', [graph.op('Neg', [count]), graph.ints([CHUNK])]);
  const pads = graph.op('Concat', [graph.ints([0, 0, 0, 0, 0]), toFill, graph.ints([0, 0])], { axis: 0 });
  const [batch, heads, keyDim, valueDim] = stateShape as [Dim, number, number, number];
  const columns = [keyDim, keyDim, valueDim, 1, 1];
  const inChunks = rows.map((x, i) => graph.op('Reshape', [graph.op('Pad', [x, pads]), graph.ints([0, -1, CHUNK, heads, columns[i]])]));
  const alongChunks = rows.map(() => 1);
  const body = graph.subgraph();
  const input = (shape: Dim[]): string => body.input(body.freshName(), 'float32', shape);
  const before = input([...stateShape]);
  const chunk = oneChunk(
    body,
    columns.map((size) => input([batch, CHUNK, heads, size])),
    before,
    patterns,
  );
  body.output(chunk.next, 'float32', [...stateShape]);
  body.output(chunk.read, 'float32', [batch, CHUNK, heads, valueDim]);
  const [next, read] = graph.ops('Scan', [state, ...inChunks], 2, {
    body,
    num_scan_inputs: rows.length,
    scan_input_axes: alongChunks,
    scan_output_axes: alongChunks.slice(0, 1),
  });
  const filled = graph.op('Reshape', [read, graph.ints([0, -1, heads, valueDim])]);
  return { read: graph.op('Slice', [filled, graph.ints([0]), count, graph.ints([1])]), next };
}

/** A chunk at once: with the corrections C of its tokens, which are (I+A)⁻¹·β(v − e^Γ·k·S), it reads e^Γ·q·S + (q·kᵀ∘e^(Γᵢ−Γⱼ))·C. */
function oneChunk(graph: GraphBuilder, rows: string[], state: string, patterns: Patterns): Passed {
  const { upTo } = patterns;
  const [q, k, v, g, beta] = rows.map((x) => graph.op('Transpose', [x], { perm: [0, 2, 1, 3] }));
  const [add, sub, mul, product] = ['Add', 'Sub', 'Mul', 'MatMul'].map((op) => (a: string, b: string) => graph.op(op, [a, b]));
  const exp = (x: string): string => graph.op('Exp', [x]);
  const turned = (x: string): string => graph.op('Transpose', [x], { perm: [0, 1, 3, 2] });

  const summed = product(upTo, g);
  const total = graph.op('ReduceSum', [g, graph.ints([2])]);
  // masked before, too: what comes after would grow beyond all numbers
  const between = mul(exp(mul(sub(summed, turned(summed)), upTo)), upTo);
  const [fromStart, toEnd] = [exp(summed), exp(sub(total, summed))];
  const overlap = mul(mul(product(k, turned(k)), between), beta);
  const missing = sub(v, mul(fromStart, product(k, state)));
  const corrections = product(inverseOfUnitLower(graph, overlap, patterns), mul(beta, missing));
  const read = add(mul(fromStart, product(q, state)), product(mul(product(q, turned(k)), between), corrections));
  const next = add(mul(exp(total), state), product(turned(mul(k, toEnd)), corrections));
  return { read: graph.op('Transpose', [read], { perm: [0, 2, 1, 3] }), next };
}

/** (I + A)⁻¹ by halves, as gated-delta.ts has it, of what A has below the diagonal. */
function inverseOfUnitLower(graph: GraphBuilder, a: string, { identity, belowBlocks: [first, ...others] }: Patterns): string {
  const masked = (pattern: string): string => graph.op('Mul', [a, pattern]);
  const start = graph.op('Sub', [identity, masked(first)]);
  return others.reduce((found, pattern) => {
    const change = graph.op('MatMul', [graph.op('MatMul', [found, masked(pattern)]), found]);
    return graph.op('Sub', [found, change]);
  }, start);
}

/** Square matrices of zeros and ones, of a chunk's tokens. */
interface Patterns {
  identity: string;
  /** Ones below the diagonal and on it. */
  upTo: string;
  /** For blocks of 1, 2, 4, … on the diagonal: ones below them inside of blocks of twice the size. */
  belowBlocks: string[];
}

function patternsIn(graph: GraphBuilder): Patterns {
  const places = graph.upTo(graph.scalar('int32', CHUNK));
  const blocksOf = (size: number): string[] => {
    const blocks = graph.op('Div', [places, graph.scalar('int32', size)]);
    return [1, 0].map((axis) => graph.op('Unsqueeze', [blocks, graph.ints([axis])]));
  };
  const ones = (where: string): string => graph.op('Cast', [where], { to: ELEMENT_TYPES.float32 });
  const [row, column] = blocksOf(1);
  const belowBlocks: string[] = [];
  for (let size = 1; size < CHUNK; size *= 2) {
    const isBelow = graph.op('Greater', blocksOf(size));
    belowBlocks.push(ones(graph.op('And', [isBelow, graph.op('Equal', blocksOf(2 * size))])));
  }
  return { identity: ones(graph.op('Equal', [row, column])), upTo: ones(graph.op('GreaterOrEqual', [row, column])), belowBlocks };
}
