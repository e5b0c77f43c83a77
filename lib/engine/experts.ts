/**
 * Mixtures of experts: many gated MLPs side by side, of which each token goes through the few that a router has chosen for it (Shazeer et al. 2017,
 * "Outrageously Large Neural Networks"; as in Mixtral, Jiang et al. 2024). On ONNX Runtime's CPU each expert reads its own tokens alone
 * (ort/kernels/experts.ts); elsewhere every expert reads all tokens, and what it was not chosen for counts nothing.
 */
import * as tf from '@tensorflow/tfjs-core';
import { bitsAs } from './bits';
import * as composed from './composed';
import { ortBackend } from './device';
import { EXPERT_PARTS, factorNames, kindOf } from './expert-parts';
import { fromHalf, type HalfMatrix } from './half-matrix';
import { linear, swiglu } from './ops';

/** Which experts a token goes through, and how much each counts. */
export interface Routing {
  /** float32 [tokens, experts]: 1 for those that were chosen, else 0; passes no gradient on. */
  chosen: tf.Tensor2D;
  /** [tokens, experts]: weights of those that were chosen, else 0; differentiable. */
  weights: tf.Tensor2D;
}

export interface RoutingOptions {
  /** How many experts each token goes through. */
  perToken: number;
  /** Whether the weights of a token's experts sum up to 1, or are its experts' shares of the softmax over all, or their sigmoids. */
  normalized: boolean;
  /** What weights are made of: the softmax over the experts' logits, or the sigmoid of each (DeepSeek-V3, 2024). Default softmax. */
  scores?: 'softmax' | 'sigmoid';
  /** What weights are multiplied by. Default 1. */
  scale?: number;
}

/** The weights of all experts: gate and up one below the other, and down. Those in 16 bits are one matrix, the rows of all experts one below the other. */
export interface ExpertWeights {
  /** [experts, 2·intermediate, features] */
  gateUp: tf.Tensor3D | HalfMatrix;
  /** [experts, features, intermediate] */
  down: tf.Tensor3D | HalfMatrix;
  /** What an adapter adds to them. */
  added?: { gateUp?: Factors; down?: Factors };
}

/** Of each expert two thin matrices, whose product b·a is added to a matrix [out, in]. */
export interface Factors {
  /** [experts, r, in] */
  a: tf.Tensor3D;
  /** [experts, out, r] */
  b: tf.Tensor3D;
}

/** Added to the logits of experts that were not chosen; what is left of them in a softmax is 0. */
const HIDDEN = -1e30;

/** Added to a sum of sigmoids that weights are divided by, as in transformers. */
const LEAST_SUM = 1e-6;

/**
 * Chooses each token's experts, those with the largest logits, of equal ones the first. Differentiable by way of the weights.
 * @param logits [tokens, experts]
 * @param bias [experts]: added to the scores for choosing alone, so that it balances the experts and changes no weight (Wang et al. 2024)
 */
export function route(logits: tf.Tensor2D, options: RoutingOptions, bias?: tf.Tensor1D): Routing {
  const { scores = 'softmax', scale = 1 } = options;
  const { chosen, weights } = scores === 'sigmoid' ? bySigmoid(logits, options, bias) : bySoftmax(logits, options);
  return { chosen, weights: scale === 1 ? weights : tf.mul(weights, tf.fill([1], scale)) };
}

function bySoftmax(logits: tf.Tensor2D, { perToken, normalized }: RoutingOptions): Routing {
  const chosen = withoutGradient(() => largest(logits, perToken));
  if (!normalized) return { chosen, weights: tf.mul(tf.softmax(logits), chosen) };
  const hidden = withoutGradient(() => tf.mul(tf.sub(1, chosen), HIDDEN) as tf.Tensor2D);
  return { chosen, weights: tf.softmax(tf.add<tf.Tensor2D>(logits, hidden)) };
}

function bySigmoid(logits: tf.Tensor2D, { perToken, normalized }: RoutingOptions, bias?: tf.Tensor1D): Routing {
  const all: tf.Tensor2D = tf.sigmoid(logits);
  const chosen = withoutGradient(() => largest(bias ? tf.add(all, bias) : all, perToken));
  const weights: tf.Tensor2D = tf.mul(all, chosen);
  if (!normalized) return { chosen, weights };
  return { chosen, weights: tf.div(weights, tf.add(tf.sum(weights, 1, true), tf.fill([1], LEAST_SUM))) };
}

/**
 * Σ weight · down(silu(gate x) · up x) over each token's experts. Differentiable with respect to x, the routing's weights, and those of the experts
 * with what is added to them.
 * @param x [tokens, features]
 * @returns [tokens, features]
 */
export function experts(x: tf.Tensor2D, { chosen, weights }: Routing, matrices: ExpertWeights, perToken: number): tf.Tensor2D {
  const { gateUp, down, added } = matrices;
  if (!ortBackend()?.worksOnHost) {
    const [, count] = weights.shape;
    return ofAllExperts(x, weights, { gateUp: inFloats(gateUp, count), down: inFloats(down, count), added });
  }
  const adapted = EXPERT_PARTS.filter((part) => added?.[part]);
  const factors = adapted.flatMap((part) => factorNames(part).map((name, i) => [name, added?.[part]?.[i === 0 ? 'a' : 'b']]));
  const inputs = { x, weights, chosen, gateUp: numbersOf(gateUp), down: numbersOf(down), ...Object.fromEntries(factors) };
  const attrs = {
    ...{ perToken, intermediate: down.shape[down.shape.length - 1] },
    ...(isHalf(gateUp) && { gateUpScale: gateUp.scale }),
    ...(isHalf(down) && { downScale: down.scale }),
  };
  const [y, ...forGradient] = tf.engine().runKernel(`Experts${kindOf(adapted)}`, inputs, attrs) as unknown as tf.Tensor2D[];
  tf.dispose(forGradient);
  return y;
}

/** [rows, columns]: 1 at the `count` largest values of each row, else 0. */
function largest(x: tf.Tensor2D, count: number): tf.Tensor2D {
  return ortBackend() ? (tf.engine().runKernel('Largest', { x }, { count }) as tf.Tensor2D) : composed.largest(x, count);
}

const isHalf = (weights: tf.Tensor3D | HalfMatrix): weights is HalfMatrix => 'words' in weights;

/** What a kernel reads: the numbers, or the bits of those in 16 bits. */
const numbersOf = (weights: tf.Tensor3D | HalfMatrix): tf.Tensor =>
  isHalf(weights) ? (bitsAs(weights.words, 'float16') as tf.Tensor) : weights;

function inFloats(weights: tf.Tensor3D | HalfMatrix, count: number): tf.Tensor3D {
  if (!isHalf(weights)) return weights;
  const [rows, columns] = weights.shape;
  return tf.reshape(fromHalf(weights), [count, rows / count, columns]);
}

/** Weights of experts in float32. */
interface WholeWeights extends ExpertWeights {
  gateUp: tf.Tensor3D;
  down: tf.Tensor3D;
}

/** Every expert reads all tokens. */
function ofAllExperts(x: tf.Tensor2D, weights: tf.Tensor2D, { gateUp, down, added = {} }: WholeWeights): tf.Tensor2D {
  const [, count] = weights.shape;
  // the gradient of tfjs's split knows no single part
  const columns = count === 1 ? [weights] : tf.split<tf.Tensor2D>(weights, count, 1);
  const outputs = columns.map((weight, expert) => {
    const [gate, up] = tf.split<tf.Tensor2D>(productAt(x, gateUp, added.gateUp, expert), 2, 1);
    return tf.mul(productAt(swiglu(gate, up), down, added.down, expert), weight);
  });
  return outputs.reduce((sum, output) => tf.add(sum, output)) as tf.Tensor2D;
}

/** x·(W + b·a)ᵀ with the matrices of one expert. */
function productAt(x: tf.Tensor2D, matrices: tf.Tensor3D, factors: Factors | undefined, expert: number): tf.Tensor2D {
  const y = linear(x, matrixAt(matrices, expert));
  return factors ? tf.add(y, linear(linear(x, matrixAt(factors.a, expert)), matrixAt(factors.b, expert))) : y;
}

function matrixAt(matrices: tf.Tensor3D, index: number): tf.Tensor2D {
  const [, rows, columns] = matrices.shape;
  return tf.reshape(tf.slice(matrices, [index, 0, 0], [1, rows, columns]), [rows, columns]);
}

/** What a function computes, as a constant: no gradient flows back to what it was computed from. */
function withoutGradient<T extends tf.Tensor>(compute: () => T): T {
  return tf.customGrad(() => ({ value: compute(), gradFunc: () => [] }))() as T;
}
