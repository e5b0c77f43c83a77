/** An optimizer step as rows that are computed one after the other, each with what was drawn for it. */
import type { Interruption } from '../interruption';
import { type CausalLM, type Draw, unstretchedLength } from '../model';
import type { TorchRandom } from '../torch-random';
import { cutIntoRows, type RowPart, type StepBatch } from './batches';
import { drawChances, layoutOf, type RowChance } from './chance';
import type { SFTConfig } from './config';
import { countTokens } from './examples';
import { hasTargets, sizeOfRow } from './loss';

export interface StepRow {
  parts: readonly RowPart[];
  /** Where something is left to chance. */
  chance?: RowChance;
  /** How much of the step lies before it, from 0 to 1. */
  done: number;
}

export interface StepOptions {
  model: CausalLM;
  /** Those of a pass of the model. */
  draws: readonly Draw[];
  config: Pick<SFTConfig, 'tokensPerMicroBatch' | 'neftuneNoiseAlpha' | 'packing' | 'paddingFree'>;
  /** The stream that all of TRL's program shares, where the step begins; it is left where the step ends. */
  random: TorchRandom;
  /** May end the step before each row, and while numbers are drawn. */
  interruption: Interruption;
}

/**
 * The rows of a step; those without a target, which nothing is learned from, are left out.
 * @throws Interrupted when the step is stopped
 */
export async function* rowsOfStep(batch: StepBatch, { model, draws, config, random, interruption }: StepOptions): AsyncGenerator<StepRow> {
  const { tokensPerMicroBatch: budget, neftuneNoiseAlpha: alpha } = config;
  const isLeftToChance = Boolean(alpha) || draws.some((draw) => 'share' in draw);
  const [{ weight }] = model.embeddings;
  const noise = alpha ? { alpha, features: weight.shape[1] } : undefined;
  // Sequences that drop different numbers have nothing in common. What micro-batches draw, they draw one after the other.
  const groups = isLeftToChance ? groupsWithin(batch, budget) : [[...batch.keys()]];
  for (const group of groups) {
    const cut = cutIntoRows(
      batch.map((items, index) => (group.includes(index) ? items : [])),
      budget,
      { unstretched: unstretchedLength(model.config), sharesPrefixes: !isLeftToChance },
    );
    const rows = cut.filter(hasTargets);
    const layouts = new Map(group.map((index) => [index, layoutOf(batch[index], config)]));
    const sized = isLeftToChance ? rows.map((parts) => ({ parts, size: sizeOfRow(parts, model) })) : [];
    const chances = await drawChances(layouts, sized, { draws, random, noise, breathe: () => interruption.breathe() });
    for (const [index, parts] of rows.entries()) {
      await interruption.breathe();
      yield { parts, chance: chances[index], done: (group[0] + (group.length * index) / rows.length) / batch.length };
    }
  }
}

/** Micro-batches that follow each other, as many as have no more tokens than `budget`, or one that has. */
function groupsWithin(batch: StepBatch, budget: number): number[][] {
  const groups: number[][] = [];
  let room = 0;
  for (const [index, items] of batch.entries()) {
    const tokens = items.reduce((sum, item) => sum + countTokens(item), 0);
    if (groups.length === 0 || tokens > room) {
      groups.push([]);
      room = budget;
    }
    groups[groups.length - 1].push(index);
    room -= tokens;
  }
  return groups;
}
