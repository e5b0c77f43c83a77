/**
 * The gated delta rule (recurrence.ts) and its gradient: ONNX's Scan takes one chunk after the other, so that what a chunk needs stays in the
 * processor's cache, and nothing of it but (I+A)⁻¹ and the state before it is kept for the gradient.
 */
import { CHUNK } from '../../chunks';
import type { Attrs, Operand, OrtKernel } from '../kernel';
import type { GraphBuilder } from '../onnx';
import { bodyInput, parted, scan } from './chunk-scan';
import { type ChunkOperands, DeltaStep, deltaStepGradient } from './delta-step';

/** Shapes of what a chunk has; see ChunkOperands. */
type Shapes = ReturnType<typeof shapesOf>;

function shapesOf({ keyHeads, valueHeads }: Attrs, q: readonly number[], v: readonly number[]) {
  const [group, keyDim, valueDim] = [valueHeads / keyHeads, q[1] / keyHeads, v[1] / valueHeads] as number[];
  const [keys, values, gates] = [
    [1, keyDim],
    [group, valueDim],
    [group, 1],
  ].map(([heads, width]): number[] => [keyHeads, heads, CHUNK, width]);
  return {
    operands: { q: keys, k: keys, v: values, g: gates, beta: gates },
    state: [keyHeads, group, keyDim, valueDim] as number[],
    solved: [keyHeads, group, CHUNK, CHUNK] as number[],
  };
}

const OPERANDS = ['q', 'k', 'v', 'g', 'beta'] as const;

const keyOf = ({ keyHeads, valueHeads, states }: Attrs): string => `${keyHeads},${valueHeads},${states === true}`;

/**
 * Of operands chunk after chunk, [chunks · CHUNK, …]. Outputs: what is read, so too; before each chunk the state, or with `states` behind it,
 * [chunks, valueHeads, keyDim, valueDim]; and (I+A)⁻¹, [chunks, valueHeads, CHUNK, CHUNK].
 */
const gatedDelta: OrtKernel = {
  name: 'GatedDelta',
  inputs: [...OPERANDS, 'goesOn'],
  infer: ([q, , v, , , goesOn], attrs) => {
    const { state, solved } = shapesOf(attrs, q.shape, v.shape);
    const each = ([, , ...matrix]: number[]) => ({ shape: [goesOn.shape[0], attrs.valueHeads, ...matrix], dtype: 'float32' as const });
    return [{ shape: v.shape, dtype: 'float32' }, each(state), each(solved)];
  },
  key: keyOf,
  emit: ({ graph, inputs: [q, k, v, g, beta, goesOn], attrs, concrete }) => {
    const shapes = shapesOf(attrs, concrete[0], concrete[2]);
    const body = graph.subgraph();
    const before = bodyInput(body, shapes.state);
    const step = new DeltaStep(graph, body, operandInputs(graph, body, shapes), before);
    const solved = step.inverse();
    const made = step.corrections(solved);
    const behind = step.behind(made);
    const kept = attrs.states ? behind : before;
    const scanned = [goesOn.name, ...chunksOf(graph, [q, k, v, g, beta], shapes)];
    const outputs = [
      [step.read(made), shapes.operands.v],
      [body.op('Identity', [kept]), shapes.state],
      [solved, shapes.solved],
    ] as const;
    const [read, states, inverses] = scan(graph, { body, state: [behind, shapes.state], scanned, outputs });
    const byHead = (x: string, [, , ...matrix]: number[]): string =>
      graph.op('Reshape', [x, graph.ints([-1, attrs.valueHeads, ...matrix])]);
    return [byPlace(graph, read, shapes.operands.v), byHead(states, shapes.state), byHead(inverses, shapes.solved)];
  },
};

/** The gradients of the operands. */
const gatedDeltaGrad: OrtKernel = {
  name: 'GatedDeltaGrad',
  inputs: ['dy', ...OPERANDS, 'goesOn', 'before', 'solved'],
  infer: ([, ...inputs]) => inputs.slice(0, OPERANDS.length).map(({ shape }) => ({ shape, dtype: 'float32' as const })),
  key: keyOf,
  emit: ({ graph, inputs: [dy, q, k, v, g, beta, goesOn, before, solved], attrs, concrete }) => {
    const shapes = shapesOf(attrs, concrete[1], concrete[3]);
    const body = graph.subgraph();
    const { state: ofState, solved: ofSolved, operands } = shapes;
    const [dBehind, dRead, stateBefore, inverse] = [ofState, operands.v, ofState, ofSolved].map((shape) => bodyInput(body, shape));
    const step = new DeltaStep(graph, body, operandInputs(graph, body, shapes), stateBefore);
    const gradients = deltaStepGradient(step, { solved: inverse, dRead, dBehind });
    const perChunk = ({ name }: Operand, shape: number[]): string => graph.op('Reshape', [name, graph.ints([-1, ...shape])]);
    const scanned = [
      inChunks(graph, dy.name, operands.v),
      ...[perChunk(before, ofState), perChunk(solved, ofSolved), goesOn.name],
      ...chunksOf(graph, [q, k, v, g, beta], shapes),
    ];
    const outputs = OPERANDS.map((name) => [gradients[name], shapes.operands[name]] as const);
    const results = scan(graph, { body, state: [gradients.dBefore, shapes.state], scanned, outputs, back: true });
    return OPERANDS.map((name, i) => byPlace(graph, results[i], shapes.operands[name]));
  },
};

/** @param graph the graph that constants lie in */
function operandInputs(graph: GraphBuilder, body: GraphBuilder, { operands }: Shapes): ChunkOperands {
  const goesOn = bodyInput(body, []);
  const [q, k, v, g, beta] = OPERANDS.map((name) => bodyInput(body, operands[name]));
  return { q, k, v, g: parted(graph, body, g, goesOn), beta };
}

const chunksOf = (graph: GraphBuilder, operands: readonly Operand[], shapes: Shapes): string[] =>
  operands.map(({ name }, i) => inChunks(graph, name, shapes.operands[OPERANDS[i]]));

/** [chunks · CHUNK, heads·width] as [chunks, keyHeads, group, CHUNK, width]. */
function inChunks(graph: GraphBuilder, x: string, [keyHeads, group, , width]: number[]): string {
  const byToken = graph.op('Reshape', [x, graph.ints([-1, CHUNK, keyHeads * group, width])]);
  const byHead = graph.op('Transpose', [byToken], { perm: [0, 2, 1, 3] });
  return graph.op('Reshape', [byHead, graph.ints([-1, keyHeads, group, CHUNK, width])]);
}

/** The reverse of it. */
function byPlace(graph: GraphBuilder, x: string, [keyHeads, group, , width]: number[]): string {
  const byHead = graph.op('Reshape', [x, graph.ints([-1, keyHeads * group, CHUNK, width])]);
  const byToken = graph.op('Transpose', [byHead], { perm: [0, 2, 1, 3] });
  return graph.op('Reshape', [byToken, graph.ints([-1, keyHeads * group * width])]);
}

export const gatedDeltaKernels = [gatedDelta, gatedDeltaGrad];
