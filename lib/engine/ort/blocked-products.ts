/**
 * Products of matrices by ONNX Runtime's convolution on blocked channels (blocked-layout.ts).
 *
 * A convolution of one pixel's size is a product: out[o, p] = Σ_c filter[o, c] · image[c, p]. Its kernel reads blocks straight through, where
 * `Gemm` first packs its operands, and a turned one slowly.
 *
 * The kernel takes some 32 channels of the filter after the other, and reads the whole image for each: one that the processor's cache does not
 * hold comes from memory every time. So an image is cut into chunks of rows, which the kernel takes for images of their own: one goes through
 * all of the filter, then the next. 1,280 rows of 4,096 numbers times a matrix of 1,024 columns took a fifth to a third less
 * time so.
 *
 * The operators are ONNX Runtime's own and meant for its optimizer: `findBlock` tries them first, and `Gemm` serves where they fail.
 */
import {
  asFilter,
  asImage,
  byColumns,
  byRows,
  canCut,
  describedImage,
  fromImage,
  imageOf,
  imageShape,
  isBlocked,
  isImageOnly,
  MOST_LINES,
  pixelsOf,
} from './blocked-layout';
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
    const byFirst = !isImageOnly(graph, b) || isImageOnly(graph, a) || !fits(columns);
    const product = (byFirst ? turnedProduct : turnedBySecond)(graph, a, b, { rows, inner, columns });
    return plus(graph, product, base ?? bias);
  }
  if (typeof rows === 'number' || typeof inner !== 'number' || !fits(rows, inner, columns)) return undefined;
  const staysInLayout = isImageOnly(graph, a) || (base !== undefined && isImageOnly(graph, base));
  if (inner * columns < LARGE_WEIGHT && !staysInLayout) return undefined;
  return straightProduct(graph, a, b, { rows, inner, columns, transB, bias: biasLast, base });
}

/**
 * Writes a·bᵀ with a bias, shown by an image in chunks, if it is large enough to be faster so.
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
  const fits = block !== undefined && canCut(rows) && [rows, inner, columns].every((dim) => isMultiple(dim, block));
  if (!fits || inner * columns < LARGE_WEIGHT) return undefined;
  return straightProduct(graph, a, b, { rows, inner, columns, transB: true, bias });
}

/**
 * Writes an operation on single elements of matrices, on images if all of them are shown by some.
 * @param compute writes it for the operands of these names
 */
export function elementwise(graph: GraphBuilder, operands: readonly Operand[], compute: (names: string[]) => string[]): string[] {
  const names = operands.map(({ name }) => name);
  const [rows, columns] = operands[0].shape;
  const images = names.map((name) => imageOf(graph, name, rows));
  if (images.includes(undefined) || typeof columns !== 'number') return graph.onRows(names, compute);
  return compute(images as string[]).map((result) => fromImage(graph, result, [rows, columns]));
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

/** a·b, or a·bᵀ, shown by an image. A base that an image shows, too, is what the product goes onto. */
function straightProduct(graph: GraphBuilder, a: string, b: string, form: StraightForm): string {
  const { rows, inner, columns, transB, bias = () => '', base } = form;
  const channels = (): string => (transB ? byRows(graph, b, [columns, inner]) : byColumns(graph, b, [inner, columns], MOST_LINES));
  const filter = isBlocked(graph, b) ? b : asFilter(graph, channels(), columns);
  if (rows === 1) return plus(graph, rowProduct(graph, a, [filter, bias()], inner, columns), base);
  const laid = asImage(graph, a, [rows, inner]);
  const image = isBlocked(graph, b) ? laid : graph.again(laid, imageShape(graph, rows, inner));
  const convolution = (...others: string[]): string => graph.op('Conv', [image, filter, ...others], { kernel_shape: [1, 1] });
  const shown = base !== undefined && graph.isUnwritten(base) ? imageOf(graph, base, rows) : undefined;
  if (shown === undefined) return plus(graph, fromImage(graph, convolution(bias()), [rows, columns]), base);
  const described = (x: string): string => graph.describe(x, describedImage(rows, columns));
  const sum = described(convolution(bias(), described(graph.again(described(shown), imageShape(graph, rows, columns)))));
  return fromImage(graph, sum, [rows, columns]);
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
  return graph.op('Reshape', [pixelsOf(graph, product, columns), graph.ints([rows, columns])]);
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
  const rows = multipleName('rows', size);
  graph.input('a', 'float32', [size, rows]);
  for (const name of ['b', 'c']) graph.input(name, 'float32', [size, size]);
  const inner = turnedProduct(graph, 'a', 'b', { rows: size, inner: size, columns: size });
  const row = graph.op('Slice', [inner, graph.ints([0]), graph.ints([1]), graph.ints([0])]);
  const product = (x: string, height: Dim): string =>
    straightProduct(graph, x, 'c', { rows: height, inner: size, columns: size, transB: true });
  graph.outputAs('y', product(inner, rows), 'float32');
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
