/** AdamW over the parameters of a model, with the numbers of torch.optim.AdamW; the arithmetic of one update is the engine's. */
import * as tf from '@tensorflow/tfjs-core';
import { type AdamWUpdate, adamW, ownedZeros } from '../engine';

/** Running means of a parameter's gradient (`m`, torch's exp_avg) and of its square (`v`, exp_avg_sq). */
export interface Moments {
  readonly m: tf.Variable;
  readonly v: tf.Variable;
}

export interface AdamWOptions {
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  weightDecay?: number;
}

/** The optimizer of a set of named parameters; its state is `step` and `moments`. */
export class AdamW {
  /** Updates made so far. */
  step = 0;
  readonly moments = new Map<string, Moments>();

  constructor(
    private readonly parameters: ReadonlyMap<string, tf.Variable>,
    private readonly options: AdamWOptions = {},
  ) {}

  /**
   * Makes one update.
   * @param gradients by parameter name; a parameter without one stays as it is. They are used up: zero afterwards
   * @param clip factor on all gradients, see `clipFactor`
   */
  update(gradients: Iterable<[string, tf.Variable]>, learningRate: number, clip: number): void {
    const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0 } = this.options;
    this.step++;
    const settings = { learningRate, beta1, beta2, epsilon, step: this.step, gradientScale: clip };
    const updates = [...gradients].map(([name, gradient]): AdamWUpdate => {
      const parameter = this.parameters.get(name);
      if (!parameter) throw new Error(`There is a gradient for ${name}, but no such parameter.`);
      const own = decays(name, parameter.shape) ? weightDecay : 0;
      return { parameter, moments: this.momentsOf(name, parameter), gradient, settings: { ...settings, weightDecay: own } };
    });
    adamW(updates);
  }

  /** The moments of a parameter, zero at first. */
  momentsOf(name: string, parameter: tf.Variable): Moments {
    let moments = this.moments.get(name);
    if (!moments) {
      moments = { m: ownedZeros(parameter.shape), v: ownedZeros(parameter.shape) };
      this.moments.set(name, moments);
    }
    return moments;
  }

  dispose(): void {
    for (const { m, v } of this.moments.values()) tf.dispose([m, v]);
    this.moments.clear();
  }
}

/** Shapes of what a run keeps for the parameters that it trains, as it comes to need them: the sums of gradients, then the moments. */
export function shapesOfState(parameters: ReadonlyMap<string, tf.Variable>): number[][] {
  const shapes = [...parameters.values()].filter(({ trainable }) => trainable).map(({ shape }) => shape);
  return [...shapes, ...shapes.flatMap((shape) => [shape, shape])];
}

/** Factor that scales gradients of this global norm down to `maxGradNorm`, as torch's clip_grad_norm_; 1 where they are small enough or `maxGradNorm` is 0. */
export function clipFactor(norm: number, maxGradNorm: number): number {
  return maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
}

const WITHOUT_DECAY = /bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)/;

/**
 * Whether weight decay applies to a parameter: to matrices and to an adapter's lengths of rows, not to biases and norms (transformers'
 * `get_decay_parameter_names`).
 */
export function decays(name: string, shape: readonly number[]): boolean {
  return (shape.length >= 2 || name.endsWith('.lora_magnitude_vector')) && !WITHOUT_DECAY.test(name.toLowerCase());
}
