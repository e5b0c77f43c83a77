/** The gated delta rule (gated-delta.ts) as exported models have it, whose texts are of any length and go on from a state. */
import { CHUNK } from '../../chunks';
import type { OrtKernel } from '../kernel';
import { type Dim, ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { DeltaStep } from './delta-step';

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
    return graph.ops('If', [graph.op('Equal', [count, graph.ints([1])])], 2, {
      then_branch: branch((graph) => oneToken(graph, rows, state)),
      else_branch: branch((graph) => allTokens(graph, { rows, state, count, stateShape })),
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
}

/** The last chunk is filled up with zeros, which change nothing. */
function allTokens(graph: GraphBuilder, { rows, state, count, stateShape }: Tokens): Passed {
  const toFill = graph.op('Mod', [graph.op('Neg', [count]), graph.ints([CHUNK])]);
  const pads = graph.op('Concat', [graph.ints([0, 0, 0, 0, 0]), toFill, graph.ints([0, 0])], { axis: 0 });
  const [batch, heads, keyDim, valueDim] = stateShape as [Dim, number, number, number];
  const columns = [keyDim, keyDim, valueDim, 1, 1];
  const inChunks = rows.map((x, i) => graph.op('Reshape', [graph.op('Pad', [x, pads]), graph.ints([0, -1, CHUNK, heads, columns[i]])]));
  const alongChunks = rows.map(() => 1);
  const body = graph.subgraph();
  const input = (shape: Dim[]): string => body.input(body.freshName(), 'float32', shape);
  const before = input([...stateShape]);
  const byHead = (x: string): string => body.op('Transpose', [x], { perm: [0, 2, 1, 3] });
  const [q, k, v, g, beta] = columns.map((size) => byHead(input([batch, CHUNK, heads, size])));
  const step = new DeltaStep(graph, body, { q, k, v, g, beta }, before);
  const made = step.corrections(step.inverse());
  body.output(step.behind(made), 'float32', [...stateShape]);
  body.output(byHead(step.read(made)), 'float32', [batch, CHUNK, heads, valueDim]);
  const [next, read] = graph.ops('Scan', [state, ...inChunks], 2, {
    body,
    num_scan_inputs: rows.length,
    scan_input_axes: alongChunks,
    scan_output_axes: alongChunks.slice(0, 1),
  });
  const filled = graph.op('Reshape', [read, graph.ints([0, -1, heads, valueDim])]);
  return { read: graph.op('Slice', [filled, graph.ints([0]), count, graph.ints([1])]), next };
}
