/**
 * Recurrences along the segments of a row: in the place of keys and values of all tokens before, a head keeps one matrix, its state S,
 * [keyDim, valueDim]. A token decays it, adds to it, and reads it. There are two kinds.
 *
 * The state space duality of Mamba 2 (Dao & Gu 2024, arXiv:2405.21060) adds each value under its key:
 *
 *   S ← eᵍ·S + k·vᵀ,   o = Sᵀq.
 *
 * The gated delta rule (Yang et al. 2024, "Gated Delta Networks", arXiv:2412.06464) corrects the value that the state has under the key:
 *
 *   S ← eᵍ·S,   S ← S + k·(β·(v − Sᵀk))ᵀ,   o = Sᵀq.
 *
 * Either is taken a whole chunk of tokens at once. On ONNX Runtime's CPU a kernel goes from chunk to chunk with all of it
 * (ort/kernels/state-space.ts and gated-delta.ts); elsewhere everything but what goes from chunk to chunk is computed for all of them side by side
 * (composed-recurrence.ts).
 */
import * as tf from '@tensorflow/tfjs-core';
import { type Chunks, fromChunks, toChunks } from './chunks';
import { composed } from './composed-recurrence';
import { ortBackend } from './device';
import type { Segments } from './segments';

/** What the tokens bring, a row each. */
export interface RecurrenceOperands {
  /** [tokens, keyHeads·keyDim], scaled as they are to be read. */
  q: tf.Tensor2D;
  /** [tokens, keyHeads·keyDim]; under the gated delta rule each head's of length 1. */
  k: tf.Tensor2D;
  /** [tokens, valueHeads·valueDim] */
  v: tf.Tensor2D;
  /** The logarithm of what is left of the state, at most 0: [tokens, valueHeads]. */
  g: tf.Tensor2D;
  /** How much of the correction is made, from 0 to 1: [tokens, valueHeads]. Absent where values are added as they are. */
  beta?: tf.Tensor2D;
}

export interface RecurrenceHeads {
  /** Heads of queries and keys. */
  keyHeads: number;
  /** Heads of values, and states; a multiple of `keyHeads`, of which as many in a row share one. */
  valueHeads: number;
}

/**
 * A recurrence along the segments of a row, each from a state of zeros on. Differentiable.
 * @returns [tokens, valueHeads·valueDim]
 */
export function recurrence(operands: RecurrenceOperands, segments: Segments, heads: RecurrenceHeads): tf.Tensor2D {
  return passed(operands, segments.chunks(), heads).output;
}

/**
 * The same, and the states behind the segments' ends, from which `recurrenceStep` goes on. Not differentiable.
 * @returns `states`: [segments, valueHeads, keyDim, valueDim]
 */
export function recurrenceStates(
  operands: RecurrenceOperands,
  segments: Segments,
  heads: RecurrenceHeads,
): { output: tf.Tensor2D; states: tf.Tensor4D } {
  const chunks = segments.chunks();
  const { output, states } = passed(operands, chunks, heads, { states: true });
  return { output, states: tf.gather(states, chunks.last) };
}

/** What has been read, and with `states` the state behind each chunk, [chunks, valueHeads, keyDim, valueDim]. */
interface Passed {
  output: tf.Tensor2D;
  states: tf.Tensor4D;
}

function passed(operands: RecurrenceOperands, chunks: Chunks, heads: RecurrenceHeads, options: { states?: boolean } = {}): Passed {
  const inChunks = mapOperands(operands, (x) => toChunks(x, chunks));
  const way = ortBackend()?.worksOnHost ? fused : composed;
  const { output, states } = way(inChunks, chunks, { ...heads, ...options });
  return { output: fromChunks(output, chunks), states };
}

function mapOperands({ beta, ...others }: RecurrenceOperands, change: (x: tf.Tensor2D) => tf.Tensor2D): RecurrenceOperands {
  const { q, k, v, g } = others;
  return { q: change(q), k: change(k), v: change(v), g: change(g), ...(beta && { beta: change(beta) }) };
}

/** The kernels of the ONNX Runtime backend; operands chunk after chunk. */
function fused(operands: RecurrenceOperands, { goesOn }: Chunks, heads: RecurrenceHeads & { states?: boolean }): Passed {
  const { keyHeads, valueHeads, states = false } = heads;
  const kernel = operands.beta ? 'GatedDelta' : 'StateSpace';
  const outputs = tf.engine().runKernel(kernel, { ...operands, goesOn }, { keyHeads, valueHeads, states }) as unknown as tf.Tensor[];
  const [output, perChunk, ...forGradient] = outputs;
  tf.dispose(forGradient);
  return { output: output as tf.Tensor2D, states: perChunk as tf.Tensor4D };
}

/**
 * The next token of each sequence. Not for gradients.
 * @param operands as of `recurrence`, a token of each sequence
 * @param state [sequences, valueHeads, keyDim, valueDim]
 */
export function recurrenceStep(
  { q, k, v, g, beta }: RecurrenceOperands,
  state: tf.Tensor4D,
  heads: RecurrenceHeads,
): { output: tf.Tensor2D; state: tf.Tensor4D } {
  const { valueHeads } = heads;
  const [sequences, , keyDim, valueDim] = state.shape;
  const perHead = (x: tf.Tensor2D): tf.Tensor4D => tf.reshape(x, [sequences, valueHeads, 1, 1]);
  const inRow = (x: tf.Tensor2D): tf.Tensor4D => tf.reshape(forEachValue(x, heads), [sequences, valueHeads, 1, keyDim]);
  const key = inRow(k);
  const decayed = tf.mul(state, tf.exp(perHead(g)));
  const values = tf.reshape(v, [sequences, valueHeads, 1, valueDim]);
  const added = beta ? tf.mul(tf.sub(values, tf.matMul(key, decayed)), perHead(beta)) : values;
  const next = tf.add(decayed, tf.matMul(key, added, true, false)) as tf.Tensor4D;
  return { output: tf.reshape(tf.matMul(inRow(q), next), [sequences, valueHeads * valueDim]), state: next };
}

/** Queries or keys, a head for each of the heads of values that share it: [rows, valueHeads·keyDim]. @param x [rows, keyHeads·keyDim] */
export function forEachValue(x: tf.Tensor2D, { keyHeads, valueHeads }: RecurrenceHeads): tf.Tensor2D {
  if (keyHeads === valueHeads) return x;
  const [rows, features] = x.shape;
  const group = valueHeads / keyHeads;
  const heads = tf.reshape(x, [rows, keyHeads, 1, features / keyHeads]);
  return tf.reshape(tf.mul(heads, tf.fill([1, 1, group, 1], 1)), [rows, group * features]);
}
