/**
 * Large matrices in pieces of their rows.
 *
 * What goes over a whole vocabulary (its logits, the gradient of the output head) would need room for all of it at once. In
 * pieces, each is used and let go of before the next. A matrix in main memory is fed and written in pieces without a copy: they
 * are parts of one array.
 */
import type { Tensor } from 'onnxruntime-common';
import type { Emission, Operand, Output } from './kernel';
import { ELEMENT_TYPES, type GraphBuilder } from './onnx';
import { ortTensor } from './session';

/** Rows of a piece: products with so many, and their gradients, stay in the processor's cache. */
const ROWS = 2048;

/** Pieces at most: each adds some twenty nodes to a graph. */
const MOST_PIECES = 32;

/** Numbers of rows that products like best are multiples of this. */
const ALIGNMENT = 16;

/** Rows of each piece of a matrix with so many; one piece if it is not large. */
export function pieceSizes(rows: number): number[] {
  const even = rows / Math.min(MOST_PIECES, Math.ceil(rows / ROWS));
  const size = ALIGNMENT * Math.ceil(even / ALIGNMENT);
  const sizes: number[] = [];
  for (let first = 0; first < rows; first += size) sizes.push(Math.min(size, rows - first));
  return sizes;
}

/** The row that each piece begins with. */
export function firstRows(sizes: readonly number[]): number[] {
  let next = 0;
  return sizes.map((size) => {
    next += size;
    return next - size;
  });
}

/** Names of an input's or output's pieces. */
const pieceNames = (name: string, sizes: readonly number[]): string[] => sizes.map((_, index) => `${name}_${index}`);

/** Declares an input, a matrix of this shape, a second time: as its pieces. */
export function inputInPieces(graph: GraphBuilder, { name, dtype }: Operand, [rows, ...others]: readonly number[]): string[] {
  const sizes = pieceSizes(rows);
  if (sizes.length === 1) return [name];
  graph.inPieces.set(name, sizes);
  return pieceNames(name, sizes).map((piece, index) => graph.input(piece, dtype, [sizes[index], ...others]));
}

/** Declares an output, a matrix, as its pieces only. */
export function outputInPieces(graph: GraphBuilder, name: string, { shape, dtype }: Output, pieces: readonly string[]): void {
  const [rows, ...others] = shape;
  const sizes = pieceSizes(rows);
  if (sizes.length === 1) graph.outputAs(name, pieces[0], dtype, [...shape]);
  else {
    graph.inPieces.set(name, sizes);
    for (const [index, piece] of pieceNames(name, sizes).entries()) graph.outputAs(piece, pieces[index], dtype, [sizes[index], ...others]);
  }
}

/** Pieces of a matrix that the graph computes, as copies. */
export function split(graph: GraphBuilder, { name }: Operand, [rows]: readonly number[]): string[] {
  const sizes = pieceSizes(rows);
  return sizes.length === 1 ? [name] : graph.ops('Split', [name, graph.ints(sizes)], sizes.length, { axis: 0 });
}

/** A tensor in main memory as its pieces, by their names. */
export function tensorsOfPieces(
  name: string,
  { type, data, dims: [, ...others] }: Tensor,
  sizes: readonly number[],
): Record<string, Tensor> {
  const width = others.reduce((a, b) => a * b, 1);
  const starts = firstRows(sizes);
  const pieceOf = (index: number): Tensor => {
    const part = (data as Float32Array).subarray(starts[index] * width, (starts[index] + sizes[index]) * width);
    return ortTensor(type as 'float32', part, [sizes[index], ...others]);
  };
  return Object.fromEntries(pieceNames(name, sizes).map((piece, index) => [piece, pieceOf(index)]));
}

/** Adds rows to those of a matrix in pieces that their ids name; one after the other, so that sums do not depend on threads. */
export function scatterRowsIntoPieces({ graph, inputs: [rows, ids] }: Emission, pieces: readonly string[], total: number): string[] {
  const sizes = pieceSizes(total);
  const starts = firstRows(sizes);
  return pieces.map((piece, index) => {
    const { place, isInside } = placesIn(graph, ids.name, starts[index], sizes[index]);
    const own = graph.op('Compress', [rows.name, isInside], { axis: 0 });
    const column = graph.op('Unsqueeze', [graph.op('Compress', [place, isInside], { axis: 0 }), graph.ints([1])]);
    const indices = graph.op('Expand', [column, graph.op('Shape', [own])]);
    return graph.op('ScatterElements', [piece, indices, own], { axis: 0, reduction: 'add' });
  });
}

/** Where rows of the whole matrix are in a piece, any row of it for those elsewhere, and which are in it. */
export function placesIn(graph: GraphBuilder, ids: string, first: number, size: number): { place: string; isInside: string } {
  const int = (value: number): string => graph.scalar('int32', value);
  const relative = first > 0 ? graph.op('Sub', [ids, int(first)]) : ids;
  const place = graph.op('Clip', [relative, int(0), int(size - 1)]);
  return { place, isInside: graph.op('Equal', [relative, place]) };
}

/** Ones where a condition holds, and zeros. */
export const indicator = (graph: GraphBuilder, condition: string): string => graph.op('Cast', [condition], { to: ELEMENT_TYPES.float32 });
