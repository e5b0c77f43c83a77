/**
 * LoRA of parameters that are no layers: of each expert's matrix, W + scaling · B A, and of the one that experts are chosen by (PEFT's
 * target_parameters).
 */
import * as tf from '@tensorflow/tfjs-core';
import type { Factors } from '../engine';
import { UserError } from '../errors';
import { type MatrixStack, Parameter } from './layers';
import type { LoraSettings } from './lora';
import { moduleOf, PEFT_PREFIX } from './names';
import { rankOf } from './rank-patterns';

/** The matrices that are trained beside a parameter, in PEFT's layout. */
export class StackUpdate {
  /** [experts · r, in]: expert by expert. */
  readonly a: Parameter<tf.Rank.R2>;
  /** [out, r · experts]: of each of the r columns those of all experts. */
  readonly b: Parameter<tf.Rank.R2>;
  private readonly sizes: { count: number; out: number; features: number };

  /** @param module what PEFT's file has them in */
  constructor(
    readonly stack: MatrixStack,
    module: string,
    private readonly r: number,
  ) {
    const shape: number[] = stack.weight.shape;
    const [out, features] = stack.transposed ? shape.slice(-2).reverse() : shape.slice(-2);
    const count = shape.length === 3 ? shape[0] : 1;
    this.sizes = { count, out, features };
    this.a = new Parameter<tf.Rank.R2>(`${PEFT_PREFIX}${module}.lora_A.weight`, [count * r, features], 'zeros');
    this.b = new Parameter<tf.Rank.R2>(`${PEFT_PREFIX}${module}.lora_B.weight`, [out, r * count], 'zeros');
  }

  /** The model computes with it from now on. */
  attach(scaling: tf.Scalar): void {
    this.stack.adapter = () => this.factors(scaling);
  }

  private factors(scaling: tf.Scalar): Factors {
    const { count, out, features } = this.sizes;
    const byColumn = tf.reshape<tf.Rank.R3>(tf.mul(this.b.tensor, scaling), [out, this.r, count]);
    return { a: tf.reshape<tf.Rank.R3>(this.a.tensor, [count, this.r, features]), b: tf.transpose(byColumn, [2, 0, 1]) };
  }

  /** Adds it to the weights, W ← W + scaling · B A. */
  merge(scaling: tf.Scalar): void {
    const { transposed, weight } = this.stack;
    const { value } = weight;
    tf.tidy(() => {
      const { a, b } = this.factors(scaling);
      const product = transposed ? tf.matMul(a, b, true, true) : tf.matMul(b, a);
      value.assign(tf.add(value, tf.reshape(product, value.shape)));
    });
  }
}

/**
 * Updates of parameters, still without values, named as in PEFT's files: the last one of a module's parameters has the module's name, and those
 * before it are in what it wraps.
 */
export function declareUpdates(stacks: readonly MatrixStack[], settings: LoraSettings): StackUpdate[] {
  const first = stacks.at(0);
  if (first) refuseUnfit(first, settings);
  return stacks.map((stack, index) => {
    const module = moduleOf(stack.name);
    const around = stacks.slice(index + 1).filter(({ name }) => moduleOf(name) === module);
    return new StackUpdate(stack, `${module}${'.base_layer'.repeat(around.length)}`, rankOf(stack.name, settings));
  });
}

/** @throws UserError when the settings ask for what PEFT refuses of parameters */
function refuseUnfit({ name }: MatrixStack, { loraDropout, useDora }: LoraSettings): void {
  const beside = 'or adapt linear layers alone (target_modules)';
  if (loraDropout > 0)
    throw new UserError(
      `loraDropout (lora_dropout) of the adapter is ${loraDropout}, but beside parameters such as ${name} nothing is dropped, as in PEFT: set it to 0, ${beside}.`,
    );
  if (useDora)
    throw new UserError(
      `useDora (use_dora) of the adapter is true, but parameters such as ${name} have no DoRA, as in PEFT: switch it off, ${beside}.`,
    );
}
