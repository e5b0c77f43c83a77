/** An optimizer step as rows that are computed one after the other, each with what was drawn for it. */
import type { Interruption } from '../interruption';
import { type CausalLM, type Draw, unstretchedLength } from '../model';
import { cutIntoRows, groupsWithin, type RowPart, type StepBatch } from './batches';
import { chanceOf, placementOf, type RowChance } from './chance';
import type { SFTConfig } from './config';
import { drawRows } from './drawing';
import { countTokens } from './examples';
import { hasTargets, sizeOfRow } from './loss';
import { type RouterLossSettings, weightOfRouterLoss } from './router-loss';

export interface StepRow {
  parts: readonly RowPart[];
  /** Where something is left to chance. */
  chance?: RowChance;
  /** How much of the step lies before it, from 0 to 1. */
  done: number;
}

export interface StepOptions {
  model: CausalLM;
  /** What every pass of the model draws. */
  draws: readonly Draw[];
  config: Pick<SFTConfig, 'tokensPerMicroBatch' | 'neftuneNoiseAlpha' | 'packing' | 'paddingFree' | 'padToMultipleOf'> & RouterLossSettings;
  /** State of the stream that all of TRL's program shares, as it stands; it goes on with the rows. */
  stream: { random: string };
  /** May end the step before each row, and while numbers are drawn. */
  interruption: Interruption;
}

/**
 * The rows of a step; those without a target, which nothing is learned from, are left out.
 * @throws Interrupted when the step is stopped
 */
export async function* rowsOfStep(batch: StepBatch, { model, draws, config, stream, interruption }: StepOptions): AsyncGenerator<StepRow> {
  const { tokensPerMicroBatch: budget, neftuneNoiseAlpha: alpha } = config;
  const noise = alpha ? { alpha, features: model.embeddings[0].weight.shape[1] } : undefined;
  const isLeftToChance = noise !== undefined || draws.some((draw) => 'share' in draw);
  // What micro-batches draw, they draw one after the other.
  const tokensOf = (index: number): number => batch[index].reduce((sum, item) => sum + countTokens(item), 0);
  const groups = isLeftToChance ? groupsWithin([...batch.keys()], tokensOf, budget) : [[...batch.keys()]];
  // A micro-batch's router loss is one of all its tokens.
  const keepsWhole = weightOfRouterLoss(model, config) !== undefined;
  // Sequences that drop different numbers have nothing in common.
  const options = { unstretched: unstretchedLength(model.config), sharesPrefixes: !isLeftToChance && !model.config.keepsState, keepsWhole };
  for (const group of groups) {
    // the others are empty, so that each keeps its index
    const microBatches = batch.map((items, index) => (group.includes(index) ? items : []));
    const rows = cutIntoRows(microBatches, budget, options).filter(hasTargets);
    const placements = group.map((index) => placementOf(batch[index], index, isLeftToChance ? rows : [], config));
    const sizes = isLeftToChance ? rows.map((parts) => sizeOfRow(parts, model)) : [];
    const job = { random: stream.random, placements, sizes, draws, noise };
    const { rows: drawn, random } = await drawRows(job, () => interruption.breathe());
    stream.random = random;
    for (const [row, parts] of rows.entries()) {
      await interruption.breathe();
      const chance = isLeftToChance ? chanceOf(drawn[row], draws) : undefined;
      // it goes with the row
      delete drawn[row];
      yield { parts, chance, done: (group[0] + (group.length * row) / rows.length) / batch.length };
    }
  }
}
