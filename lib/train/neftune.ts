/** NEFTune: noise in the embeddings while training (Jain et al. 2023), with the numbers of transformers. */
import * as tf from '@tensorflow/tfjs-core';
import { ownedTensor } from '../engine';
import type { CausalLM, TokenBatch } from '../model';
import type { Random } from '../random';
import type { RowPart, StepBatch } from './batches';
import type { SFTConfig } from './config';
import { countTokens } from './examples';

/** How loud the noise of a step is. */
export interface Noise {
  alpha: number;
  /** Tokens that each micro-batch is long in TRL: the longer, the softer. */
  lengths: readonly number[];
}

type NoiseConfig = Pick<SFTConfig, 'neftuneNoiseAlpha' | 'packing' | 'paddingFree'>;

/** The noise of a step, if there is any. TRL pads a micro-batch to its longest example; packed, or padding-free, it is one row. */
export function noiseOf(batch: StepBatch, { neftuneNoiseAlpha: alpha, packing, paddingFree }: NoiseConfig): Noise | undefined {
  if (!alpha) return undefined;
  const inOneRow = packing || paddingFree;
  const length = (tokens: number[]) => (inOneRow ? tokens.reduce((sum, count) => sum + count, 0) : Math.max(...tokens));
  return { alpha, lengths: batch.map((items) => length(items.map(countTokens))) };
}

/** What a row's noise is drawn for, and from. */
export interface RowNoiseOptions {
  parts: readonly RowPart[];
  noise?: Noise;
  random: Random;
}

/**
 * Until the returned function is called, the row's embeddings are computed with noise: evenly drawn up to ±alpha/√(length · features). What
 * examples begin with in common and is computed once has one noise, as loud as for the first of them.
 */
export function startNoise(model: CausalLM, { ids, segments }: TokenBatch, { parts, noise, random }: RowNoiseOptions): () => void {
  if (!noise) return () => {};
  const [table] = model.embeddings;
  const features = table.weight.shape[1];
  // what fills up the row has none
  const values = new Float32Array(ids.size * features);
  for (const [index, { microBatch }] of parts.entries()) {
    const { start, length } = segments.list[index];
    const bound = noise.alpha / Math.sqrt(noise.lengths[microBatch] * features);
    for (let i = start * features; i < (start + length) * features; i++) values[i] = (2 * random.next() - 1) * bound;
  }
  const drawn = tf.keep(ownedTensor<tf.Rank.R2>(values, [ids.size, features]));
  table.noise = drawn;
  return () => {
    table.noise = undefined;
    drawn.dispose();
  };
}
