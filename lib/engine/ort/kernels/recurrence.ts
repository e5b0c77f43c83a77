/** A linear recurrence of matrices, as ONNX's Scan takes it step by step. */
import type { OrtKernel } from '../kernel';
import { float, type GraphBuilder } from '../onnx';

/** A direction of Scan: from the last step to the first. */
const BACK = 1;

/**
 * What is before each step: zeros before the first, and then goesOn · what was behind the one before it, which is step · (what was before that) +
 * added. `back`: from the last step to the first, and with turned steps, which is how gradients flow.
 */
const recurrence: OrtKernel = {
  name: 'Recurrence',
  inputs: ['steps', 'added', 'goesOn'],
  infer: ([, added]) => ({ shape: added.shape, dtype: 'float32' }),
  key: ({ back }, [, added]) => `${back === true},${added.shape.slice(1)}`,
  emit: ({ graph, inputs: [steps, added, goesOn], attrs: { back }, concrete: [, [, ...state]] }) => {
    const zeros = graph.op('Expand', [graph.scalar('float32', 0), graph.ints(state)]);
    const directions = new Array<number>(3).fill(back ? BACK : 0);
    const [, before] = graph.ops('Scan', [zeros, steps.name, added.name, goesOn.name], 2, {
      body: bodyOf(graph, state, back === true),
      num_scan_inputs: 3,
      scan_input_directions: directions,
      scan_output_directions: directions.slice(0, 1),
    });
    return before;
  },
};

/** One step: of the state behind the last one what is behind this one, and what was before it. Scan wants to know the shapes. */
function bodyOf(graph: GraphBuilder, shape: readonly number[], back: boolean): GraphBuilder {
  const body = graph.subgraph();
  const [heads, rows] = shape;
  const [state, step, added, goesOn] = [shape, [heads, rows, rows], shape, []].map((dims) =>
    body.input(body.freshName(), 'float32', [...dims]),
  );
  const before = body.op('Mul', [state, goesOn]);
  const product = back ? body.op('FusedMatMul', [step, before], { transA: 1, alpha: float(1) }) : body.op('MatMul', [step, before]);
  body.output(body.op('Add', [product, added]), 'float32', [...shape]);
  body.output(before, 'float32', [...shape]);
  return body;
}

export const recurrenceKernels = [recurrence];
