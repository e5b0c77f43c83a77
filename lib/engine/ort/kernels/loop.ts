/** ONNX's Loop, as attention goes from group to group with it. */
import { ELEMENT_TYPES, type ElementType, type GraphBuilder } from '../onnx';

/** How often a Loop runs, and what it gives. */
interface Plan {
  /** How often its body runs, int64 []. */
  count: string;
  /** Types of the sequences that each run adds a tensor to. */
  sequences: readonly ElementType[];
  /** Float32 tensors before the first run; each run makes new ones out of those of the run before. */
  carried?: readonly string[];
}

interface Step {
  /** A tensor for each of the sequences. */
  items: string[];
  carried?: string[];
}

/**
 * Writes a Loop.
 * @param step writes one run into the body; the iteration is int64 [], from 0
 * @returns the sequences, then what was carried to the end
 */
export function loop(
  graph: GraphBuilder,
  { count, sequences, carried = [] }: Plan,
  step: (body: GraphBuilder, iteration: string, carried: string[]) => Step,
): string[] {
  const body = graph.subgraph();
  const iteration = body.input(body.freshName(), 'int64', []);
  const goOn = body.input(body.freshName(), 'bool', []);
  const begun = sequences.map((type) => body.input(body.freshName(), `${type}[]`));
  const inputs = carried.map(() => body.input(body.freshName(), 'float32'));
  body.outputAs(body.freshName(), goOn, 'bool', []);
  const { items, carried: outputs = [] } = step(body, iteration, inputs);
  for (const [which, item] of items.entries()) body.output(body.op('SequenceInsert', [begun[which], item]), `${sequences[which]}[]`);
  for (const output of outputs) body.output(output, 'float32');
  const empty = sequences.map((type) => graph.op('SequenceEmpty', [], { dtype: ELEMENT_TYPES[type] }));
  return graph.ops('Loop', [count, '', ...empty, ...carried], sequences.length + carried.length, { body });
}
