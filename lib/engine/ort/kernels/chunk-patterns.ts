/** What the tokens of a chunk are masked with as they look at each other: constants of a whole graph. */
import { CHUNK } from '../../chunks';
import type { GraphBuilder } from '../onnx';

/** Zeros and ones, [CHUNK, CHUNK]. @param graph the outermost one, so that all layers share it */
export function patternOfChunk(graph: GraphBuilder, name: string, isOne: (row: number, column: number) => boolean): string {
  const ones = (): number[] => Array.from({ length: CHUNK * CHUNK }, (_, i) => Number(isOne(Math.floor(i / CHUNK), i % CHUNK)));
  return graph.once(`pattern of a chunk: ${name}`, () => graph.constant('float32', ones(), [CHUNK, CHUNK]));
}

/** Each token sees those before it. */
export const below = (graph: GraphBuilder): string => patternOfChunk(graph, 'below', (row, column) => column < row);

/** Each token sees those before it, and itself. */
export const upTo = (graph: GraphBuilder): string => patternOfChunk(graph, 'up to', (row, column) => column <= row);
