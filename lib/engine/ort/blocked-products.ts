/**
 * Products of matrices by ONNX Runtime's convolution on blocked channels, the layout "NCHWc" that it gives to images on x86.
 *
 * A convolution of one pixel's size is a product: out[o, p] = Σ_c filter[o, c] · image[c, p]. On blocked channels (16 with AVX-512,
 * 8 with AVX2) all three matrices lie as [channels / 16, …, 16], which the kernel reads straight through, where `Gemm` first packs
 * its operands, and a turned one slowly. Filter and image have the same layout, so either operand can be either. Bringing matrices
 * into that layout and back takes about a tenth of a product's time.
 *
 * The operators are ONNX Runtime's own and meant for its optimizer: `findBlock` tries them first, and `Gemm` serves where they fail.
 */
import type { Operand } from './kernel';
import { type Dim, GraphBuilder, isMultiple, multipleName } from './onnx';
import { ortTensor, Session, type SessionSettings } from './session';

/** Sizes of a product: [rows, inner] times [inner, columns]. */
export interface ProductSizes {
  rows: Dim;
  inner: Dim;
  columns: Dim;
}

/** Elements of a weight from which on the blocked product is the faster one although the weight is brought into its layout every time. */
const LARGE_WEIGHT = 1 << 19;

/** Elements of the smallest result of aᵀ·b that is worth the change of layout. */
const SMALLEST_GRADIENT = 1 << 14;

/** Into how many lines of pixels an image is cut at most: lines and groups of 64 channels are what threads share. */
const MOST_LINES = 8;

/** Which operands are turned, and what is added to the product: a vector to each of its rows, or a matrix. */
interface ProductForm {
  transA: boolean;
  transB: boolean;
  bias?: string;
  base?: string;
}

/**
 * Writes a·b, aᵀ·b or a·bᵀ, if that is faster than `Gemm` here.
 * @returns the name of the product; undefined if it is not
 */
export function blockedProduct(
  graph: GraphBuilder,
  [a, b]: [string, string],
  { rows, inner, columns }: ProductSizes,
  { transA, transB, bias, base }: ProductForm,
): string | undefined {
  const { block } = graph.target;
  const fits = (...dims: Dim[]): boolean => block !== undefined && dims.every((dim) => isMultiple(dim, block));
  const biasLast = bias === undefined ? undefined : () => bias;
  if (typeof columns !== 'number') return undefined;
  if (isBlocked(graph, b)) return straightProduct(graph, a, b, { rows, inner: inner as number, columns, transB, bias: biasLast, base });
  if (transA) {
    if (transB || typeof rows !== 'number' || rows * columns < SMALLEST_GRADIENT || !fits(rows, inner)) return undefined;
    const isOutside = (x: string): boolean => graph.made(columnsKey(x)) === undefined || !graph.isUnwritten(x);
    const byFirst = isOutside(b) || !isOutside(a) || !fits(columns);
    const product = (byFirst ? turnedProduct : turnedBySecond)(graph, a, b, { rows, inner, columns });
    return plus(graph, product, base ?? bias);
  }
  if (typeof rows === 'number' || typeof inner !== 'number' || inner * columns < LARGE_WEIGHT || !fits(rows, inner, columns))
    return undefined;
  return straightProduct(graph, a, b, { rows, inner, columns, transB, bias: biasLast, base });
}

/**
 * Writes a·bᵀ with a bias, if it can lie in the blocked layout and is large enough to be faster there.
 * @param bias writes a vector that is added to each row, or says '' for none; its operands are computed before the product's
 * @returns undefined, with nothing written, if it cannot
 */
export function productInBlocks(
  graph: GraphBuilder,
  a: string,
  b: string,
  { rows, inner, columns }: ProductSizes & { inner: number; columns: number },
  bias: () => string,
): string | undefined {
  const { block } = graph.target;
  if (block === undefined || inner * columns < LARGE_WEIGHT || ![rows, inner, columns].every((dim) => isMultiple(dim, block)))
    return undefined;
  return straightProduct(graph, a, b, { rows, inner, columns, transB: true, bias });
}

/**
 * Writes an operation on single elements of matrices, in the blocked layout if all of them have it.
 * @param compute writes it for the operands of these names
 */
export function elementwise(graph: GraphBuilder, operands: readonly Operand[], compute: (names: string[]) => string[]): string[] {
  const names = operands.map(({ name }) => name);
  const blocked = names.map((name) => graph.made(columnsKey(name)));
  const [rows, columns] = operands[0].shape;
  if (blocked.includes(undefined) || typeof columns !== 'number') return graph.onRows(names, compute);
  return compute(blocked as string[]).map((result) => inBlocks(graph, result, [rows, columns]));
}

/** Writes the sum of the rows of a matrix in the blocked layout; undefined if it is not in it. */
export function sumOfRows(graph: GraphBuilder, matrix: Operand): string | undefined {
  const blocks = blocksOf(graph, matrix);
  if (blocks === undefined) return undefined;
  const cells = graph.op('Reshape', [blocks, graph.ints([0, -1, graph.target.block as number])]);
  return graph.op('Reshape', [graph.op('ReduceSum', [cells, graph.ints([1])], { keepdims: 0 }), graph.ints([-1])]);
}

/** A matrix that lies in the blocked layout as [columns / block, rows · block]; undefined if it does not. */
export function blocksOf(graph: GraphBuilder, { name, shape: [, columns] }: Operand): string | undefined {
  const blocked = graph.made(columnsKey(name));
  const block = graph.target.block as number;
  return blocked && typeof columns === 'number' ? graph.op('Reshape', [blocked, graph.ints([columns / block, -1])]) : undefined;
}

/** A matrix whose numbers lie as [columns / block, rows · block]. */
export function matrixOfBlocks(graph: GraphBuilder, blocks: string, [rows, columns]: [Dim, number]): string {
  return inBlocks(graph, graph.op('Reshape', [blocks, graph.ints([1, columns, linesOf(graph, rows), -1])]), [rows, columns]);
}

/** A matrix that lies in the blocked layout, with its columns as channels; it is brought out of it when something else reads it. */
function inBlocks(graph: GraphBuilder, blocked: string, [rows, columns]: [Dim, number]): string {
  const name = graph.whenRead((written) => {
    const image = graph.op('ReorderOutput', [blocked], { channels: columns, channels_last: 1 });
    graph.node('Reshape', [image, graph.newShape([rows, columns])], [written]);
  });
  graph.once(columnsKey(name), () => blocked);
  return name;
}

/** What a product has beside its operands; the bias is written last (see `again` in onnx.ts). */
interface StraightForm {
  rows: Dim;
  inner: number;
  columns: number;
  transB: boolean;
  bias?: () => string;
  base?: string;
}

/** a·b, or a·bᵀ; the result lies in the blocked layout. A base that lies there too is what the product goes onto. */
function straightProduct(graph: GraphBuilder, a: string, b: string, form: StraightForm): string {
  const { rows, inner, columns, transB, bias = () => '', base } = form;
  const channels = (): string => (transB ? byRows(graph, b, [columns, inner]) : byColumns(graph, b, [inner, columns], MOST_LINES));
  const filter = isBlocked(graph, b) ? b : asFilter(graph, channels(), columns);
  if (rows === 1) return plus(graph, rowProduct(graph, a, [filter, bias()], inner, columns), base);
  const lines = linesOf(graph, rows);
  const laid = byColumns(graph, a, [rows, inner], lines);
  const image = isBlocked(graph, b) ? laid : graph.again(laid, [1, inner, lines, -1]);
  const convolution = (...others: string[]): string => graph.op('Conv', [image, filter, ...others], { kernel_shape: [1, 1] });
  const blockedBase = base !== undefined && graph.isUnwritten(base) ? graph.made(columnsKey(base)) : undefined;
  if (blockedBase === undefined) return plus(graph, inBlocks(graph, convolution(bias()), [rows, columns]), base);
  const described = (x: string): string =>
    graph.describe(x, [1, columns, lines, typeof rows === 'number' ? rows / lines : `${rows}/${lines}`]);
  const sum = described(convolution(bias(), described(graph.again(described(blockedBase), [1, columns, lines, -1]))));
  return inBlocks(graph, sum, [rows, columns]);
}

/** A product with something added, if there is something. */
export const plus = (graph: GraphBuilder, product: string, addend?: string): string =>
  addend === undefined ? product : graph.op('Add', [addend, product]);

/** The product of a single row, which lies the same in both layouts. */
function rowProduct(graph: GraphBuilder, row: string, weights: [filter: string, bias: string], inner: number, columns: number): string {
  const image = graph.once(`pixel: ${row}`, () => graph.op('Reshape', [row, graph.ints([1, inner, 1, 1])]));
  return graph.op('Reshape', [graph.op('Conv', [image, ...weights], { kernel_shape: [1, 1] }), graph.ints([1, columns])]);
}

/** Of aᵀ·b, with [inner, rows] and [inner, columns]. */
type TurnedSizes = ProductSizes & { rows: number; columns: number };

/** aᵀ·b. */
function turnedProduct(graph: GraphBuilder, a: string, b: string, { rows, inner, columns }: TurnedSizes): string {
  const filter = asFilter(graph, byColumns(graph, a, [inner, rows], MOST_LINES), rows);
  const product = graph.op('Conv', [byRows(graph, b, [inner, columns]), filter], { kernel_shape: [1, 1] });
  return graph.op('Reshape', [graph.op('ReorderOutput', [product], { channels: rows }), graph.ints([rows, columns])]);
}

/** The same as (bᵀ·a)ᵀ, which reads b as the product that gave it left it. */
function turnedBySecond(graph: GraphBuilder, a: string, b: string, { rows, inner, columns }: TurnedSizes): string {
  const filter = asFilter(graph, byColumns(graph, b, [inner, columns], MOST_LINES), columns);
  const product = graph.op('Conv', [byRows(graph, a, [inner, rows]), filter], { kernel_shape: [1, 1] });
  return graph.op('Reshape', [graph.op('ReorderOutput', [product], { channels: columns, channels_last: 1 }), graph.ints([rows, columns])]);
}

const rowsKey = (x: string): string => `by rows: ${x}`;

/** A matrix with its rows as channels, each of as many pixels as it has columns. */
export function byRows(graph: GraphBuilder, x: string, [rows, columns]: [Dim, number]): string {
  const lines = linesIn(columns);
  return graph.once(rowsKey(x), () => graph.op('ReorderInput', [graph.reshape(x, [1, rows, lines, columns / lines])]));
}

/** Declares an input that is a matrix with its rows as channels, as a filter: nothing may read it in another way. */
export function blockedInput(graph: GraphBuilder, name: string, shape: readonly number[]): void {
  graph.input(name, 'float32', [...shape, 1, 1]);
  graph.once(rowsKey(name), () => name);
}

/** Whether a matrix was declared to come so. */
export function isBlocked(graph: GraphBuilder, x: string): boolean {
  return graph.made(rowsKey(x)) === x;
}

const columnsKey = (x: string): string => `by columns: ${x}`;

/** A matrix with its columns as channels, each of as many pixels as it has rows. */
function byColumns(graph: GraphBuilder, x: string, [rows, columns]: [Dim, number], lines: number): string {
  const perLine = typeof rows === 'number' ? rows / lines : rows;
  return graph.once(columnsKey(x), () => graph.op('ReorderInput', [graph.reshape(x, [1, lines, perLine, columns])], { channels_last: 1 }));
}

function asFilter(graph: GraphBuilder, x: string, channels: number): string {
  return graph.op('Reshape', [x, graph.ints([channels, -1, 1, 1])]);
}

/** Of a row of tokens that is a multiple of the block, and so of the lines; else all pixels are one line, read once for all of them. */
function linesOf(graph: GraphBuilder, rows: Dim): number {
  return isMultiple(rows, graph.target.block as number) ? MOST_LINES : 1;
}

/** Into how many lines the pixels of a matrix by rows are cut. */
export function linesIn(pixels: number): number {
  let lines = MOST_LINES;
  while (pixels % lines > 0) lines /= 2;
  return lines;
}

const blocks = new Map<string, number | undefined>();

/**
 * How many channels make a block on this processor.
 * @returns undefined where ONNX Runtime has no such layout, or does not compute with it what is expected here
 */
export function findBlock(settings: SessionSettings): number | undefined {
  const key = settings.executionProviders.join();
  if (!blocks.has(key)) blocks.set(key, tryBlock({ ...settings, threads: 1 }));
  return blocks.get(key);
}

function tryBlock(settings: SessionSettings): number | undefined {
  try {
    const block = blockOf(settings);
    return block % MOST_LINES === 0 ? verified(block, settings) : undefined;
  } catch {
    return undefined;
  }
}

/** The number of channels that four are filled up to. */
function blockOf(settings: SessionSettings): number {
  const graph = new GraphBuilder();
  graph.outputAs('y', graph.op('ReorderInput', [graph.input('x', 'float32', [1, 4, 1, 1])]), 'float32');
  const session = new Session(graph, settings);
  try {
    return session.run({ x: ortTensor('float32', new Float32Array(4), [1, 4, 1, 1]) }, { y: null }).y.dims[1];
  } finally {
    session.dispose();
  }
}

/**
 * The block, if (aᵀ·b)·cᵀ of whole numbers, of all rows and of the first alone, comes out exactly: that takes every operator in every
 * way that it is used.
 */
function verified(block: number, settings: SessionSettings): number | undefined {
  const size = 2 * block;
  const [a, b, c] = [5, 7, 11].map((step) => Float32Array.from({ length: size * size }, (_, i) => ((i * step) % 17) - 8));
  const graph = new GraphBuilder({ device: 'cpu', precision: 'float32', block });
  for (const name of ['a', 'b', 'c']) graph.input(name, 'float32', [size, size]);
  const inner = turnedProduct(graph, 'a', 'b', { rows: size, inner: size, columns: size });
  const row = graph.op('Slice', [inner, graph.ints([0]), graph.ints([1]), graph.ints([0])]);
  const product = (x: string, rows: Dim): string => straightProduct(graph, x, 'c', { rows, inner: size, columns: size, transB: true });
  graph.outputAs('y', product(inner, multipleName('rows', size)), 'float32');
  graph.outputAs('first', product(row, 1), 'float32');
  const session = new Session(graph, settings);
  try {
    const tensor = (data: Float32Array) => ortTensor('float32', data, [size, size]);
    const results = session.run({ a: tensor(a), b: tensor(b), c: tensor(c) }, { y: null, first: null });
    const [y, first] = [results.y, results.first].map(({ data }) => data as Float32Array);
    const expected = exactProduct([a, b, c], size);
    const isRight = y.every((value, at) => value === expected[at]) && first.every((value, at) => value === expected[at]);
    return isRight ? block : undefined;
  } finally {
    session.dispose();
  }
}

/** (aᵀ·b)·cᵀ of square matrices of whole numbers. */
function exactProduct([a, b, c]: Float32Array[], size: number): number[] {
  const places = [...Array(size).keys()];
  const sum = (term: (k: number) => number): number => places.reduce((total, k) => total + term(k), 0);
  const every = (element: (row: number, column: number) => number): number[] =>
    places.flatMap((row) => places.map((column) => element(row, column)));
  const inner = every((row, column) => sum((k) => a[k * size + row] * b[k * size + column]));
  return every((row, column) => sum((k) => inner[row * size + k] * c[column * size + k]));
}
