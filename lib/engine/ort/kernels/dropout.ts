/** Dropout: some numbers of a matrix, by bits that are drawn for them. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OrtKernel } from '../kernel';
import { exactly, type GraphBuilder, isMultiple } from '../onnx';

/** Numbers that share a byte, as its bits. */
export const BITS = 8;

/** Numbers of x that are kept, as bits say (engine/dropout.ts), times a factor, and 0 for the others. */
export const dropout: OrtKernel = {
  name: 'Dropout',
  inputs: ['x', 'kept'],
  infer: ([x]: TensorInfo[]) => ({ shape: x.shape, dtype: 'float32' }),
  key: ({ factor, way }, [x]) => `${exactly(factor)},${x.shape[1]},${way}`,
  emit: ({ graph, inputs: [x, kept], attrs: { factor, way }, concrete: [[, features]] }) => {
    const size = graph.op('Mul', [graph.sizeOf(x.name, 0), graph.ints([features])]);
    // kept from the way forward to the way back, the factors of all places would be most of the memory
    const factors = graph.once(`factors ${way} of ${kept.name}`, () =>
      factorsOf(graph, factorTable(graph, factor), bytesFor(graph, kept.name, size)),
    );
    // the last byte may have bits for more
    const areAll = isMultiple(x.shape[0], BITS);
    const list = areAll
      ? factors
      : graph.op('Slice', [graph.op('Reshape', [factors, graph.ints([-1])]), graph.ints([0]), size, graph.ints([0])]);
    // Each call by itself, the gradient's as well: read twice, the product would wait in memory from the one to the other.
    const result = graph.freshName();
    graph.node('Mul', [x.name, graph.op('Reshape', [list, graph.ints([-1, features])])], [result]);
    return result;
  },
};

/**
 * All bytes, cut to the size that they have for so many numbers: so that they wait for the matrix. What depends on inputs of the graph alone is
 * computed first, and with it the factors of all places.
 */
function bytesFor(graph: GraphBuilder, kept: string, size: string): string {
  const count = graph.op('Div', [graph.op('Add', [size, graph.ints([BITS - 1])]), graph.ints([BITS])]);
  const bytes = graph.freshName();
  graph.node('Slice', [kept, graph.ints([0]), count, graph.ints([0])], [bytes]);
  return bytes;
}

/** The eight factors, 0 or the given one, that each byte stands for: [256, 8]. */
function factorTable(graph: GraphBuilder, factor: number): string {
  const bits = Array.from({ length: BITS }, (_, bit) => bit);
  const rows = Array.from({ length: 2 ** BITS }, (_, byte) => bits.map((bit) => (byte & (1 << bit) ? factor : 0)));
  return graph.constant('float32', rows.flat(), [rows.length, BITS]);
}

/** The factors of bytes [...], [..., 8]: rows of the table, which is faster than to take bits apart. */
export const factorsOf = (graph: GraphBuilder, table: string, bytes: string): string => graph.op('Gather', [table, bytes], { axis: 0 });

/** By what the weights of an attention are multiplied. */
export interface WeightFactors {
  /** Bytes of a bit for each weight, int32 [tokens·heads, bytes]. */
  rows: string;
  /** The factors that a byte stands for. */
  table: string;
}

/** @param kept int32 [tokens·heads·bytes] */
export function weightFactors(
  graph: GraphBuilder,
  { kept, tokens }: { kept: string; tokens: string },
  { heads, factor }: { heads: number; factor: number },
): WeightFactors {
  const shape = graph.op('Concat', [graph.op('Mul', [graph.sizeOf(tokens, 0), graph.ints([heads])]), graph.ints([-1])], { axis: 0 });
  return { rows: graph.op('Reshape', [kept, shape]), table: factorTable(graph, factor) };
}
