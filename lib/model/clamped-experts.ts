/**
 * The experts of gpt-oss (OpenAI 2025): gated MLPs with biases, whose gate and what it multiplies are clamped. Checkpoints hold their matrices as
 * [in, out], with a column of the gate and one of what it multiplies in turn, and so does the model. Every expert reads all tokens, and what it
 * was not chosen for counts nothing.
 */
import * as tf from '@tensorflow/tfjs-core';
import { route } from '../engine';
import { type ExpertsConfig, logitsOfRouter } from './experts';
import type { MatrixStack, Parameter, ParameterList } from './layers';
import type { ForwardPass } from './types';

/** How far from 0 a gate may be above it, and what it multiplies on both sides; transformers knows no others. */
export const LIMIT = 7;
/** Of the gate's sigmoid: with it gate · sigmoid(gate · slope) is about a GELU. */
const SLOPE = 1.702;
/** No number of a gate is further below 0. */
const UNLIMITED = 1e30;

export class ClampedExperts {
  private readonly router: MatrixStack<tf.Rank.R2>;
  private readonly routerBias: Parameter<tf.Rank.R1>;
  private readonly gateUp: MatrixStack<tf.Rank.R3>;
  private readonly gateUpBias: Parameter<tf.Rank.R2>;
  private readonly down: MatrixStack<tf.Rank.R3>;
  private readonly downBias: Parameter<tf.Rank.R2>;

  constructor(
    private readonly config: ExpertsConfig & { hiddenSize: number },
    private readonly layer: number,
    parameters: ParameterList,
    name: string,
  ) {
    const { count, hiddenSize, intermediateSize } = config;
    const zeros = (of: string, size: number) => parameters.declare<tf.Rank.R2>(of, [count, size], 'zeros');
    const matrices = (of: string, from: number, to: number) =>
      parameters.stack(parameters.matrices(of, [count, from, to]), { transposed: true });
    this.router = parameters.stack(parameters.matrix(`${name}.router.weight`, count, hiddenSize));
    this.routerBias = parameters.declare<tf.Rank.R1>(`${name}.router.bias`, [count], 'normal');
    this.gateUp = matrices(`${name}.experts.gate_up_proj`, hiddenSize, 2 * intermediateSize);
    this.gateUpBias = zeros(`${name}.experts.gate_up_proj_bias`, 2 * intermediateSize);
    this.down = matrices(`${name}.experts.down_proj`, intermediateSize, hiddenSize);
    this.downBias = zeros(`${name}.experts.down_proj_bias`, hiddenSize);
  }

  /** Σ over experts of weight · (down(unit(gateUp x)) + bias). @param x [tokens, features] */
  apply(x: tf.Tensor2D, { routed }: ForwardPass): tf.Tensor2D {
    const { count } = this.config;
    const logits: tf.Tensor2D = tf.add(logitsOfRouter(x, this.router), this.routerBias.tensor);
    const { chosen, weights } = route(logits, this.config);
    routed?.(this.layer, logits, chosen);
    // [experts, tokens, …] from here on
    const read = tf.tile(tf.expandDims<tf.Tensor3D>(x, 0), [count, 1, 1]);
    const inner = unit(plus(product(read, this.gateUp), this.gateUpBias.tensor));
    const outputs = plus(product(inner, this.down), this.downBias.tensor);
    return tf.sum(tf.mul(outputs, tf.expandDims(tf.transpose(weights), 2)), 0);
  }
}

/** x·(W + (b·a)ᵀ), of each expert with its own. @param x [experts, tokens, in] */
function product(x: tf.Tensor3D, { tensor, adapter }: MatrixStack<tf.Rank.R3>): tf.Tensor3D {
  const y: tf.Tensor3D = tf.matMul(x, tensor);
  if (!adapter) return y;
  const { a, b } = adapter();
  return tf.add(y, tf.matMul(tf.matMul(x, a, false, true), b, false, true));
}

/** Of each expert its own bias. @param x [experts, tokens, features] @param bias [experts, features] */
const plus = (x: tf.Tensor3D, bias: tf.Tensor2D): tf.Tensor3D => tf.add(x, tf.expandDims(bias, 1));

/** (up + 1) · gate · sigmoid(1.702 · gate), both clamped. @param gateUp [experts, tokens, 2·features], in turn */
function unit(gateUp: tf.Tensor3D): tf.Tensor3D {
  const [experts, tokens, columns] = gateUp.shape;
  const shape: [number, number, number] = [experts, tokens, columns / 2];
  const halves = tf.split(tf.reshape(gateUp, [experts, tokens, columns / 2, 2]), 2, 3);
  const gate = tf.clipByValue(tf.reshape(halves[0], shape), -UNLIMITED, LIMIT);
  const up = tf.clipByValue(tf.reshape(halves[1], shape), -LIMIT, LIMIT);
  const activated = tf.mul(gate, tf.sigmoid(tf.mul(gate, tf.fill([1], SLOPE))));
  return tf.mul(tf.add(up, tf.fill([1], 1)), activated);
}
