/** Which examples make which optimizer step, and how a step's examples are cut into rows for computing. */

import { UserError } from '../errors';
import { createRandom, shuffled } from '../random';
import type { SFTConfig } from './config';
import { countTokens, type Item, type Sequence } from './examples';

/** The items of one nominal micro-batch: per_device_train_batch_size of them, or fewer at the end of an epoch. */
export type MicroBatch = readonly Item[];

/** The micro-batches of one optimizer step. */
export type StepBatch = readonly MicroBatch[];

/** How a run is divided, as in transformers' Trainer. */
export interface RunPlan {
  microBatchesPerEpoch: number;
  /** The last, incomplete group of micro-batches makes a step too. */
  stepsPerEpoch: number;
  maxSteps: number;
}

type PlanConfig = Pick<
  SFTConfig,
  'perDeviceTrainBatchSize' | 'gradientAccumulationSteps' | 'numTrainEpochs' | 'maxSteps' | 'dataloaderDropLast'
>;

/** @throws UserError when dataloader_drop_last leaves no micro-batch */
export function planRun(items: number, config: PlanConfig): RunPlan {
  const size = config.perDeviceTrainBatchSize;
  const microBatchesPerEpoch = config.dataloaderDropLast ? Math.floor(items / size) : Math.ceil(items / size);
  if (microBatchesPerEpoch === 0) {
    throw new UserError(
      `dataloader_drop_last leaves nothing of ${items} examples in batches of ${size}; choose a smaller per_device_train_batch_size.`,
    );
  }
  const stepsPerEpoch = Math.ceil(microBatchesPerEpoch / config.gradientAccumulationSteps);
  const maxSteps = config.maxSteps > 0 ? config.maxSteps : Math.ceil(config.numTrainEpochs * stepsPerEpoch);
  return { microBatchesPerEpoch, stepsPerEpoch, maxSteps };
}

type OrderConfig = PlanConfig & Pick<SFTConfig, 'trainSamplingStrategy' | 'seed' | 'dataSeed'>;

/** The optimizer steps of an epoch, counted from 0. Depends on nothing but its arguments, so a resumed run finds its place by counting. */
export function stepsOfEpoch(items: readonly Item[], config: OrderConfig, epoch: number): StepBatch[] {
  const ordered = orderOfEpoch(items, config, epoch).map((index) => items[index]);
  const microBatches = chunks(ordered, config.perDeviceTrainBatchSize);
  if (config.dataloaderDropLast && microBatches[microBatches.length - 1].length < config.perDeviceTrainBatchSize) microBatches.pop();
  return chunks(microBatches, config.gradientAccumulationSteps);
}

/** Indices of the items in the order in which an epoch reads them. */
export function orderOfEpoch(items: readonly Item[], config: OrderConfig, epoch: number): number[] {
  const inOrder = [...items.keys()];
  if (config.trainSamplingStrategy === 'sequential') return inOrder;
  // a seed of its own for each epoch: they differ in the upper half of a 53-bit number
  const permuted = shuffled(inOrder, createRandom((config.dataSeed ?? config.seed) + (epoch % 2 ** 20) * 2 ** 32));
  if (config.trainSamplingStrategy === 'random') return permuted;
  return groupByLength(permuted, items.map(countTokens), config.perDeviceTrainBatchSize * config.gradientAccumulationSteps);
}

/**
 * Brings items of like length together, as transformers' LengthGroupedSampler: a random order is cut into large groups,
 * each is sorted by falling length, and the longest item of all is put first, so that memory runs out at once or never.
 */
export function groupByLength(permuted: readonly number[], lengths: readonly number[], batchSize: number): number[] {
  const batchesInGroup = Math.max(1, Math.min(Math.floor(permuted.length / (batchSize * 4)), 50));
  const groups = chunks(permuted, batchesInGroup * batchSize).map((group) => [...group].sort((a, b) => lengths[b] - lengths[a]));
  let longest = 0;
  for (let i = 1; i < groups.length; i++) if (lengths[groups[i][0]] > lengths[groups[longest][0]]) longest = i;
  [groups[0][0], groups[longest][0]] = [groups[longest][0], groups[0][0]];
  return groups.flat();
}

/** A sequence in a row, and which micro-batch's metrics it counts towards. */
export interface RowPart {
  sequence: Sequence;
  microBatch: number;
}

/**
 * Cuts micro-batches into rows of at most `budget` tokens that are computed at once; a longer sequence is a row alone.
 * Rows are as few and as even as a simple rule makes them. Gradients do not depend on the cut, because the loss is
 * divided by the targets of the whole step.
 */
export function cutIntoRows(microBatches: readonly MicroBatch[], budget: number): RowPart[][] {
  const parts = microBatches.flatMap((items, microBatch) => items.flat().map((sequence) => ({ sequence, microBatch })));
  const longestFirst = parts.sort((a, b) => b.sequence.inputIds.length - a.sequence.inputIds.length);
  const tokens = parts.reduce((sum, { sequence }) => sum + sequence.inputIds.length, 0);
  for (let count = Math.ceil(tokens / budget); ; count++) {
    const rows = spread(longestFirst, count);
    if (rows.every((row) => row.length === 1 || row.reduce((sum, { sequence }) => sum + sequence.inputIds.length, 0) <= budget))
      return rows;
  }
}

/** Deals parts out to `count` rows, each to the row with the fewest tokens. */
function spread(parts: readonly RowPart[], count: number): RowPart[][] {
  const rows = Array.from({ length: Math.min(count, parts.length) }, () => ({ parts: [] as RowPart[], tokens: 0 }));
  for (const part of parts) {
    const shortest = rows.reduce((best, row) => (row.tokens < best.tokens ? row : best));
    shortest.parts.push(part);
    shortest.tokens += part.sequence.inputIds.length;
  }
  return rows.map((row) => row.parts);
}

/** Slices of `size`, the last one possibly shorter. */
export function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
}
