/** What the tokens of a chunk are masked with as they look at each other, and how they are summed up: constants of a whole graph. */
import { CHUNK } from '../../chunks';
import { ELEMENT_TYPES, type GraphBuilder } from '../onnx';

/** ONNX's number of the type. */
const FLOAT64 = 11;

/** Zeros and ones, [CHUNK, CHUNK]. @param graph the outermost one, so that all layers share it */
export function patternOfChunk(graph: GraphBuilder, name: string, isOne: (row: number, column: number) => boolean): string {
  const ones = (): number[] => Array.from({ length: CHUNK * CHUNK }, (_, i) => Number(isOne(Math.floor(i / CHUNK), i % CHUNK)));
  return graph.once(`pattern of a chunk: ${name}`, () => graph.constant('float32', ones(), [CHUNK, CHUNK]));
}

/** Each token sees those before it. */
export const below = (graph: GraphBuilder): string => patternOfChunk(graph, 'below', (row, column) => column < row);

/** Each token sees those before it, and itself. */
export const upTo = (graph: GraphBuilder): string => patternOfChunk(graph, 'up to', (row, column) => column <= row);

/**
 * Γᵢ−Γⱼ of all pairs of a chunk's tokens, […, CHUNK, CHUNK], where Γ sums up numbers from the beginning, […, CHUNK]. In float64: the sums may be a
 * thousand times as large as a difference, which would lose as many digits.
 * @param outer the graph that constants lie in
 * @param axis the last one
 */
export function differencesOfSums(graph: GraphBuilder, outer: GraphBuilder, inRows: string, axis: number): string {
  const sums = graph.op('CumSum', [graph.op('Cast', [inRows], { to: FLOAT64 }), outer.scalar('int32', axis)]);
  const at = (axis: number): string => graph.op('Unsqueeze', [sums, outer.ints([axis])]);
  return graph.op('Cast', [graph.op('Sub', [at(axis + 1), at(axis)])], { to: ELEMENT_TYPES.float32 });
}
