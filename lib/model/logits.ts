/** From final hidden states to logits. */
import * as tf from '@tensorflow/tfjs-core';
import { linear, softCap } from '../engine';
import type { CausalLM } from './types';

/**
 * What the output head makes of final hidden states: their products with its matrix, its bias added where it has one, soft-capped where they are.
 * @param hidden [tokens, features]
 * @param product of states and matrix, where it is another than the plain one
 * @returns [tokens, vocabulary]
 */
export function logitsOf({ outputHead, outputBias, config }: CausalLM, hidden: tf.Tensor2D, product = linear): tf.Tensor2D {
  const products = product(hidden, outputHead);
  return softCap(outputBias ? tf.add(products, outputBias) : products, config.finalLogitSoftcapping);
}
