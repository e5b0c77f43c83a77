/**
 * Large matrices in pieces of their rows.
 *
 * What goes over a whole vocabulary (its logits, the gradient of the output head) would need room for all of it at once. In
 * pieces, each is used and let go of before the next. A matrix in main memory is fed and written in pieces without a copy: they
 * are parts of one array.
 */
import type { Tensor } from 'onnxruntime-common';
import type { Emission, Operand, Output } from './kernel';
import { addRows } from './kernels/row-sums';
import { ELEMENT_TYPES, type GraphBuilder } from './onnx';
import { ortTensor } from './session';

/** Rows of a piece: products with so many, and their gradients, stay in the processor's cache. */
const ROWS = 2048;

/** Pieces at most: each adds some twenty nodes to a graph, which compiles ten times as long with 128 as with 64. */
const MOST_PIECES = 64;

/** Numbers of rows that products like best are multiples of this. */
const ALIGNMENT = 16;

/** A piece of a matrix. */
export interface Piece {
  /** The row of the whole that it begins with. */
  first: number;
  /** Its rows. */
  size: number;
  isLast: boolean;
}

/** Pieces of a matrix with so many rows; one piece if it is not large. */
export function piecesOf(rows: number): Piece[] {
  const even = rows / Math.min(MOST_PIECES, Math.ceil(rows / ROWS));
  const size = ALIGNMENT * Math.ceil(even / ALIGNMENT);
  const pieces: Piece[] = [];
  for (let first = 0; first < rows; first += size) pieces.push({ first, size: Math.min(size, rows - first), isLast: first + size >= rows });
  return pieces;
}

/** Name of an input's or output's piece. */
const pieceName = (name: string, index: number): string => `${name}_${index}`;

/** Declares an input, a matrix of this shape, a second time: as its pieces. */
export function inputInPieces(graph: GraphBuilder, { name, dtype }: Operand, [rows, ...others]: readonly number[]): string[] {
  const pieces = piecesOf(rows);
  if (pieces.length === 1) return [name];
  graph.inPieces.add(name);
  return pieces.map(({ size }, index) => graph.input(pieceName(name, index), dtype, [size, ...others]));
}

/** Declares an output, a matrix, as its pieces only. */
export function outputInPieces(graph: GraphBuilder, name: string, { shape, dtype }: Output, values: readonly string[]): void {
  const [rows, ...others] = shape;
  const pieces = piecesOf(rows);
  if (pieces.length > 1) graph.inPieces.add(name);
  for (const [index, { size }] of pieces.entries())
    graph.outputAs(pieces.length > 1 ? pieceName(name, index) : name, values[index], dtype, [size, ...others]);
}

/** Pieces of a matrix that the graph computes, as copies. */
export function split(graph: GraphBuilder, { name }: Operand, [rows]: readonly number[]): string[] {
  const sizes = piecesOf(rows).map(({ size }) => size);
  return graph.split(name, sizes, 0);
}

/** A tensor in main memory as its pieces, by their names. */
export function tensorsOfPieces(name: string, { type, data, dims }: Tensor): Record<string, Tensor> {
  const [rows, ...others] = dims;
  const width = others.reduce((a, b) => a * b, 1);
  const tensors = piecesOf(rows).map(({ first, size }, index) => {
    const part = (data as Float32Array).subarray(first * width, (first + size) * width);
    return [pieceName(name, index), ortTensor(type as 'float32', part, [size, ...others])];
  });
  return Object.fromEntries(tensors);
}

/** Adds rows to those of a matrix in pieces that their ids name. */
export function addRowsToPieces({ graph, inputs: [rows, ids] }: Emission, bases: readonly string[], total: number): string[] {
  return piecesOf(total).map((piece, index) => {
    const { place, isInside } = placesIn(graph, ids.name, piece);
    const [ownIds, own] = [place, rows.name].map((x) => graph.op('Compress', [x, isInside], { axis: 0 }));
    return addRows(graph, bases[index], ownIds, own, rows.shape.length);
  });
}

/**
 * Where rows of the whole matrix are in a piece, any row of it for those elsewhere, and which are in it. Ids beyond the whole are
 * beyond its last piece, so that who reads there fails.
 */
export function placesIn(graph: GraphBuilder, ids: string, { first, size, isLast }: Piece): { place: string; isInside: string } {
  const int = (value: number): string => graph.scalar('int32', value);
  const relative = first > 0 ? graph.op('Sub', [ids, int(first)]) : ids;
  const place = graph.op('Clip', [relative, int(0), isLast ? '' : int(size - 1)]);
  return { place, isInside: graph.op('Equal', [relative, place]) };
}

/** Ones where a condition holds, and zeros. */
export const indicator = (graph: GraphBuilder, condition: string): string => graph.op('Cast', [condition], { to: ELEMENT_TYPES.float32 });
