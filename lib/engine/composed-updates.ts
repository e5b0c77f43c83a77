/**
 * Updates of a parameter as plain tfjs operations, for devices whose memory JavaScript cannot reach; formulas are in updates.ts. The numbers of
 * the settings enter as one tensor, so that one compiled graph serves all steps and a device gets them in one piece.
 */
import * as tf from '@tensorflow/tfjs-core';
import { momentumFactors } from './sgd';
import type { AdafactorUpdate, AdamWUpdate, SgdUpdate } from './updates';

export function adamW({ parameter, gradient, moments, settings }: AdamWUpdate): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  const numbers = [
    ...[gradientScale, beta1, 1 - beta1, beta2, 1 - beta2, epsilon],
    ...[1 / Math.sqrt(1 - beta2 ** step), learningRate / (1 - beta1 ** step), 1 - learningRate * weightDecay],
  ];
  tf.tidy(() => {
    const [scale, keepM, freshM, keepV, freshV, eps, correction, rate, keep] = tf.unstack(tf.tensor1d(numbers));
    const g = tf.mul(gradient, scale);
    const m = tf.add(tf.mul(moments.m, keepM), tf.mul(g, freshM));
    const v = tf.add(tf.mul(moments.v, keepV), tf.mul(tf.square(g), freshV));
    const denominator = tf.add(tf.mul(tf.sqrt(v), correction), eps);
    parameter.assign(tf.sub(tf.mul(parameter, keep), tf.mul(tf.div(m, denominator), rate)));
    moments.m.assign(m);
    moments.v.assign(v);
  });
}

export function adafactor({ parameter, gradient, squares, settings }: AdafactorUpdate): void {
  const { learningRate, beta2, epsilon, clipThreshold, weightDecay, gradientScale } = settings;
  const numbers = [gradientScale, beta2, 1 - beta2, epsilon, clipThreshold, learningRate, 1 - learningRate * weightDecay];
  tf.tidy(() => {
    const [scale, kept, fresh, eps, threshold, rate, keep] = tf.unstack(tf.tensor1d(numbers));
    const g = tf.mul(gradient, scale);
    const squared = tf.add(tf.square(g), eps);
    const takeIn = (means: tf.Variable, found: tf.Tensor): tf.Tensor => {
      const sum = tf.add(tf.mul(means, kept), tf.mul(found, fresh));
      means.assign(sum);
      return sum;
    };
    let update: tf.Tensor;
    if ('rows' in squares) {
      const [rows, columns] = [takeIn(squares.rows, tf.mean(squared, -1)), takeIn(squares.columns, tf.mean(squared, squared.rank - 2))];
      const ofRows = tf.rsqrt(tf.div(rows, tf.mean(rows, -1, true)));
      const factors = tf.mul(tf.expandDims(ofRows, -1), tf.expandDims(tf.rsqrt(columns), rows.rank - 1));
      update = tf.mul(g, factors);
    } else update = tf.mul(g, tf.rsqrt(takeIn(squares.all, squared)));
    const size = tf.sqrt(tf.mean(tf.square(update)));
    const clipped = tf.div(update, tf.maximum(tf.div(size, threshold), 1));
    parameter.assign(tf.sub(tf.mul(parameter, keep), tf.mul(clipped, rate)));
  });
}

export function sgd({ parameter, gradient, buffer, settings }: SgdUpdate): void {
  const { gradientScale, weightDecay, learningRate } = settings;
  tf.tidy(() => {
    const [scale, decay, rate, kept, fresh, ofGradient, ofBuffer] = tf.unstack(
      tf.tensor1d([gradientScale, weightDecay, learningRate, ...momentumFactors(settings)]),
    );
    const g = tf.add(tf.mul(gradient, scale), tf.mul(parameter, decay));
    let update = g;
    if (buffer) {
      const b = tf.add(tf.mul(buffer, kept), tf.mul(g, fresh));
      update = tf.add(tf.mul(g, ofGradient), tf.mul(b, ofBuffer));
      buffer.assign(b);
    }
    parameter.assign(tf.sub(parameter, tf.mul(update, rate)));
  });
}
