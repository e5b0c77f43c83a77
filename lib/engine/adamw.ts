/** AdamW on arrays in main memory: one pass over weights, gradient and moments. */
import type { AdamWSettings } from './ops';

/** See `adamW` in ops.ts. All arrays have one length; w, m and v are changed. */
export function adamWInPlace(w: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, settings: AdamWSettings): void {
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  const keep = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  const freshM = 1 - beta1;
  const freshV = 1 - beta2;
  for (let i = 0; i < w.length; i++) {
    const gradient = g[i] * gradientScale;
    const first = beta1 * m[i] + freshM * gradient;
    const second = beta2 * v[i] + freshV * gradient * gradient;
    m[i] = first;
    v[i] = second;
    w[i] = w[i] * keep - (rate * first) / (Math.sqrt(second) * correction + epsilon);
  }
}
