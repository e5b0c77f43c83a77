/** The gated delta rule (gated-delta.ts) token by token, as exported models have it, whose texts are of any length: ONNX's Scan along them. */
import type { OrtKernel } from '../kernel';
import type { Dim, GraphBuilder } from '../onnx';

/**
 * What each token reads of its sequence's states, and the states behind the last one. q, k and v are [batch, tokens, heads, …], with as many heads
 * each, g and beta [batch, tokens, heads]; the states before the first token are [batch, heads, keyDim, valueDim].
 */
export const deltaRule: OrtKernel = {
  name: 'DeltaRule',
  inputs: ['q', 'k', 'v', 'g', 'beta', 'state'],
  infer: ([, , v, , , state]) => [
    { shape: v.shape, dtype: 'float32' },
    { shape: state.shape, dtype: 'float32' },
  ],
  emit: ({ graph, inputs: [q, k, v, g, beta, state] }) => {
    const tokens = [q, k, v, g, beta];
    const alongTokens = tokens.map(() => 1);
    const [behind, output] = graph.ops('Scan', [state.name, ...tokens.map(({ name }) => name)], 2, {
      body: bodyOf(graph, state.shape),
      num_scan_inputs: tokens.length,
      scan_input_axes: alongTokens,
      scan_output_axes: alongTokens.slice(0, 1),
    });
    return [output, behind];
  },
};

/** One token: of the state behind the last one what is behind this one, and what it reads there. Scan wants to know the shapes. */
function bodyOf(graph: GraphBuilder, shape: readonly Dim[]): GraphBuilder {
  const body = graph.subgraph();
  const [batch, heads, keyDim, valueDim] = shape;
  const input = (...dims: Dim[]): string => body.input(body.freshName(), 'float32', dims);
  const state = input(...shape);
  const [q, k, v] = [keyDim, keyDim, valueDim].map((dim) => input(batch, heads, dim));
  const [g, beta] = [input(batch, heads), input(batch, heads)];
  const inRow = (x: string): string => body.op('Unsqueeze', [x, body.ints([2])]);
  const inColumn = (x: string): string => body.op('Unsqueeze', [x, body.ints([3])]);
  const number = (x: string): string => body.op('Unsqueeze', [x, body.ints([2, 3])]);

  const decayed = body.op('Mul', [state, number(body.op('Exp', [g]))]);
  const missing = body.op('Sub', [inRow(v), body.op('MatMul', [inRow(k), decayed])]);
  const correction = body.op('Mul', [missing, number(beta)]);
  const next = body.op('Add', [decayed, body.op('Mul', [inColumn(k), correction])]);
  const read = body.op('Squeeze', [body.op('MatMul', [inRow(q), next]), body.ints([2])]);
  body.output(next, 'float32', [...shape]);
  body.output(read, 'float32', [batch, heads, valueDim]);
  return body;
}
