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
    const inner = unit(plus(product(forEach(x, count), this.gateUp), this.gateUpBias.tensor));
    const outputs = plus(product(inner, this.down), this.downBias.tensor);
    const byToken = tf.matMul(tf.expandDims<tf.Tensor3D>(weights, 1), tf.transpose(outputs, [1, 0, 2]));
    return tf.reshape(byToken, x.shape);
  }
}

/** The same for each expert, [experts, tokens, features]. tfjs's gradient of `tile` brings zeros of that size to the device. */
function forEach(x: tf.Tensor2D, experts: number): tf.Tensor3D {
  const tiled = tf.customGrad((x) => ({
    value: tf.tile(tf.expandDims(x as tf.Tensor, 0), [experts, 1, 1]),
    gradFunc: (dy: tf.Tensor) => tf.sum(dy, 0),
  }));
  return tiled(x) as tf.Tensor3D;
}

/** x, but no further up or down than these. tfjs's gradient brings zeros of its size to the device. */
function clamped(x: tf.Tensor3D, low: number, high: number): tf.Tensor3D {
  const clamp = tf.customGrad((x) => ({
    value: tf.clipByValue(x as tf.Tensor, low, high),
    gradFunc: (dy: tf.Tensor) => {
      const isInside = tf.logicalAnd(tf.greaterEqual(x as tf.Tensor, tf.fill([1], low)), tf.lessEqual(x as tf.Tensor, tf.fill([1], high)));
      return tf.mul(dy, tf.cast(isInside, 'float32'));
    },
  }));
  return clamp(x) as tf.Tensor3D;
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
  const gate = clamped(tf.reshape(halves[0], shape), -UNLIMITED, LIMIT);
  const up = clamped(tf.reshape(halves[1], shape), -LIMIT, LIMIT);
  const activated = tf.mul(gate, tf.sigmoid(tf.mul(gate, tf.fill([1], SLOPE))));
  return tf.mul(tf.add(up, tf.fill([1], 1)), activated);
}
