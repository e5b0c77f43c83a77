/** AdamW on arrays in main memory, in one pass over weights, gradients and moments. */
import { ADAMW_WASM } from './adamw-wasm';
import { openWorkshop, visit, type Workshop } from './workshop';

/** Settings of one AdamW update. */
export interface AdamWSettings {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled weight decay; 0 for biases and norms. */
  weightDecay: number;
  /** Number of this update, from 1: corrects the bias of young moments. */
  step: number;
  /** Factor on the gradient before anything else: the clipping of the global norm. */
  gradientScale: number;
}

type Update = (
  bytes: number,
  weights: number,
  gradients: number,
  firsts: number,
  seconds: number,
  scale: number,
  beta1: number,
  fresh1: number,
  beta2: number,
  fresh2: number,
  keep: number,
  rate: number,
  correction: number,
  epsilon: number,
) => void;

let workshop: Workshop<{ update: Update }> | undefined;

/** See `adamW` in updates.ts. All arrays have one length, and all are changed: the gradients are zero afterwards. */
export function adamWInPlace(w: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, settings: AdamWSettings): void {
  workshop ??= openWorkshop(ADAMW_WASM, 4);
  const { functions, places } = workshop;
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  const keep = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  const [weights, gradients, firsts, seconds] = places.map((place) => place.byteOffset);
  visit(places, [w, g, m, v], (bytes) => {
    functions.update(
      ...([bytes, weights, gradients, firsts, seconds] as const),
      ...([gradientScale, beta1, 1 - beta1, beta2, 1 - beta2, keep, rate, correction, epsilon] as const),
    );
  });
}
