/** The gated delta rule (gated-delta.ts) token by token, as exported models have it, whose texts are of any length. */
import type { OrtKernel } from '../kernel';
import { type Dim, ELEMENT_TYPES, type GraphBuilder } from '../onnx';

/**
 * What each token reads of its sequence's states, and the states behind the last one. q, k and v are [batch, tokens, heads, …], with as many heads
 * each, g and beta [batch, tokens, heads]; the states before the first token are [batch, heads, keyDim, valueDim].
 *
 * ONNX's Scan goes along the tokens; WebGPU has none, so that the states go to the processor and back with each. A token alone, as in generation,
 * goes without.
 */
export const deltaRule: OrtKernel = {
  name: 'DeltaRule',
  inputs: ['q', 'k', 'v', 'g', 'beta', 'state'],
  infer: ([, , v, , , state]) => [
    { shape: v.shape, dtype: 'float32' },
    { shape: state.shape, dtype: 'float32' },
  ],
  emit: ({ graph, inputs, outputs: [output] }) => {
    const [, tokens] = output.shape;
    // what the branches read has to be in float32, whatever the rest of the graph becomes
    const operands = inputs.map(({ name }) => graph.op('Cast', [name], { to: ELEMENT_TYPES.float32 }));
    const shape = inputs[inputs.length - 1].shape;
    const isAlone = graph.op('Equal', [graph.shape([tokens]), graph.ints([1])]);
    const branches = {
      then_branch: oneToken(graph, operands, shape, output.shape),
      else_branch: allTokens(graph, operands, shape, output.shape),
    };
    return graph.ops('If', [isAlone], 2, branches);
  },
};

function oneToken(graph: GraphBuilder, operands: string[], shape: Dim[], outputShape: Dim[]): GraphBuilder {
  const branch = graph.subgraph();
  const state = operands[operands.length - 1];
  const token = operands.slice(0, -1).map((x) => branch.op('Squeeze', [x, branch.ints([1])]));
  const { read, next } = step(branch, token, state);
  branch.output(branch.op('Unsqueeze', [read, branch.ints([1])]), 'float32', [...outputShape]);
  branch.output(next, 'float32', [...shape]);
  return branch;
}

function allTokens(graph: GraphBuilder, operands: string[], shape: Dim[], outputShape: Dim[]): GraphBuilder {
  const branch = graph.subgraph();
  const [state, tokens] = [operands[operands.length - 1], operands.slice(0, -1)];
  const alongTokens = tokens.map(() => 1);
  const [next, read] = branch.ops('Scan', [state, ...tokens], 2, {
    body: bodyOf(branch, shape),
    num_scan_inputs: tokens.length,
    scan_input_axes: alongTokens,
    scan_output_axes: alongTokens.slice(0, 1),
  });
  branch.output(read, 'float32', [...outputShape]);
  branch.output(next, 'float32', [...shape]);
  return branch;
}

/** One token of the Scan, which wants to know the shapes. */
function bodyOf(graph: GraphBuilder, shape: Dim[]): GraphBuilder {
  const body = graph.subgraph();
  const [batch, heads, keyDim, valueDim] = shape;
  const input = (dims: Dim[]): string => body.input(body.freshName(), 'float32', dims);
  const state = input([...shape]);
  const numbers = [batch, heads];
  const token = [[batch, heads, keyDim], [batch, heads, keyDim], [batch, heads, valueDim], numbers, numbers].map(input);
  const { read, next } = step(body, token, state);
  body.output(next, 'float32', [...shape]);
  body.output(read, 'float32', [batch, heads, valueDim]);
  return body;
}

/** Of the states before a token what it reads, [batch, heads, valueDim], and those behind it. */
function step(graph: GraphBuilder, [q, k, v, g, beta]: string[], state: string): { read: string; next: string } {
  const withAxes = (x: string, ...axes: number[]): string => graph.op('Unsqueeze', [x, graph.ints(axes)]);
  const row = (x: string): string => withAxes(x, 2);
  const decayed = graph.op('Mul', [state, withAxes(graph.op('Exp', [g]), 2, 3)]);
  const missing = graph.op('Sub', [row(v), graph.op('MatMul', [row(k), decayed])]);
  const correction = graph.op('Mul', [missing, withAxes(beta, 2, 3)]);
  const next = graph.op('Add', [decayed, graph.op('Mul', [withAxes(k, 3), correction])]);
  const read = graph.op('Squeeze', [graph.op('MatMul', [row(q), next]), graph.ints([2])]);
  return { read, next };
}
