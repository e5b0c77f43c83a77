/** The optimizer of a run: which parameters are updated, by what, and what is kept for them; how is said by an update rule (update-rules.ts). */
import * as tf from '@tensorflow/tfjs-core';
import { ownedZeros } from '../engine';

/** What is kept for a parameter, under torch's names. */
export type State = Readonly<Record<string, tf.Variable>>;

/** One parameter's part in an update. */
export interface ParameterUpdate {
  parameter: tf.Variable;
  gradient: tf.Variable;
  state: State;
  /** Whether the state is made for this update, and zero. */
  isFirst: boolean;
  weightDecay: number;
}

/** What an update of all parameters has in common. */
export interface StepSettings {
  learningRate: number;
  /** Number of this update, from 1. */
  step: number;
  /** Factor on all gradients before anything else, see `clipFactor`. */
  gradientScale: number;
}

/** How parameters are updated from their gradients. */
export interface UpdateRule {
  /** Shapes of what is kept for a parameter of a shape, under torch's names. */
  stateOf(shape: number[]): Readonly<Record<string, number[]>>;
  /** Updates parameters and their states in place; the gradients are zero afterwards. */
  update(updates: readonly ParameterUpdate[], settings: StepSettings): void;
}

/** The optimizer of a set of named parameters; its state is `step` and `states`. */
export class Optimizer {
  /** Updates made so far. */
  step = 0;
  /** By parameter name. */
  readonly states = new Map<string, State>();

  constructor(
    readonly parameters: ReadonlyMap<string, tf.Variable>,
    readonly rule: UpdateRule,
    private readonly weightDecay = 0,
  ) {}

  /**
   * Makes one update.
   * @param gradients by parameter name; a parameter without one stays as it is. They are used up: zero afterwards
   * @param clip factor on all gradients, see `clipFactor`
   */
  update(gradients: Iterable<[string, tf.Variable]>, learningRate: number, clip: number): void {
    this.step++;
    const updates = [...gradients].map(([name, gradient]): ParameterUpdate => {
      const parameter = this.parameters.get(name);
      if (!parameter) throw new Error(`There is a gradient for ${name}, but no such parameter.`);
      const isFirst = !this.states.has(name);
      const weightDecay = decays(name, parameter.shape) ? this.weightDecay : 0;
      return { parameter, gradient, state: this.stateOf(name, parameter), isFirst, weightDecay };
    });
    this.rule.update(updates, { learningRate, step: this.step, gradientScale: clip });
  }

  /** The state of a parameter, zero at first. */
  stateOf(name: string, { shape }: tf.Variable): State {
    let state = this.states.get(name);
    if (!state) {
      state = Object.fromEntries(Object.entries(this.rule.stateOf(shape)).map(([key, own]) => [key, ownedZeros(own)]));
      this.states.set(name, state);
    }
    return state;
  }

  dispose(): void {
    for (const state of this.states.values()) tf.dispose(Object.values(state));
    this.states.clear();
  }
}

/** Shapes of what a run keeps for the parameters that it trains, as it comes to need them: the sums of gradients, then the state. */
export function shapesOfState({ parameters, rule }: Optimizer): number[][] {
  const shapes = [...parameters.values()].filter(({ trainable }) => trainable).map(({ shape }) => shape);
  return [...shapes, ...shapes.flatMap((shape) => Object.values(rule.stateOf(shape)))];
}

/** Factor that scales gradients of this global norm down to `maxGradNorm`, as torch's clip_grad_norm_; 1 where they are small enough or `maxGradNorm` is 0. */
export function clipFactor(norm: number, maxGradNorm: number): number {
  return maxGradNorm > 0 ? Math.min(1, maxGradNorm / (norm + 1e-6)) : 1;
}

const WITHOUT_DECAY = /bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)/;

/** Vectors that are neither biases nor weights of norms: an adapter's lengths of rows, what states decay by and let pass, and sinks of attention. */
const OTHER_VECTORS = /\.(?:lora_magnitude_vector|A_log|D|sinks)$/;

/** Whether weight decay applies to a parameter: to all but biases and norms (transformers' `get_decay_parameter_names`). */
export function decays(name: string, shape: readonly number[]): boolean {
  return (shape.length >= 2 || OTHER_VECTORS.test(name)) && !WITHOUT_DECAY.test(name.toLowerCase());
}
