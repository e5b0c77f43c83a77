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
 * @param logits one row; overwritten
 * @param seen ids so far, prompt and answer; only the repetition penalty looks at them
 */
export function chooseToken(logits: Float32Array, seen: ReadonlySet<number>, options: SamplingOptions, random: Random): number {
  const { temperature, topK, topP, repetitionPenalty } = options;
  if (repetitionPenalty !== 1) penalize(logits, seen, repetitionPenalty);
  if (temperature === 0) return argMax(logits);
  const candidates = sortedCandidates(logits, topK, topP);
  const probabilities = softmax(candidates, logits, temperature);
  return draw(candidates, probabilities, topP === undefined ? candidates.length : keptByTopP(probabilities, topP), random);
}

/** Position of the largest value; the first of equals. */
export function argMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/** Divides the positive logits of tokens that occurred, multiplies the negative ones (Keskar et al. 2019). */
function penalize(logits: Float32Array, seen: ReadonlySet<number>, penalty: number): void {
  for (const id of seen) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
}

/** Ids that may be drawn. Sorted, the likeliest first, where a limit needs it; top-k keeps all that equal the k-th. */
function sortedCandidates(logits: Float32Array, topK: number | undefined, topP: number | undefined): Uint32Array {
  const ids = Uint32Array.from(logits, (_, id) => id);
  if (topK === undefined && topP === undefined) return ids;
  ids.sort((a, b) => logits[b] - logits[a] || a - b);
  if (topK === undefined || topK >= ids.length) return ids;
  let kept = topK;
  while (kept < ids.length && logits[ids[kept]] === logits[ids[topK - 1]]) kept++;
  return ids.subarray(0, kept);
}

function softmax(ids: Uint32Array, logits: Float32Array, temperature: number): Float64Array {
  const highest = ids.reduce((high, id) => Math.max(high, logits[id]), -Infinity);
  const weights = Float64Array.from(ids, (id) => Math.exp((logits[id] - highest) / temperature));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/** How many of the likeliest tokens it takes to reach the probability `topP`; at least one. */
function keptByTopP(probabilities: Float64Array, topP: number): number {
  let sum = 0;
  for (let kept = 0; kept < probabilities.length; kept++) {
    if (kept > 0 && sum >= topP) return kept;
    sum += probabilities[kept];
  }
  return probabilities.length;
}

function draw(ids: Uint32Array, probabilities: Float64Array, kept: number, random: Random): number {
  let total = 0;
  for (let i = 0; i < kept; i++) total += probabilities[i];
  let point = random.next() * total;
  for (let i = 0; i < kept; i++) {
    point -= probabilities[i];
    if (point < 0) return ids[i];
  }
  return ids[kept - 1];
}
