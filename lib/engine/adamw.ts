/**
 * AdamW on arrays in main memory, in one pass over weights, gradients and moments.
 *
 * WebAssembly computes four numbers at a time, but only in memory of its own. So the arrays visit it in pieces that fit the
 * processor's cache together: what takes the time is reading and writing main memory, which happens once.
 */
import { openWasm } from '../wasm';
import { ADAMW_WASM } from './adamw-wasm';

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

/** Elements of a piece; a multiple of four. */
const PIECE = 1 << 14;

/**
 * Where the first piece begins in WebAssembly's memory, in bytes: half a page behind the start of one. Large arrays begin right behind the
 * start of a page, and some processors (AMD's Zen 3) copy to a place that is a few bytes further in its page than the source is in
 * its own at a twelfth of the speed.
 */
const FIRST_PLACE = 2048;

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

interface Workshop {
  update: Update;
  /** Places in WebAssembly's memory for a piece of weights, gradients, first and second moments. */
  places: Float32Array[];
}

let workshop: Workshop | undefined;

function openWorkshop(): Workshop {
  const { functions, memory } = openWasm<{ update: Update }>(ADAMW_WASM, FIRST_PLACE + 4 * 4 * PIECE);
  const places = [0, 1, 2, 3].map((index) => new Float32Array(memory, FIRST_PLACE + 4 * PIECE * index, PIECE));
  return { update: functions.update, places };
}

/** See `adamW` in in-place.ts. All arrays have one length, and all are changed: the gradients are zero afterwards. */
export function adamWInPlace(w: Float32Array, g: Float32Array, m: Float32Array, v: Float32Array, settings: AdamWSettings): void {
  workshop ??= openWorkshop();
  const { update, places } = workshop;
  const { learningRate, beta1, beta2, epsilon, weightDecay, step, gradientScale } = settings;
  const keep = 1 - learningRate * weightDecay;
  const rate = learningRate / (1 - beta1 ** step);
  const correction = 1 / Math.sqrt(1 - beta2 ** step);
  const arrays = [w, g, m, v];
  const [weights, gradients, firsts, seconds] = places.map((place) => place.byteOffset);
  for (let start = 0; start < w.length; start += PIECE) {
    const count = Math.min(PIECE, w.length - start);
    const pieces = arrays.map((array) => array.subarray(start, start + count));
    for (const [index, piece] of pieces.entries()) places[index].set(piece);
    const bytes = 16 * Math.ceil(count / 4);
    update(bytes, weights, gradients, firsts, seconds, gradientScale, beta1, 1 - beta1, beta2, 1 - beta2, keep, rate, correction, epsilon);
    for (const index of [0, 2, 3]) pieces[index].set(places[index].subarray(0, count));
    // Here, while the cache has them: a pass of its own would read them again.
    pieces[1].fill(0);
  }
}
