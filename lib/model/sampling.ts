/**
 * Choosing the next token from its logits, on the host. Order and meaning of the steps are those of transformers'
 * `logits_process.py`: repetition penalty, temperature, top-k, top-p, draw.
 */
import type { Random } from '../random';

export interface SamplingOptions {
  /** 0: the likeliest token. */
  temperature: number;
  topK?: number;
  topP?: number;
  repetitionPenalty: number;
}

/**
 * The next token.
 * @param logits one row; overwritten by the repetition penalty
 * @param seen ids so far, prompt and answer; only the repetition penalty looks at them
 */
export function chooseToken(logits: Float32Array, seen: Iterable<number>, options: SamplingOptions, random: Random): number {
  if (options.repetitionPenalty !== 1) penalize(logits, seen, options.repetitionPenalty);
  if (options.temperature === 0) return argMax(logits);
  return draw(candidateWeights(logits, options), random);
}

/** Position of the largest value; the first of equals. */
function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Divides the positive logits of tokens that occurred, multiplies the negative ones (Keskar et al. 2019). */
function penalize(logits: Float32Array, seen: Iterable<number>, penalty: number): void {
  for (const id of seen) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

/** Probability of each token, up to a common factor: softmax(logits / temperature), 0 where top-k or top-p excludes it. */
function candidateWeights(logits: Float32Array, options: SamplingOptions): Float64Array {
  const lowest = lowestCandidate(logits, options);
  const highest = logits[argMax(logits)];
  const weights = new Float64Array(logits.length);
  for (let id = 0; id < logits.length; id++) {
    if (logits[id] >= lowest) weights[id] = Math.exp((logits[id] - highest) / options.temperature);
  }
  return weights;
}

/** The smallest logit that may be drawn; tokens with equal logits stay or go together. */
function lowestCandidate(logits: Float32Array, { temperature, topK = logits.length, topP = 1 }: SamplingOptions): number {
  if (topK >= logits.length && topP === 1) return -Infinity;
  const sorted = logits.slice().sort().reverse();
  let kept = Math.min(topK, sorted.length);
  while (kept < sorted.length && sorted[kept] === sorted[kept - 1]) kept++;
  if (topP === 1) return sorted[kept - 1];
  const weights = Float64Array.from(sorted.subarray(0, kept), (logit) => Math.exp((logit - sorted[0]) / temperature));
  const enough = topP * weights.reduce((sum, weight) => sum + weight, 0);
  // the fewest of the likeliest tokens whose probabilities reach topP
  let sum = weights[0];
  let last = 0;
  while (sum < enough && last + 1 < kept) sum += weights[++last];
  return sorted[last];
}

function draw(weights: Float64Array, random: Random): number {
  let point = random.next() * weights.reduce((sum, weight) => sum + weight, 0);
  let last = 0;
  for (let id = 0; id < weights.length; id++) {
    if (weights[id] === 0) continue;
    point -= weights[id];
    last = id;
    if (point < 0) break;
  }
  return last;
}
