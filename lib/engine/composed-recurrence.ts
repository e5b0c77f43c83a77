/**
 * Recurrences (recurrence.ts) of plain tfjs operations: all but what goes from chunk to chunk is computed for all chunks side by side.
 *
 * With Γ the sum of g from a chunk's beginning, T = (q·kᵀ)∘e^(Γᵢ−Γⱼ) up to the diagonal, K = e^(Γₙ−Γ)·k, and S the state before the chunk, what is
 * added under the keys, N, leaves the state e^Γₙ·S + Kᵀ·N, and the tokens read e^Γ·q·S + T·N. In Mamba 2 that is the values themselves. Under the
 * gated delta rule (sections 3.2 and 3.3 of its paper; transformers' `torch_chunk_gated_delta_rule`), with A = β·(k·kᵀ)∘e^(Γᵢ−Γⱼ) below the
 * diagonal, it is N = U − W·S, where U = (I+A)⁻¹·βv and W = (I+A)⁻¹·βe^Γ·k; so the state behind is (e^Γₙ·I − Kᵀ·W)·S + Kᵀ·U. Either is a linear
 * recurrence from chunk to chunk.
 */
import * as tf from '@tensorflow/tfjs-core';
import { CHUNK, type Chunks } from './chunks';
import type { RecurrenceHeads, RecurrenceOperands } from './recurrence';

/** What each chunk's tokens read and the states behind them. @param operands chunk after chunk, as their kernels take them */
export function composed(
  { q, k, v, g, beta }: RecurrenceOperands,
  chunks: Chunks,
  heads: RecurrenceHeads,
): { output: tf.Tensor2D; states: tf.Tensor4D } {
  const { keyHeads, valueHeads } = heads;
  const [queries, keys] = [q, k].map((x) => byHead(x, keyHeads));
  const [values, decay] = [v, g].map((x) => byHead(x, valueHeads));
  // along the last axis: tfjs's gradient knows no other
  const inRows: tf.Tensor3D = tf.squeeze(decay, [3]);
  const summed = tf.expandDims(tf.cumsum(inRows, 2), 3);
  const behindEach = tf.expandDims(tf.cumsum(inRows, 2, true, true), 3);
  const chunk: Chunk = { queries, keys, values, summed, between: decaysBetween(inRows), heads };
  const left = tf.exp(sumOfChunk(decay));
  const toEnd = spread(keys, tf.exp(behindEach), heads);
  const { before, behind, added } = beta
    ? corrected(chunk, { weight: byHead(beta, valueHeads), toEnd, left }, chunks)
    : { added: values, ...alongChunks(tf.matMul(toEnd, values, true, false), chunks, (state, i) => tf.mul(state, tf.slice(left, i, 1))) };
  const fromBefore = tf.matMul(spread(queries, tf.exp(summed), heads), before);
  const fromChunk = tf.matMul(spread(tf.matMul(queries, keys, false, true), chunk.between, heads), added);
  return { output: byToken(tf.add(fromBefore, fromChunk) as tf.Tensor4D), states: behind };
}

/** What all chunks bring; [chunks, heads, CHUNK, …] each. */
interface Chunk {
  queries: tf.Tensor4D;
  keys: tf.Tensor4D;
  values: tf.Tensor4D;
  /** Γ. */
  summed: tf.Tensor;
  /** e^(Γᵢ−Γⱼ), up to the diagonal. */
  between: tf.Tensor;
  heads: RecurrenceHeads;
}

interface States {
  before: tf.Tensor;
  behind: tf.Tensor4D;
}

/** What the gated delta rule adds, and the states. */
function corrected(
  { keys, values, summed, between, heads }: Chunk,
  { weight, toEnd, left }: Record<'weight' | 'toEnd' | 'left', tf.Tensor>,
  chunks: Chunks,
): States & { added: tf.Tensor } {
  const alike = tf.matMul(keys, keys, false, true);
  const overlap = tf.mul(spread(alike, tf.mul(between, weight), heads), pattern(CHUNK, tf.less));
  const solved = inverseOfUnitLower(overlap as tf.Tensor4D);
  const corrections = tf.matMul(solved, tf.mul(values, weight));
  const reading = tf.matMul(solved, spread(keys, tf.mul(weight, tf.exp(summed)), heads));
  const kept = tf.mul(left, pattern(keys.shape[3], tf.equal));
  const steps = tf.sub(kept, tf.matMul(toEnd, reading, true, false));
  const states = alongChunks(tf.matMul(toEnd, corrections, true, false), chunks, (state, i) => tf.matMul(tf.slice(steps, i, 1), state));
  return { ...states, added: tf.sub(corrections, tf.matMul(reading, states.before)) };
}

/** The states before and behind each chunk: what is left of the one before, and what is added; from zeros on where a segment begins. */
function alongChunks(added: tf.Tensor, { goesOn }: Chunks, leave: (state: tf.Tensor, chunk: number) => tf.Tensor): States {
  const at = (x: tf.Tensor, i: number): tf.Tensor => tf.slice(x, i, 1);
  const before: tf.Tensor[] = [];
  const behind: tf.Tensor[] = [];
  for (let i = 0; i < added.shape[0]; i++) {
    before.push(i === 0 ? tf.zerosLike(at(added, 0)) : tf.mul(behind[i - 1], at(goesOn, i)));
    behind.push(tf.add(leave(before[i], i), at(added, i)));
  }
  return { before: tf.concat(before, 0), behind: tf.concat(behind, 0) as tf.Tensor4D };
}

/** [chunks · CHUNK, heads·dim] as [chunks, heads, CHUNK, dim]. */
function byHead(x: tf.Tensor2D, heads: number): tf.Tensor4D {
  const [places, features] = x.shape;
  return tf.transpose(tf.reshape(x, [places / CHUNK, CHUNK, heads, features / heads]), [0, 2, 1, 3]);
}

/** The reverse of it. */
function byToken(x: tf.Tensor4D): tf.Tensor2D {
  const [chunks, heads, , dim] = x.shape;
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [chunks * CHUNK, heads * dim]);
}

/** [chunks, heads, 1, 1] of [chunks, heads, CHUNK, 1]. In the gradient tfjs would multiply by ones of that size, as data from JavaScript. */
function sumOfChunk(x: tf.Tensor): tf.Tensor {
  const sum = tf.customGrad((x) => ({
    value: tf.sum(x as tf.Tensor, 2, true),
    gradFunc: (dy: tf.Tensor) => tf.mul(dy, tf.fill([1, 1, CHUNK, 1], 1)),
  }));
  return sum(x);
}

/** e^(Γᵢ−Γⱼ) for tokens i and those j up to them, 0 for those after. @param inRows g, [chunks, heads, CHUNK] */
function decaysBetween(inRows: tf.Tensor3D): tf.Tensor {
  const [chunks, heads] = inRows.shape;
  const sums = tf.matMul(tf.reshape(inRows, [chunks * heads, CHUNK]), sumsBetween());
  return tf.mul(tf.exp(tf.reshape(sums, [chunks, heads, CHUNK, CHUNK])), pattern(CHUNK, tf.lessEqual));
}

/**
 * By which a chunk's numbers are multiplied for the sums of those behind token j up to token i, [CHUNK, CHUNK · CHUNK]; zero where j is not before i.
 * As differences of sums from the beginning they would lose the digits that those are larger by.
 */
function sumsBetween(): tf.Tensor2D {
  const upToRow = tf.expandDims(pattern(CHUNK, tf.greaterEqual), 2);
  const behindColumn = tf.expandDims(pattern(CHUNK, tf.less), 1);
  return tf.reshape(tf.mul(upToRow, behindColumn), [CHUNK, CHUNK * CHUNK]);
}

/** What heads of keys have, for each of the heads of values that share it, times a factor of that head: [chunks, valueHeads, …]. */
function spread(x: tf.Tensor, factors: tf.Tensor, { keyHeads, valueHeads }: RecurrenceHeads): tf.Tensor4D {
  const [chunks, , rows, columns] = x.shape;
  if (keyHeads === valueHeads) return tf.mul(x, factors) as tf.Tensor4D;
  const perGroup = tf.reshape(factors, [chunks, keyHeads, valueHeads / keyHeads, ...factors.shape.slice(2)]);
  return tf.reshape(tf.mul(tf.expandDims(x, 2), perGroup), [chunks, valueHeads, rows, columns]);
}

/** Ones where column and row are in a relation, [size, size]. */
function pattern(size: number, relation: (column: tf.Tensor, row: tf.Tensor) => tf.Tensor): tf.Tensor {
  const [column, row] = columnAndRow(size);
  return tf.cast(relation(column, row), 'float32');
}

/** The whole numbers below a size, made on the device: in a row, and in a column. */
function columnAndRow(size: number): [column: tf.Tensor, row: tf.Tensor] {
  const numbers = tf.sub(tf.cumsum(tf.fill([size], 1)), 1);
  return [tf.expandDims(numbers, 0), tf.expandDims(numbers, 1)];
}

/** (I + A)⁻¹ of matrices with nothing on and above the diagonal: [chunks, heads, CHUNK, CHUNK]. */
function inverseOfUnitLower(a: tf.Tensor4D): tf.Tensor4D {
  const inverse = tf.customGrad((given, save) => {
    const x = inverted(given as tf.Tensor4D);
    (save as tf.GradSaveFunc)([x]);
    // from d(X⁻¹) = −X⁻¹·dX·X⁻¹
    const gradFunc = (dy: tf.Tensor4D, [x]: tf.Tensor[]): tf.Tensor => tf.neg(tf.matMul(tf.matMul(x, dy, true, false), x, false, true));
    return { value: x, gradFunc };
  });
  return inverse(a) as tf.Tensor4D;
}

/**
 * By halves: if D has the inverses of the blocks on the diagonal, and E is what lies below them inside of blocks of twice the size, those have the
 * inverses D − D·E·D. Errors do not grow as in the series I − A + A² − …, whose terms may be large and cancel each other.
 */
function inverted(a: tf.Tensor4D): tf.Tensor4D {
  let found: tf.Tensor = tf.sub(pattern(CHUNK, tf.equal), tf.mul(a, belowBlocks(1)));
  for (let size = 2; size < CHUNK; size *= 2) found = tf.sub(found, tf.matMul(tf.matMul(found, tf.mul(a, belowBlocks(size))), found));
  return found as tf.Tensor4D;
}

/** Ones where, of the two blocks of a size that make up one of twice that, the rows are of the second and the columns of the first. */
function belowBlocks(size: number): tf.Tensor {
  const inBlocks = (of: number) => (x: tf.Tensor) => tf.floor(tf.div(x, of));
  const [columns, rows] = columnAndRow(CHUNK);
  const [isBelow, isBeside] = [
    tf.less(inBlocks(size)(columns), inBlocks(size)(rows)),
    tf.equal(inBlocks(2 * size)(columns), inBlocks(2 * size)(rows)),
  ];
  return tf.cast(tf.logicalAnd(isBelow, isBeside), 'float32');
}
