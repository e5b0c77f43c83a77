/**
 * Mamba 2's recurrence (recurrence.ts) and its gradient: ONNX's Scan takes one chunk after the other, so that what a chunk needs stays in the
 * processor's cache, and nothing of it but the state before it is kept for the gradient.
 */
import { CHUNK } from '../../chunks';
import type { Attrs, Operand, OrtKernel } from '../kernel';
import type { GraphBuilder } from '../onnx';
import { bodyInput, parted, scan } from './chunk-scan';
import { type StateSpaceOperands, StateSpaceStep, stateSpaceStepGradient } from './state-space-step';

/** Shapes of what a chunk has; see StateSpaceOperands. */
type Shapes = ReturnType<typeof shapesOf>;

function shapesOf({ keyHeads, valueHeads }: Attrs, q: readonly number[], v: readonly number[]) {
  const [group, keyDim, valueDim] = [valueHeads / keyHeads, q[1] / keyHeads, v[1] / valueHeads] as number[];
  const keys = [keyHeads, CHUNK, keyDim] as number[];
  return {
    ...{ keyDim, group, valueDim },
    operands: { q: keys, k: keys, v: [keyHeads, CHUNK, group, valueDim] as number[], g: [keyHeads, CHUNK, group] as number[] },
    state: [keyHeads, keyDim, group, valueDim] as number[],
  };
}

const OPERANDS = ['q', 'k', 'v', 'g'] as const;

const keyOf = ({ keyHeads, valueHeads, states }: Attrs): string => `${keyHeads},${valueHeads},${states === true}`;

/**
 * Of operands chunk after chunk, [chunks · CHUNK, …]. Outputs: what is read, so too; and before each chunk the state, as its gradient reads it, or
 * with `states` behind it, [chunks, valueHeads, keyDim, valueDim].
 */
const stateSpace: OrtKernel = {
  name: 'StateSpace',
  inputs: [...OPERANDS, 'goesOn'],
  infer: ([q, , v, , goesOn], attrs) => {
    const { state, valueDim } = shapesOf(attrs, q.shape, v.shape);
    const each = attrs.states ? [attrs.valueHeads, state[1], valueDim] : state;
    return [
      { shape: v.shape, dtype: 'float32' },
      { shape: [goesOn.shape[0], ...each], dtype: 'float32' },
    ];
  },
  key: keyOf,
  emit: ({ graph, inputs: [q, k, v, g, goesOn], attrs, concrete }) => {
    const shapes = shapesOf(attrs, concrete[0], concrete[2]);
    const body = graph.subgraph();
    const before = bodyInput(body, shapes.state);
    const step = new StateSpaceStep(graph, body, operandInputs(graph, body, shapes), before, shapes);
    const behind = step.behind();
    const outputs = [
      [step.read(), shapes.operands.v],
      [body.op('Identity', [attrs.states ? behind : before]), shapes.state],
    ] as const;
    const scanned = [goesOn.name, ...chunksOf(graph, [q, k, v, g], shapes)];
    const [read, states] = scan(graph, { body, state: [behind, shapes.state], scanned, outputs });
    return [byPlace(graph, read, shapes.operands.v), attrs.states ? byHead(graph, states, attrs, shapes) : states];
  },
};

/** The gradients of the operands. */
const stateSpaceGrad: OrtKernel = {
  name: 'StateSpaceGrad',
  inputs: ['dy', ...OPERANDS, 'goesOn', 'before'],
  infer: ([, ...inputs]) => inputs.slice(0, OPERANDS.length).map(({ shape }) => ({ shape, dtype: 'float32' as const })),
  key: keyOf,
  emit: ({ graph, inputs: [dy, q, k, v, g, goesOn, before], attrs, concrete }) => {
    const shapes = shapesOf(attrs, concrete[1], concrete[3]);
    const body = graph.subgraph();
    const [dBehind, dRead, stateBefore] = [shapes.state, shapes.operands.v, shapes.state].map((shape) => bodyInput(body, shape));
    const step = new StateSpaceStep(graph, body, operandInputs(graph, body, shapes), stateBefore, shapes);
    const gradients = stateSpaceStepGradient(step, dRead, dBehind);
    const scanned = [...[inChunks(graph, dy.name, shapes.operands.v), before.name, goesOn.name], ...chunksOf(graph, [q, k, v, g], shapes)];
    const outputs = OPERANDS.map((name) => [gradients[name], shapes.operands[name]] as const);
    const results = scan(graph, { body, state: [gradients.dBefore, shapes.state], scanned, outputs, back: true });
    return OPERANDS.map((name, i) => byPlace(graph, results[i], shapes.operands[name]));
  },
};

/** @param graph the graph that constants lie in */
function operandInputs(graph: GraphBuilder, body: GraphBuilder, { operands }: Shapes): StateSpaceOperands {
  const goesOn = bodyInput(body, []);
  const [q, k, v, g] = OPERANDS.map((name) => bodyInput(body, operands[name]));
  return { q, k, v, g: parted(graph, body, g, goesOn) };
}

const chunksOf = (graph: GraphBuilder, operands: readonly Operand[], shapes: Shapes): string[] =>
  operands.map(({ name }, i) => inChunks(graph, name, shapes.operands[OPERANDS[i]]));

/** [chunks · CHUNK, keyHeads·…] as [chunks, keyHeads, CHUNK, …]. */
function inChunks(graph: GraphBuilder, x: string, [keyHeads, , ...rest]: number[]): string {
  if (keyHeads === 1) return graph.op('Reshape', [x, graph.ints([-1, 1, CHUNK, ...rest])]);
  return swapped(graph, graph.op('Reshape', [x, graph.ints([-1, CHUNK, keyHeads, ...rest])]), rest);
}

/** The reverse of it. */
function byPlace(graph: GraphBuilder, x: string, [keyHeads, , ...rest]: number[]): string {
  const byToken = keyHeads === 1 ? x : swapped(graph, x, rest);
  return graph.op('Reshape', [byToken, graph.ints([-1, keyHeads * rest.reduce((product, size) => product * size, 1)])]);
}

/** With the second and the third axis swapped. @param rest the axes behind */
const swapped = (graph: GraphBuilder, x: string, rest: number[]): string =>
  graph.op('Transpose', [x], { perm: [0, 2, 1, ...rest.map((_, i) => 3 + i)] });

/** States, [chunks, keyHeads, keyDim, group, valueDim], as [chunks, valueHeads, keyDim, valueDim]. */
function byHead(graph: GraphBuilder, states: string, { valueHeads }: Attrs, { state: [, keyDim], valueDim }: Shapes): string {
  const turned = graph.op('Transpose', [states], { perm: [0, 1, 3, 2, 4] });
  return graph.op('Reshape', [turned, graph.ints([-1, valueHeads, keyDim, valueDim])]);
}

export const stateSpaceKernels = [stateSpace, stateSpaceGrad];
