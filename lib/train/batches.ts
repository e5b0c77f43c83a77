/** Which examples make which optimizer step, and how a step's examples are cut into rows for computing. */

import { UserError } from '../errors';
import { findFamilies, type PrefixFamily } from '../model';
import { createTorchRandom, randperm, restoreTorchRandom, type TorchRandom } from '../torch-random';
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

/**
 * The optimizer steps of an epoch, counted from 0. Depends on nothing but its arguments, so a resumed run finds its place by counting.
 * @param random the stream that all of TRL's program shares, where the epoch begins
 */
export function stepsOfEpoch(items: readonly Item[], config: OrderConfig, epoch: number, random: TorchRandom): StepBatch[] {
  const ordered = orderOfEpoch(items, config, epoch, random).map((index) => items[index]);
  const microBatches = chunks(ordered, config.perDeviceTrainBatchSize);
  if (config.dataloaderDropLast && microBatches[microBatches.length - 1].length < config.perDeviceTrainBatchSize) microBatches.pop();
  return chunks(microBatches, config.gradientAccumulationSteps);
}

/** Indices of the items in the order in which an epoch reads them: with the same seed the order of TRL, on one device. */
export function orderOfEpoch(items: readonly Item[], config: OrderConfig, epoch: number, random: TorchRandom): number[] {
  const { seed, dataSeed } = config;
  beginLoading(random);
  if (config.trainSamplingStrategy === 'sequential') return [...items.keys()];
  // accelerate's SeedableRandomSampler
  if (config.trainSamplingStrategy === 'random') return randperm(items.length, createTorchRandom((dataSeed ?? seed) + epoch));
  // transformers' LengthGroupedSampler draws from the stream that all share
  return groupByLength(
    randperm(items.length, random),
    items.map(countTokens),
    config.perDeviceTrainBatchSize * config.gradientAccumulationSteps,
  );
}

/** A DataLoader takes two words of the stream each time that it is gone through, for its workers. */
function beginLoading(random: TorchRandom): void {
  random.skip(2);
}

/** The state of the stream after an evaluation, which draws nothing else. */
export function afterEvaluation(state: string): string {
  const random = restoreTorchRandom(state);
  beginLoading(random);
  return random.state();
}

/** Indices of the items in the order in which an evaluation reads them: its batches, of whose losses it gives the mean, are TRL's. */
export function orderOfEvaluation(
  items: readonly Item[],
  config: Pick<SFTConfig, 'trainSamplingStrategy' | 'seed' | 'dataSeed' | 'perDeviceEvalBatchSize'>,
): number[] {
  if (config.trainSamplingStrategy !== 'group_by_length') return [...items.keys()];
  const permuted = randperm(items.length, createTorchRandom(config.dataSeed ?? config.seed));
  return groupByLength(permuted, items.map(countTokens), config.perDeviceEvalBatchSize);
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
  /** Which of the micro-batch's sequences it is. */
  index: number;
  /** Tokens of the micro-batch's longest sequence, where positions stretch for it (dynamic RoPE); the same for all parts of a row. */
  stretchedTo?: number;
}

/** The tokens whose next one is a target. */
export function* predictors({ sequence: { lossMask } }: RowPart): Iterable<number> {
  // nothing predicts the first token of an example
  for (let i = 1; i < lossMask.length; i++) if (lossMask[i] !== 0) yield i - 1;
}

export interface RowOptions {
  /** Tokens of the longest sequence that stretches nothing. */
  unstretched?: number;
  /** Whether what sequences of a row begin with in common is computed once. Default true. */
  sharesPrefixes?: boolean;
  /** Whether all of a micro-batch is in one row, even if it has more tokens than a row should have. Default false. */
  keepsWhole?: boolean;
}

/**
 * Cuts micro-batches into rows of at most `budget` tokens that are computed at once; a longer sequence is a row alone. What sequences
 * of a row share at their beginning counts once, and of a beginning longer than half of the budget only that half counts.
 * Rows are as few and as even as a simple rule makes them. Gradients do not depend on the cut, because the loss is
 * divided by the targets of the whole step. Where positions stretch with the longest sequence of a micro-batch, as in transformers,
 * only micro-batches that stretch alike are in a row together.
 */
export function cutIntoRows(
  microBatches: readonly MicroBatch[],
  budget: number,
  { unstretched = Number.POSITIVE_INFINITY, sharesPrefixes = true, keepsWhole = false }: RowOptions = {},
): RowPart[][] {
  const alike = new Map<number | undefined, RowPart[]>();
  for (const [microBatch, items] of microBatches.entries()) {
    const sequences = items.flat();
    const longest = sequences.reduce((most, { inputIds }) => Math.max(most, inputIds.length), 0);
    const stretchedTo = longest > unstretched ? longest : undefined;
    const parts = alike.get(stretchedTo) ?? [];
    for (const [index, sequence] of sequences.entries()) parts.push({ sequence, microBatch, index, stretchedTo });
    alike.set(stretchedTo, parts);
  }
  return [...alike.values()].flatMap((parts) => (keepsWhole ? wholeMicroBatches(parts, budget) : cutParts(parts, budget, sharesPrefixes)));
}

/** Rows of whole micro-batches. */
function wholeMicroBatches(parts: readonly RowPart[], budget: number): RowPart[][] {
  const byMicroBatch = new Map<number, RowPart[]>();
  for (const part of parts) byMicroBatch.set(part.microBatch, [...(byMicroBatch.get(part.microBatch) ?? []), part]);
  const tokensOf = (own: readonly RowPart[]): number => own.reduce((sum, { sequence }) => sum + sequence.inputIds.length, 0);
  return groupsWithin([...byMicroBatch.values()], tokensOf, budget).map((group) => group.flat());
}

/** Items that follow each other, as many as have no more tokens than `budget`, or one that has. */
export function groupsWithin<T>(items: readonly T[], tokensOf: (item: T) => number, budget: number): T[][] {
  const groups: T[][] = [];
  let room = 0;
  for (const item of items) {
    const tokens = tokensOf(item);
    if (groups.length === 0 || tokens > room) {
      groups.push([]);
      room = budget;
    }
    groups[groups.length - 1].push(item);
    room -= tokens;
  }
  return groups;
}

function cutParts(parts: readonly RowPart[], budget: number, sharesPrefixes: boolean): RowPart[][] {
  const sorted = [...parts].sort((a, b) => b.sequence.inputIds.length - a.sequence.inputIds.length);
  const longestFirst = sharesPrefixes ? withPrefixes(sorted) : sorted.map((part) => ({ part }));
  for (let count = fewestRows(longestFirst, budget); ; count += Math.ceil(count / 64)) {
    const rows = spread(longestFirst, count, budget);
    if (rows.every((row) => row.parts.length === 1 || !row.isTooLong)) return rows.map((row) => row.parts);
  }
}

/** A part with the family of those that begin alike, if there are others. */
interface PartWithPrefix {
  part: RowPart;
  family?: PrefixFamily;
}

function withPrefixes(parts: readonly RowPart[]): PartWithPrefix[] {
  const list: PartWithPrefix[] = parts.map((part) => ({ part }));
  for (const family of findFamilies(parts.map(({ sequence }) => sequence.inputIds))) {
    for (const member of family.members) list[member].family = family;
  }
  return list;
}

/** How many rows it takes at least. */
function fewestRows(parts: readonly PartWithPrefix[], budget: number): number {
  const share = ({ part, family: { tokens } = NO_FAMILY }: PartWithPrefix): number =>
    (part.sequence.inputIds.length - tokens) / (rowLimit(tokens, budget) - tokens);
  return Math.ceil(parts.reduce((sum, part) => sum + share(part), 0));
}

const NO_FAMILY: PrefixFamily = { members: [], tokens: 0 };

/** Tokens that a row may have in which several parts share a prefix of so many. */
function rowLimit(prefix: number, budget: number): number {
  return Math.max(budget, prefix + budget / 2);
}

/** A row that is being filled. */
class Row {
  readonly parts: RowPart[] = [];
  /** Tokens to compute, at most: those that share a family's prefix in this row may share more. */
  length = 0;
  private readonly families = new Set<PrefixFamily>();
  /** Tokens of the longest prefix that several parts share. */
  private longestPrefix = 0;

  constructor(private readonly budget: number) {}

  get isTooLong(): boolean {
    return this.length > rowLimit(this.longestPrefix, this.budget);
  }

  fits(part: PartWithPrefix): boolean {
    return this.length + this.added(part) <= rowLimit(Math.max(this.longestPrefix, this.sharedWith(part)), this.budget);
  }

  add(part: PartWithPrefix): void {
    this.longestPrefix = Math.max(this.longestPrefix, this.sharedWith(part));
    this.length += this.added(part);
    this.parts.push(part.part);
    if (part.family) this.families.add(part.family);
  }

  /** Tokens of the part that the row has already. */
  sharedWith({ family }: PartWithPrefix): number {
    return family && this.families.has(family) ? family.tokens : 0;
  }

  private added(part: PartWithPrefix): number {
    return part.part.sequence.inputIds.length - this.sharedWith(part);
  }
}

/** How much fuller a row may be than another, in tokens for each token that a sequence shares with it, to get the sequence nevertheless. */
const WORTH_OF_SHARING = 8;

/** Deals parts out to `count` rows, each to the row with the fewest tokens, unless another one with its prefix has room for it. */
function spread(parts: readonly PartWithPrefix[], count: number, budget: number): Row[] {
  const rows = Array.from({ length: Math.min(count, parts.length) }, () => new Row(budget));
  const holders = new Map<PrefixFamily, Set<Row>>();
  for (const part of parts) {
    const { family } = part;
    let row = shortest(rows) as Row;
    if (family) {
      const others = holders.get(family) ?? new Set();
      const sharing = shortest([...others].filter((other) => other.fits(part)));
      if (sharing && sharing.length < row.length + WORTH_OF_SHARING * family.tokens) row = sharing;
      holders.set(family, others.add(row));
    }
    row.add(part);
  }
  return rows;
}

/** The row with the fewest tokens, the first of several. */
function shortest(rows: readonly Row[]): Row | undefined {
  let best = rows[0];
  for (const row of rows) if (row.length < best.length) best = row;
  return best;
}

/** Slices of `size`, the last one possibly shorter. */
export function chunks<T>(list: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));
}
