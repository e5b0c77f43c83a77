/**
 * Matrices in the layout "NCHWc" that ONNX Runtime gives to images on x86: channels in blocks of 16 with AVX-512, of 8 with AVX2. Bringing
 * one into it, or back, takes about a tenth of a product's time.
 *
 * A matrix lies in it in one of three ways, with 16 for the block:
 * - by columns: its columns are channels, [columns / 16, rows, 16]. Filters and images have the same layout, so it can be either.
 * - in chunks: the same of chunks of its rows, [chunks, columns / 16, rows / chunks, 16], as an image of which the cache holds a chunk.
 * - by rows: its rows are channels, [rows / 16, columns, 16].
 */
import type { Operand } from './kernel';
import { type Dim, ELEMENT_TYPES, type GraphBuilder, isMultiple } from './onnx';

/** Into how many lines of pixels an image is cut at most that is not in chunks: lines and groups of 64 channels are what threads share. */
export const MOST_LINES = 8;

/** Chunks of a matrix at most, and rows that each has at least, of which the kernel takes six at once. */
const MOST_CHUNKS = 16;
const ROWS_OF_A_CHUNK = 128;

const rowsKey = (x: string): string => `by rows: ${x}`;
const columnsKey = (x: string): string => `by columns: ${x}`;
const chunksKey = (x: string): string => `in chunks: ${x}`;

const blockOf = (graph: GraphBuilder): number => graph.target.block as number;

/** A matrix by rows. */
export function byRows(graph: GraphBuilder, x: string, [rows, columns]: [Dim, number]): string {
  const lines = linesIn(columns);
  return graph.once(rowsKey(x), () => graph.op('ReorderInput', [graph.reshape(x, [1, rows, lines, columns / lines])]));
}

/** Into how many lines the pixels of a matrix by rows are cut. */
export function linesIn(pixels: number): number {
  let lines = MOST_LINES;
  while (pixels % lines > 0) lines /= 2;
  return lines;
}

/** Declares an input that is a matrix by rows, as a filter: nothing may read it in another way. */
export function blockedInput(graph: GraphBuilder, name: string, shape: readonly number[]): void {
  graph.input(name, 'float32', [...shape, 1, 1]);
  graph.once(rowsKey(name), () => name);
}

/** Whether a matrix was declared to come so. */
export function isBlocked(graph: GraphBuilder, x: string): boolean {
  return graph.made(rowsKey(x)) === x;
}

/** A matrix by columns. */
export function byColumns(graph: GraphBuilder, x: string, [rows, columns]: [Dim, number], lines: number): string {
  const perLine = typeof rows === 'number' ? rows / lines : rows;
  return graph.once(columnsKey(x), () => {
    const chunks = graph.isUnwritten(x) ? graph.made(chunksKey(x)) : undefined;
    if (chunks) return joinedChunks(graph, chunks, [rows, columns]);
    return graph.op('ReorderInput', [graph.reshape(x, [1, lines, perLine, columns])], { channels_last: 1 });
  });
}

/** A matrix as an image: in chunks where its rows can be cut, else by columns. */
export function asImage(graph: GraphBuilder, x: string, [rows, columns]: [Dim, number]): string {
  if (!canCut(rows)) return byColumns(graph, x, [rows, columns], linesOf(graph, rows));
  return graph.once(chunksKey(x), () => {
    return graph.op('ReorderInput', [byChunks(graph, x, rows, 1, -1, columns)], { channels_last: 1 });
  });
}

/** The shape of such an image, int64 [4]. */
export function imageShape(graph: GraphBuilder, rows: Dim, columns: number): string {
  return canCut(rows) ? shapeOf(graph, [chunksOf(graph, rows), columns, 1, -1]) : graph.ints([1, columns, linesOf(graph, rows), -1]);
}

/** What says that two such images have the same shape (see `describe` in onnx.ts). */
export const describedImage = (rows: Dim, columns: number): Dim[] => [`images of ${rows}`, columns, 'lines', `pixels of ${rows}`];

/** The matrix that an image shows; it is brought out of the layout when something reads it that wants it by its elements. */
export function fromImage(graph: GraphBuilder, image: string, [rows, columns]: [Dim, number]): string {
  const name = graph.whenRead((written) => {
    const pixels = canCut(rows)
      ? pixelsOf(graph, image, columns)
      : graph.op('ReorderOutput', [image], { channels: columns, channels_last: 1 });
    graph.node('Reshape', [pixels, graph.newShape([rows, columns])], [written]);
  });
  graph.once(imageKey(rows)(name), () => image);
  return name;
}

/** The pixels of an image, [images, lines, pixels of a line, channels]. `ReorderOutput` could give them, but on one thread; so it gives channels. */
export function pixelsOf(graph: GraphBuilder, image: string, channels: number): string {
  return graph.op('Transpose', [graph.op('ReorderOutput', [image], { channels })], { perm: [0, 2, 3, 1] });
}

/** The image that shows a matrix already, if there is one. */
export const imageOf = (graph: GraphBuilder, x: string, rows: Dim): string | undefined => graph.made(imageKey(rows)(x));

const imageKey = (rows: Dim): ((x: string) => string) => (canCut(rows) ? chunksKey : columnsKey);

/** Whether a matrix is there as an image alone. */
export function isImageOnly(graph: GraphBuilder, x: string): boolean {
  return graph.isUnwritten(x) && [columnsKey, chunksKey].some((key) => graph.made(key(x)) !== undefined);
}

/** The image of a matrix as [chunks, columns / block, rows of a chunk · block]; undefined if it is none in chunks. */
export function blocksOf(graph: GraphBuilder, { name, shape: [rows, columns] }: Operand): string | undefined {
  const image = canCut(rows) ? graph.made(chunksKey(name)) : undefined;
  if (image === undefined || typeof columns !== 'number') return undefined;
  return byChunks(graph, image, rows, columns / blockOf(graph), -1);
}

/** The matrix that such blocks show. */
export function matrixOfBlocks(graph: GraphBuilder, blocks: string, [rows, columns]: [Dim, number]): string {
  return fromImage(graph, graph.op('Reshape', [blocks, imageShape(graph, rows, columns)]), [rows, columns]);
}

/** Writes the sum of the rows of a matrix that an image shows; undefined if none does. */
export function sumOfRows(graph: GraphBuilder, { name, shape: [rows, columns] }: Operand): string | undefined {
  const image = imageOf(graph, name, rows);
  if (image === undefined || typeof columns !== 'number') return undefined;
  const chunks = canCut(rows) ? chunksOf(graph, rows) : graph.ints([1]);
  const cells = graph.op('Reshape', [image, shapeOf(graph, [chunks, columns / blockOf(graph), -1, blockOf(graph)])]);
  return graph.op('Reshape', [graph.op('ReduceSum', [cells, graph.ints([0, 2])], { keepdims: 0 }), graph.ints([-1])]);
}

/** A matrix by columns as a filter with so many channels of its own. */
export function asFilter(graph: GraphBuilder, x: string, channels: number): string {
  return graph.op('Reshape', [x, graph.ints([channels, -1, 1, 1])]);
}

/** Whether a matrix of so many rows can be cut into chunks. */
export const canCut = (rows: Dim): boolean => isMultiple(rows, MOST_CHUNKS);

/** How many chunks a matrix lies in, int64 [1]: a power of two, so that all have the same number of rows. */
export function chunksOf(graph: GraphBuilder, rows: Dim): string {
  const counts = Array.from({ length: Math.log2(MOST_CHUNKS) }, (_, power) => 2 ** (power + 1));
  const least = counts.map((count) => count * ROWS_OF_A_CHUNK);
  if (typeof rows === 'number') return graph.ints([2 ** least.filter((enough) => rows >= enough).length]);
  return graph.once(`chunks of ${rows}`, () => {
    const reached = graph.op('Cast', [graph.op('GreaterOrEqual', [graph.shape([rows]), graph.ints(least)])], { to: ELEMENT_TYPES.int64 });
    const added = graph.op('Mul', [reached, graph.ints(counts.map((count) => count / 2))]);
    return graph.op('Add', [graph.op('ReduceSum', [added], { keepdims: 1 }), graph.ints([1])]);
  });
}

/** What lies in chunks of so many rows, in a shape whose first axis they are. */
export function byChunks(graph: GraphBuilder, x: string, rows: Dim, ...sizes: number[]): string {
  return graph.op('Reshape', [x, shapeOf(graph, [chunksOf(graph, rows), ...sizes])]);
}

/** A shape of numbers and of vectors int64 [1]; as `open` as others with a size to be inferred, so that compiling is fast. */
function shapeOf(graph: GraphBuilder, sizes: ReadonlyArray<number | string>): string {
  const vectors = sizes.map((size) => (typeof size === 'number' ? graph.ints([size]) : size));
  return graph.open(graph.concat(vectors, 0));
}

/** Chunks as one piece, by columns, which only filters are made of: a copy, for which `Gather`, unlike `Transpose`, uses all threads. */
function joinedChunks(graph: GraphBuilder, image: string, [rows, columns]: [Dim, number]): string {
  const blocks = columns / blockOf(graph);
  const places = graph.once(`places of ${blocks} blocks in chunks of ${rows}`, () => placesInChunks(graph, chunksOf(graph, rows), blocks));
  const runs = graph.op('Reshape', [image, shapeOf(graph, [graph.op('Mul', [chunksOf(graph, rows), graph.ints([blocks])]), -1])]);
  return graph.op('Gather', [runs, places], { axis: 0 });
}

/** Where the parts of the first block of channels lie, chunk by chunk, then those of the second, and so on: int64 [blocks · chunks]. */
function placesInChunks(graph: GraphBuilder, chunks: string, blocks: number): string {
  const ofBlocks = graph.constant('int64', [...Array(blocks).keys()], [blocks, 1]);
  const scalar = (x: string): string => graph.op('Squeeze', [x, graph.ints([0])]);
  const [zero, one] = [0, 1].map((value) => scalar(graph.ints([value])));
  const ofChunks = graph.op('Mul', [graph.op('Range', [zero, scalar(chunks), one]), graph.ints([blocks])]);
  return graph.op('Reshape', [graph.op('Add', [ofBlocks, ofChunks]), graph.ints([-1])]);
}

/** Of a row of tokens that is a multiple of the block, and so of the lines; else all pixels are one line, read once for all of them. */
function linesOf(graph: GraphBuilder, rows: Dim): number {
  return isMultiple(rows, blockOf(graph)) ? MOST_LINES : 1;
}
