/** ONNX's Scan, as recurrences go from chunk to chunk with it. */
import { CHUNK } from '../../chunks';
import type { GraphBuilder } from '../onnx';

interface ScanPlan {
  /** Its inputs are the state, and then a step of what is scanned. */
  body: GraphBuilder;
  /** What the body makes of the state, which is zeros at first. */
  state: readonly [name: string, shape: number[]];
  scanned: string[];
  /** What the body gives in each step. */
  outputs: ReadonlyArray<readonly [name: string, shape: number[]]>;
  /** From the last step to the first. */
  back?: boolean;
}

/** Writes a Scan. @returns what its steps have given, one after the other */
export function scan(graph: GraphBuilder, { body, state: [state, shape], scanned, outputs, back = false }: ScanPlan): string[] {
  body.output(state, 'float32', shape);
  for (const [name, shape] of outputs) body.output(name, 'float32', shape);
  const zeros = graph.op('Expand', [graph.scalar('float32', 0), graph.ints(shape)]);
  const directions = (count: number): number[] => new Array<number>(count).fill(back ? 1 : 0);
  const results = graph.ops('Scan', [zeros, ...scanned], 1 + outputs.length, {
    body,
    num_scan_inputs: scanned.length,
    scan_input_directions: directions(scanned.length),
    scan_output_directions: directions(outputs.length),
  });
  return results.slice(1);
}

/** What the body of a Scan is given. */
export const bodyInput = (body: GraphBuilder, shape: number[]): string => body.input(body.freshName(), 'float32', shape);

/** A logarithm of which nothing is left, in float32. */
const NOTHING = -1e4;

/**
 * The logarithms of what tokens leave of a state, where a segment begins with one more decay before its first token, to nothing. So the state before
 * is neither read nor left there, nor does a gradient flow back to it, with no other change.
 * @param graph the graph that constants lie in
 * @param g […, CHUNK, n]
 * @param goesOn 1 where the chunk goes on with its segment, else 0: []
 */
export function parted(graph: GraphBuilder, body: GraphBuilder, g: string, goesOn: string): string {
  const first = Array.from({ length: CHUNK }, (_, token) => (token === 0 ? -NOTHING : 0));
  const pattern = graph.once('what parts segments', () => graph.constant('float32', first, [CHUNK, 1]));
  return body.op('Add', [g, body.op('Mul', [pattern, body.op('Sub', [goesOn, graph.scalar('float32', 1)])])]);
}
