/** Recurrences (recurrence.ts) as exported models have them, whose texts are of any length and go on from a state. */
import { CHUNK } from '../../chunks';
import type { Operand, OrtKernel } from '../kernel';
import { type Dim, ELEMENT_TYPES, type GraphBuilder } from '../onnx';
import { DeltaStep } from './delta-step';
import { StateSpaceStep } from './state-space-step';

/**
 * What each token reads of its sequence's states, and the states behind the last one. The states before the first token are
 * [batch, valueHeads, keyDim, valueDim]; q, k, v, g and, under the gated delta rule, beta are [batch, tokens, heads, …], of q and k with as many
 * heads as of values under the gated delta rule, else with those that they have.
 *
 * ONNX's Scan goes along chunks of tokens. WebGPU has none: the states go to the processor and back with each chunk. A token alone, as in
 * generation, goes without.
 */
export const exportedRecurrence: OrtKernel = {
  name: 'Recurrence',
  inputs: ['state', 'q', 'k', 'v', 'g', 'beta'],
  infer: ([state, , , v]) => [
    { shape: v.shape, dtype: 'float32' },
    { shape: state.shape, dtype: 'float32' },
  ],
  emit: ({ graph, inputs, outputs: [{ shape }, { shape: stateShape }] }) => {
    // what the branches read has to be in float32, whatever the rest of the graph becomes
    const [state, ...rows] = inputs.map(({ name }) => graph.op('Cast', [name], { to: ELEMENT_TYPES.float32 }));
    const kind = rows.length === 5 ? gatedDelta : stateSpace(inputs[1], stateShape);
    const count = graph.shape([shape[1]]);
    const branch = (write: (graph: GraphBuilder) => Passed): GraphBuilder => {
      const branch = graph.subgraph();
      const { read, next } = write(branch);
      branch.output(read, 'float32', [...shape]);
      branch.output(next, 'float32', [...stateShape]);
      return branch;
    };
    return graph.ops('If', [graph.op('Equal', [count, graph.ints([1])])], 2, {
      then_branch: branch((graph) => kind.oneToken(graph, rows, state)),
      else_branch: branch((graph) => allTokens(graph, kind, { rows, shapes: inputs.slice(1), state, count, stateShape })),
    });
  },
};

/** What tokens have read, and the states behind them. */
interface Passed {
  read: string;
  next: string;
}

/** A kind of recurrence. */
interface Kind {
  oneToken(graph: GraphBuilder, rows: string[], state: string): Passed;
  /** One chunk of tokens, in the body of a Scan. @param outer the graph that the constants lie in */
  chunk(outer: GraphBuilder, body: GraphBuilder, rows: string[], state: string): Passed;
}

const headsFirst = (graph: GraphBuilder, x: string): string => graph.op('Transpose', [x], { perm: [0, 2, 1, 3] });

const gatedDelta: Kind = {
  /** By the formulas as they are. */
  oneToken(graph, rows, state) {
    // a column of each head; of g and beta a number
    const [q, k, v, g, beta] = rows.map((x) => graph.op('Transpose', [x], { perm: [0, 2, 3, 1] }));
    const inRow = (x: string): string => graph.op('Transpose', [x], { perm: [0, 1, 3, 2] });
    const decayed = graph.op('Mul', [state, graph.op('Exp', [g])]);
    const missing = graph.op('Sub', [inRow(v), graph.op('MatMul', [inRow(k), decayed])]);
    const next = graph.op('Add', [decayed, graph.op('Mul', [k, graph.op('Mul', [missing, beta])])]);
    return { read: headsFirst(graph, graph.op('MatMul', [inRow(q), next])), next };
  },
  chunk(outer, body, rows, state) {
    const [q, k, v, g, beta] = rows.map((x) => headsFirst(body, x));
    const step = new DeltaStep(outer, body, { q, k, v, g, beta }, state);
    const made = step.corrections(step.inverse());
    return { read: headsFirst(body, step.read(made)), next: step.behind(made) };
  },
};

/** Mamba 2's; heads of values that share a key lie side by side. */
function stateSpace({ shape: ofKeys }: Operand, stateShape: Dim[]): Kind {
  const [keyHeads, keyDim] = ofKeys.slice(2) as [number, number];
  const [valueHeads, , valueDim] = stateShape.slice(1) as [number, number, number];
  const group = valueHeads / keyHeads;
  const reshape = (graph: GraphBuilder, x: string, shape: number[]): string => graph.op('Reshape', [x, graph.ints(shape)]);
  const swap = (graph: GraphBuilder, x: string, ...rest: number[]): string => graph.op('Transpose', [x], { perm: [0, 2, 1, ...rest] });
  return {
    oneToken(graph, [q, k, v, g], state) {
      const states = reshape(graph, state, [-1, keyHeads, group, keyDim, valueDim]);
      const left = graph.op('Exp', [reshape(graph, g, [-1, keyHeads, group, 1, 1])]);
      const added = graph.op('Mul', [
        reshape(graph, k, [-1, keyHeads, 1, keyDim, 1]),
        reshape(graph, v, [-1, keyHeads, group, 1, valueDim]),
      ]);
      const next = graph.op('Add', [graph.op('Mul', [states, left]), added]);
      const read = graph.op('MatMul', [reshape(graph, q, [-1, keyHeads, 1, 1, keyDim]), next]);
      return { read: reshape(graph, read, [-1, 1, valueHeads, valueDim]), next: reshape(graph, next, [-1, valueHeads, keyDim, valueDim]) };
    },
    chunk(outer, body, [q, k, v, g], state) {
      const [queries, keys] = [q, k].map((x) => reshape(body, headsFirst(body, x), [-1, CHUNK, keyDim]));
      const values = reshape(body, swap(body, reshape(body, v, [-1, CHUNK, keyHeads, group, valueDim]), 3, 4), [
        -1,
        CHUNK,
        group,
        valueDim,
      ]);
      const decays = reshape(body, swap(body, reshape(body, g, [-1, CHUNK, keyHeads, group]), 3), [-1, CHUNK, group]);
      const before = swap(body, reshape(body, state, [-1, group, keyDim, valueDim]), 3);
      const step = new StateSpaceStep(outer, body, { q: queries, k: keys, v: values, g: decays }, before, { keyDim, group, valueDim });
      const read = swap(body, reshape(body, step.read(), [-1, keyHeads, CHUNK, group * valueDim]), 3);
      const next = reshape(body, swap(body, step.behind(), 3), [-1, valueHeads, keyDim, valueDim]);
      return { read: reshape(body, read, [-1, CHUNK, valueHeads, valueDim]), next };
    },
  };
}

interface Tokens {
  rows: string[];
  /** Those of the rows. */
  shapes: ReadonlyArray<Pick<Operand, 'shape'>>;
  state: string;
  /** How many tokens there are. */
  count: string;
  stateShape: Dim[];
}

/** The last chunk is filled up with zeros, which change nothing. */
function allTokens(graph: GraphBuilder, kind: Kind, { rows, shapes, state, count, stateShape }: Tokens): Passed {
  const toFill = graph.op('Mod', [graph.op('Neg', [count]), graph.ints([CHUNK])]);
  const pads = graph.op('Concat', [graph.ints([0, 0, 0, 0, 0]), toFill, graph.ints([0, 0])], { axis: 0 });
  const perToken = shapes.map(({ shape }) => shape.slice(2) as [heads: number, width: number]);
  const inChunks = rows.map((x, i) => graph.op('Reshape', [graph.op('Pad', [x, pads]), graph.ints([0, -1, CHUNK, ...perToken[i]])]));
  const alongChunks = rows.map(() => 1);
  const body = graph.subgraph();
  const input = (shape: Dim[]): string => body.input(body.freshName(), 'float32', shape);
  const [batch, valueHeads, , valueDim] = stateShape as [Dim, number, number, number];
  const before = input([...stateShape]);
  const { read, next } = kind.chunk(
    graph,
    body,
    perToken.map((sizes) => input([batch, CHUNK, ...sizes])),
    before,
  );
  body.output(next, 'float32', [...stateShape]);
  body.output(read, 'float32', [batch, CHUNK, valueHeads, valueDim]);
  const [behind, readInChunks] = graph.ops('Scan', [state, ...inChunks], 2, {
    body,
    num_scan_inputs: rows.length,
    scan_input_axes: alongChunks,
    scan_output_axes: alongChunks.slice(0, 1),
  });
  const filled = graph.op('Reshape', [readInChunks, graph.ints([0, -1, valueHeads, valueDim])]);
  return { read: graph.op('Slice', [filled, graph.ints([0]), count, graph.ints([1])]), next: behind };
}
