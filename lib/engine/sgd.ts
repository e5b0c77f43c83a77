/** SGD on arrays in main memory, in one pass over weights, gradients and, with momentum, the buffers of it. */
import { SGD_WASM } from './sgd-wasm';
import { openWorkshop, visit, type Workshop } from './workshop';

/** Settings of one SGD update. */
export interface SgdSettings {
  learningRate: number;
  /** Share of the buffer that stays; 0: there is no buffer. */
  momentum: number;
  /** Share of the gradient that does not go into the buffer. */
  dampening: number;
  /** Whether the update looks ahead by the gradient itself. */
  nesterov: boolean;
  /** Share of the weights that is added to their gradient. */
  weightDecay: number;
  /** Whether the buffer begins with this update, which then is all of it. */
  isFirst: boolean;
  /** Factor on the gradient before anything else: the clipping of the global norm. */
  gradientScale: number;
}

/** What the buffer keeps of itself and takes of the gradient, and what the update takes of both. */
export function momentumFactors({ momentum, dampening, nesterov, isFirst }: SgdSettings): [number, number, number, number] {
  return [momentum, isFirst ? 1 : 1 - dampening, nesterov ? 1 : 0, nesterov ? momentum : 1];
}

interface Functions {
  plain(bytes: number, weights: number, gradients: number, scale: number, decay: number, rate: number): void;
  withMomentum(
    bytes: number,
    weights: number,
    gradients: number,
    buffers: number,
    scale: number,
    decay: number,
    rate: number,
    keep: number,
    fresh: number,
    ofGradient: number,
    ofBuffer: number,
  ): void;
}

let workshop: Workshop<Functions> | undefined;

/** See `sgd` in updates.ts. All arrays have one length, and all are changed: the gradients are zero afterwards. */
export function sgdInPlace(w: Float32Array, g: Float32Array, buffer: Float32Array | undefined, settings: SgdSettings): void {
  workshop ??= openWorkshop(SGD_WASM, 3);
  const { functions, places } = workshop;
  const { gradientScale, weightDecay, learningRate } = settings;
  const [weights, gradients, buffers] = places.map((place) => place.byteOffset);
  if (!buffer) {
    visit(places, [w, g], (bytes) => functions.plain(bytes, weights, gradients, gradientScale, weightDecay, learningRate));
    return;
  }
  const factors = momentumFactors(settings);
  visit(places, [w, g, buffer], (bytes) =>
    functions.withMomentum(bytes, weights, gradients, buffers, gradientScale, weightDecay, learningRate, ...factors),
  );
}
