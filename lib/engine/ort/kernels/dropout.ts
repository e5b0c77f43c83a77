/** Dropout: some numbers of a matrix, by bits that are drawn for them. */
import type { TensorInfo } from '@tensorflow/tfjs-core';
import type { OrtKernel } from '../kernel';
import { ELEMENT_TYPES, exactly, type GraphBuilder, isMultiple } from '../onnx';

/** So many numbers share a word: what all words have at one bit is a part of the matrix, in its order. */
export const KEPT_BITS = 16;

/**
 * Numbers of x that are kept (engine/dropout.ts), times a factor, and 0 for the others. Each call is written by itself, the gradient's as well: read
 * twice, the product would wait in memory from the one to the other.
 */
export const dropout: OrtKernel = {
  name: 'Dropout',
  inputs: ['x', 'kept'],
  infer: ([x]: TensorInfo[]) => ({ shape: x.shape, dtype: 'float32' }),
  key: ({ factor }, [x]) => `${exactly(factor)},${x.shape[1]}`,
  emit: ({ graph, inputs: [x, kept], attrs: { factor }, concrete: [[, features]] }) => {
    const bits = graph.target.device === 'cpu' ? maskedBits(graph, kept.name, factor) : dividedBits(graph, kept.name, factor);
    // as many as x has; the last words may have bits for more
    const size = graph.op('Mul', [graph.shape([x.shape[0]]), graph.ints([features])]);
    const areAll = isMultiple(x.shape[0], KEPT_BITS);
    const list = areAll ? bits : graph.op('Slice', [graph.op('Reshape', [bits, graph.ints([-1])]), graph.ints([0]), size, graph.ints([0])]);
    const result = graph.freshName();
    graph.node('Mul', [x.name, graph.op('Reshape', [list, graph.ints([-1, features])])], [result]);
    return result;
  },
};

/** The values of all bits of a word, one below the other. */
const bitValues = (graph: GraphBuilder): string =>
  graph.constant(
    'int32',
    Array.from({ length: KEPT_BITS }, (_, bit) => 2 ** bit),
    [KEPT_BITS, 1],
  );

/** 0 or the factor for each bit of a list of words, [bits, words]. */
function maskedBits(graph: GraphBuilder, words: string, factor: number): string {
  const masked = graph.op('BitwiseAnd', [words, bitValues(graph)]);
  const factors = graph.constant(
    'float32',
    Array.from({ length: KEPT_BITS }, (_, bit) => factor * 2 ** -bit),
    [KEPT_BITS],
  );
  return graph.op('DequantizeLinear', [masked, factors], { axis: 0 });
}

/** The same by arithmetic, where there are no operations with bits. */
function dividedBits(graph: GraphBuilder, words: string, factor: number): string {
  const two = graph.scalar('int32', 2);
  const shifted = graph.op('Div', [words, bitValues(graph)]);
  const bits = graph.op('Sub', [shifted, graph.op('Mul', [graph.op('Div', [shifted, two]), two])]);
  return graph.op('Mul', [graph.op('Cast', [bits], { to: ELEMENT_TYPES.float32 }), graph.scalar('float32', factor)]);
}
