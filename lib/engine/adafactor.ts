/**
 * Adafactor on arrays in main memory, of which one may hold several matrices, one behind the other. A matrix is read three times: for the sums
 * of its gradients' squares, for the size of the update, and for the update itself, which is computed twice rather than kept, as it is as large
 * as the weights.
 */
import { ADAFACTOR_WASM } from './adafactor-wasm';
import { openWorkshop, PIECE, type Workshop } from './workshop';

/** Settings of one Adafactor update. */
export interface AdafactorSettings {
  learningRate: number;
  /** Share of the mean squares that stays. */
  beta2: number;
  /** Added to squares. */
  epsilon: number;
  /** Updates of a larger root mean square are scaled down to it. */
  clipThreshold: number;
  /** Decoupled weight decay; 0 for biases and norms. */
  weightDecay: number;
  /** Factor on the gradient before anything else: the clipping of the global norm. */
  gradientScale: number;
}

interface Functions {
  sums(rows: number, columns: number, gradients: number, rowSums: number, columnSums: number, scale: number): void;
  squares(rows: number, columns: number, gradients: number, rowFactors: number, columnFactors: number): number;
  update(
    rows: number,
    columns: number,
    weights: number,
    gradients: number,
    rowFactors: number,
    columnFactors: number,
    keep: number,
    rate: number,
  ): void;
}

/** A part of a matrix whose numbers lie one behind the other: whole rows, or a part of one row. */
interface Part {
  row: number;
  column: number;
  rows: number;
  columns: number;
}

function* partsOf(rows: number, columns: number): Iterable<Part> {
  const width = Math.min(columns, PIECE);
  const height = Math.floor(PIECE / width);
  for (let row = 0; row < rows; row += height) {
    for (let column = 0; column < columns; column += width)
      yield { row, column, rows: Math.min(height, rows - row), columns: Math.min(width, columns - column) };
  }
}

let workshop: Workshop<Functions> | undefined;

/** A matrix, of which the update is g · row factor · column factor. */
interface Factored {
  w: Float32Array;
  g: Float32Array;
  rowFactors: Float32Array;
  columnFactors: Float32Array;
}

/**
 * See `adafactor` in updates.ts: of matrices of one size, whose rows and columns have a mean square each. What is clipped is the update of all
 * of them. The gradients are zero afterwards.
 */
export function adafactorInPlace(
  w: Float32Array,
  g: Float32Array,
  rowSquares: Float32Array,
  columnSquares: Float32Array,
  { rows, columns, ...settings }: AdafactorSettings & { rows: number; columns: number },
): void {
  workshop ??= openWorkshop(ADAFACTOR_WASM, 4);
  const { learningRate, weightDecay, clipThreshold } = settings;
  const of = (array: Float32Array, index: number, size: number): Float32Array => array.subarray(index * size, (index + 1) * size);
  const matrices: Factored[] = [];
  let sum = 0;
  for (let i = 0; i < w.length / (rows * columns); i++) {
    const ofMatrix = of(g, i, rows * columns);
    const factors = takeSquares(workshop, ofMatrix, of(rowSquares, i, rows), of(columnSquares, i, columns), settings);
    matrices.push({ w: of(w, i, rows * columns), g: ofMatrix, ...factors });
    sum += sumUpdateSquares(workshop, matrices[i]);
  }
  const size = Math.sqrt(sum / g.length);
  const rate = learningRate / Math.max(1, size / clipThreshold);
  for (const matrix of matrices) update(workshop, matrix, 1 - learningRate * weightDecay, rate);
}

/** Lets the mean squares of a matrix take in those of a gradient. @returns what the gradient is multiplied by in each row and column */
function takeSquares(
  tools: Workshop<Functions>,
  g: Float32Array,
  rowSquares: Float32Array,
  columnSquares: Float32Array,
  settings: AdafactorSettings,
): Pick<Factored, 'rowFactors' | 'columnFactors'> {
  const { gradientScale } = settings;
  const sums = sumSquares(tools, g, rowSquares.length, columnSquares.length, gradientScale);
  takeMeans(rowSquares, sums.rows, columnSquares.length, settings);
  takeMeans(columnSquares, sums.columns, rowSquares.length, settings);
  const mean = rowSquares.reduce((sum, x) => sum + x, 0) / rowSquares.length;
  return {
    rowFactors: rowSquares.map((x) => gradientScale / Math.sqrt(x / mean)),
    columnFactors: columnSquares.map((x) => 1 / Math.sqrt(x)),
  };
}

/** Of vectors, whose numbers have a mean square each; they are small. */
export function adafactorOfVector(w: Float32Array, g: Float32Array, squares: Float32Array, settings: AdafactorSettings): void {
  const { gradientScale, learningRate, weightDecay, clipThreshold } = settings;
  takeMeans(
    squares,
    g.map((x) => (x * gradientScale) ** 2),
    1,
    settings,
  );
  const updates = g.map((x, i) => (x * gradientScale) / Math.sqrt(squares[i]));
  const size = Math.sqrt(updates.reduce((sum, u) => sum + u * u, 0) / updates.length);
  const rate = learningRate / Math.max(1, size / clipThreshold);
  const keep = 1 - learningRate * weightDecay;
  for (const [i, u] of updates.entries()) w[i] = w[i] * keep - rate * u;
  g.fill(0);
}

/** Lets running means take in the sums of `count` squares each. */
function takeMeans(means: Float32Array, sums: ArrayLike<number>, count: number, { beta2, epsilon }: AdafactorSettings): void {
  for (let i = 0; i < means.length; i++) means[i] = beta2 * means[i] + (1 - beta2) * (sums[i] / count + epsilon);
}

/** Sums of the squares of each row and column: short ones in float32, and these in float64. */
function sumSquares({ functions, places }: Workshop<Functions>, g: Float32Array, rows: number, columns: number, scale: number) {
  const [, gradients, rowSums, columnSums] = places;
  const sums = { rows: new Float64Array(rows), columns: new Float64Array(columns) };
  for (const part of partsOf(rows, columns)) {
    gradients.set(pieceOf(g, part, columns));
    columnSums.fill(0, 0, part.columns);
    functions.sums(part.rows, part.columns, gradients.byteOffset, rowSums.byteOffset, columnSums.byteOffset, scale);
    for (let i = 0; i < part.rows; i++) sums.rows[part.row + i] += rowSums[i];
    for (let i = 0; i < part.columns; i++) sums.columns[part.column + i] += columnSums[i];
  }
  return sums;
}

/** The sum of the squares of all numbers of an update. */
function sumUpdateSquares({ functions, places }: Workshop<Functions>, { g, rowFactors, columnFactors }: Factored): number {
  const [, gradients, ofRows, ofColumns] = places;
  let sum = 0;
  for (const part of partsOf(rowFactors.length, columnFactors.length)) {
    gradients.set(pieceOf(g, part, columnFactors.length));
    setFactors(places, part, rowFactors, columnFactors);
    sum += functions.squares(part.rows, part.columns, gradients.byteOffset, ofRows.byteOffset, ofColumns.byteOffset);
  }
  return sum;
}

function update(
  { functions, places }: Workshop<Functions>,
  { w, g, rowFactors, columnFactors }: Factored,
  keep: number,
  rate: number,
): void {
  const [weights] = places;
  const addresses = places.map((place) => place.byteOffset) as [number, number, number, number];
  for (const part of partsOf(rowFactors.length, columnFactors.length)) {
    const [ofWeights, ofGradients] = [w, g].map((array) => pieceOf(array, part, columnFactors.length));
    weights.set(ofWeights);
    places[1].set(ofGradients);
    setFactors(places, part, rowFactors, columnFactors);
    functions.update(part.rows, part.columns, ...addresses, keep, rate);
    ofWeights.set(weights.subarray(0, ofWeights.length));
    // Here, while the cache has them: a pass of its own would read them again.
    ofGradients.fill(0);
  }
}

function pieceOf(matrix: Float32Array, { row, column, rows, columns }: Part, width: number): Float32Array {
  const start = row * width + column;
  return matrix.subarray(start, start + rows * columns);
}

function setFactors(
  [, , ofRows, ofColumns]: readonly Float32Array[],
  { row, column, rows, columns }: Part,
  rowFactors: Float32Array,
  columnFactors: Float32Array,
): void {
  ofRows.set(rowFactors.subarray(row, row + rows));
  ofColumns.set(columnFactors.subarray(column, column + columns));
}
