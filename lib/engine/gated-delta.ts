/**
 * The gated delta rule (Yang et al. 2024, "Gated Delta Networks", arXiv:2412.06464): in the place of keys and values of all tokens before, a head
 * keeps one matrix, its state S, [keyDim, valueDim]. A token decays it, corrects the value that it has under the token's key, and reads it:
 *
 *   S ← eᵍ·S,   S ← S + k·(β·(v − Sᵀk))ᵀ,   o = Sᵀq.
 *
 * Here a whole chunk of tokens is taken at once (sections 3.2 and 3.3 there; transformers' `torch_chunk_gated_delta_rule`). With Γ the sum of g
 * from the chunk's beginning, and A = β·(k·kᵀ)∘e^(Γᵢ−Γⱼ) below the diagonal, the corrections of a chunk's tokens are U − W·S, where
 * U = (I+A)⁻¹·βv, W = (I+A)⁻¹·βe^Γ·k, and S is the state before the chunk. The state behind it is
 *
 *   (e^Γₙ·I − Kᵀ·W)·S + Kᵀ·U,   K = e^(Γₙ−Γ)·k:
 *
 * a linear recurrence from chunk to chunk. On ONNX Runtime's CPU a kernel goes from chunk to chunk with all of it (ort/kernels/gated-delta.ts);
 * elsewhere everything but the recurrence is computed for all chunks side by side (`composed`).
 */
import * as tf from '@tensorflow/tfjs-core';
import { CHUNK, type Chunks, fromChunks, toChunks } from './chunks';
import { ortBackend } from './device';
import type { Segments } from './segments';

/** What the tokens bring, a row each. */
export interface DeltaOperands {
  /** [tokens, keyHeads·keyDim], scaled as they are to be read. */
  q: tf.Tensor2D;
  /** [tokens, keyHeads·keyDim], each head's of length 1. */
  k: tf.Tensor2D;
  /** [tokens, valueHeads·valueDim] */
  v: tf.Tensor2D;
  /** The logarithm of what is left of the state, at most 0: [tokens, valueHeads]. */
  g: tf.Tensor2D;
  /** How much of the correction is made, from 0 to 1: [tokens, valueHeads]. */
  beta: tf.Tensor2D;
}

export interface DeltaHeads {
  /** Heads of queries and keys. */
  keyHeads: number;
  /** Heads of values, and states; a multiple of `keyHeads`, of which as many in a row share one. */
  valueHeads: number;
}

/**
 * The rule along the segments of a row, each from a state of zeros on. Differentiable.
 * @returns [tokens, valueHeads·valueDim]
 */
export function gatedDelta(operands: DeltaOperands, segments: Segments, heads: DeltaHeads): tf.Tensor2D {
  return passed(operands, segments.chunks(), heads).output;
}

/**
 * The same, and the states behind the segments' ends, from which `gatedDeltaStep` goes on. Not differentiable.
 * @returns `states`: [segments, valueHeads, keyDim, valueDim]
 */
export function gatedDeltaStates(
  operands: DeltaOperands,
  segments: Segments,
  heads: DeltaHeads,
): { output: tf.Tensor2D; states: tf.Tensor4D } {
  const chunks = segments.chunks();
  const { output, states } = passed(operands, chunks, heads, { states: true });
  return { output, states: tf.gather(states, chunks.last) };
}

/** What has been read, and with `states` the state behind each chunk. */
interface Passed {
  output: tf.Tensor2D;
  states: tf.Tensor4D;
}

function passed(operands: DeltaOperands, chunks: Chunks, heads: DeltaHeads, options: { states?: boolean } = {}): Passed {
  const inChunks = mapOperands(operands, (x) => toChunks(x, chunks));
  const way = ortBackend()?.worksOnHost ? fused : composed;
  const { output, states } = way(inChunks, chunks, { ...heads, ...options });
  return { output: fromChunks(output, chunks), states };
}

function mapOperands({ q, k, v, g, beta }: DeltaOperands, change: (x: tf.Tensor2D) => tf.Tensor2D): DeltaOperands {
  return { q: change(q), k: change(k), v: change(v), g: change(g), beta: change(beta) };
}

/** The kernel of the ONNX Runtime backend; operands chunk after chunk. */
function fused(operands: DeltaOperands, { goesOn, goesBack }: Chunks, heads: DeltaHeads & { states?: boolean }): Passed {
  const { keyHeads, valueHeads, states = false } = heads;
  const inputs = { ...operands, goesOn, goesBack };
  const outputs = tf.engine().runKernel('GatedDelta', inputs, { keyHeads, valueHeads, states }) as unknown as [
    tf.Tensor2D,
    tf.Tensor4D,
    tf.Tensor,
  ];
  outputs[2].dispose();
  return { output: outputs[0], states: outputs[1] };
}

/**
 * The next token of each sequence. Not for gradients.
 * @param operands as of `gatedDelta`, a token of each sequence
 * @param state [sequences, valueHeads, keyDim, valueDim]
 */
export function gatedDeltaStep(
  { q, k, v, g, beta }: DeltaOperands,
  state: tf.Tensor4D,
  heads: DeltaHeads,
): { output: tf.Tensor2D; state: tf.Tensor4D } {
  const { valueHeads } = heads;
  const [sequences, , keyDim, valueDim] = state.shape;
  const perHead = (x: tf.Tensor2D): tf.Tensor4D => tf.reshape(x, [sequences, valueHeads, 1, 1]);
  const inRow = (x: tf.Tensor2D): tf.Tensor4D => tf.reshape(forEachValue(x, heads), [sequences, valueHeads, 1, keyDim]);
  const key = inRow(k);
  const decayed = tf.mul(state, tf.exp(perHead(g)));
  const values = tf.reshape(v, [sequences, valueHeads, 1, valueDim]);
  const correction = tf.mul(tf.sub(values, tf.matMul(key, decayed)), perHead(beta));
  const next = tf.add(decayed, tf.matMul(key, correction, true, false)) as tf.Tensor4D;
  return { output: tf.reshape(tf.matMul(inRow(q), next), [sequences, valueHeads * valueDim]), state: next };
}

/** Queries or keys, a head for each of the heads of values that share it: [rows, valueHeads·keyDim]. @param x [rows, keyHeads·keyDim] */
export function forEachValue(x: tf.Tensor2D, { keyHeads, valueHeads }: DeltaHeads): tf.Tensor2D {
  if (keyHeads === valueHeads) return x;
  const [rows, features] = x.shape;
  const group = valueHeads / keyHeads;
  const heads = tf.reshape(x, [rows, keyHeads, 1, features / keyHeads]);
  return tf.reshape(tf.mul(heads, tf.fill([1, 1, group, 1], 1)), [rows, group * features]);
}

/** The kernel, of plain tfjs operations: all but the recurrence for all chunks side by side. */
function composed({ q, k, v, g, beta }: DeltaOperands, chunks: Chunks, heads: DeltaHeads): Passed {
  const { keyHeads, valueHeads } = heads;
  const [queries, keys] = [q, k].map((x) => byHead(x, keyHeads));
  const [values, decay, weight] = [v, g, beta].map((x) => byHead(x, valueHeads));
  // along the last axis: tfjs's gradient knows no other
  const summed = tf.expandDims(tf.cumsum(tf.squeeze(decay, [3]), 2), 3);
  const total = sumOfChunk(decay);
  const fromStart = tf.exp(summed);

  const between = decaysBetween(summed);
  const scores = (x: tf.Tensor4D): tf.Tensor => tf.matMul(x, keys, false, true);
  const overlap = tf.mul(spread(scores(keys), tf.mul(between, weight), heads), pattern(CHUNK, tf.less));
  const solved = inverseOfUnitLower(overlap as tf.Tensor4D);
  const corrections = tf.matMul(solved, tf.mul(values, weight));
  const reading = tf.matMul(solved, spread(keys, tf.mul(weight, fromStart), heads));

  const toEnd = spread(keys, tf.exp(tf.sub(total, summed)), heads);
  const kept = tf.mul(tf.exp(total), pattern(keys.shape[3], tf.equal));
  const steps = tf.sub(kept, tf.matMul(toEnd, reading, true, false));
  const { before, behind } = recurrence(steps, tf.matMul(toEnd, corrections, true, false), chunks);

  const made = tf.sub(corrections, tf.matMul(reading, before));
  const fromBefore = tf.matMul(spread(queries, fromStart, heads), before);
  const fromChunk = tf.matMul(spread(scores(queries), between, heads), made);
  return { output: byToken(tf.add(fromBefore, fromChunk) as tf.Tensor4D), states: behind };
}

/** The states before and behind each chunk: step · state + added, from zeros on where a segment begins. */
function recurrence(steps: tf.Tensor, added: tf.Tensor, { goesOn }: Chunks): { before: tf.Tensor; behind: tf.Tensor4D } {
  const at = (x: tf.Tensor, i: number): tf.Tensor => tf.slice(x, i, 1);
  const before: tf.Tensor[] = [];
  const behind: tf.Tensor[] = [];
  for (let i = 0; i < steps.shape[0]; i++) {
    before.push(i === 0 ? tf.zerosLike(at(added, 0)) : tf.mul(behind[i - 1], at(goesOn, i)));
    behind.push(tf.add(tf.matMul(at(steps, i), before[i]), at(added, i)));
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

/** e^(Γᵢ−Γⱼ) for tokens i and those j up to them, 0 for those after. @param summed Γ, [chunks, heads, CHUNK, 1] */
function decaysBetween(summed: tf.Tensor): tf.Tensor {
  const seen = pattern(CHUNK, tf.lessEqual);
  // masked before, too: what comes after would grow beyond all numbers
  const differences = tf.mul(tf.sub(summed, tf.transpose(summed, [0, 1, 3, 2])), seen);
  return tf.mul(tf.exp(differences), seen);
}

/** What heads of keys have, for each of the heads of values that share it, times a factor of that head: [chunks, valueHeads, …]. */
function spread(x: tf.Tensor, factors: tf.Tensor, { keyHeads, valueHeads }: DeltaHeads): tf.Tensor4D {
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
