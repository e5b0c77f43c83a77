/** Optimizer steps as rows that are computed one after the other, each with what was drawn for it. */
import type { Interruption } from '../interruption';
import { type CausalLM, type Draw, drawsOf, unstretchedLength } from '../model';
import { cutIntoRows, type RowPart, type StepBatch } from './batches';
import { chanceOf, placementOf, type RowChance } from './chance';
import type { SFTConfig } from './config';
import { Drawer } from './drawer';
import type { DrawJob, Drawn } from './drawing';
import { countTokens } from './examples';
import { hasTargets, sizeOfRow } from './loss';

type RowsConfig = Pick<SFTConfig, 'tokensPerMicroBatch' | 'neftuneNoiseAlpha' | 'packing' | 'paddingFree'>;

export interface StepRow {
  parts: readonly RowPart[];
  /** Where something is left to chance. */
  chance?: RowChance;
  /** How much of the step lies before it, from 0 to 1. */
  done: number;
}

/** Rows that hold whole micro-batches, and what is to be drawn for them. */
interface Group {
  rows: ReadonlyArray<readonly RowPart[]>;
  job: Omit<DrawJob, 'random'>;
  /** How much of the step lies before it, and in it. */
  done: number;
  share: number;
}

/** What is drawn for a group from some state of the stream on. */
interface Ahead {
  group: Group;
  random: string;
  drawn: Promise<Drawn>;
}

export interface StepOptions {
  /** State of the stream that all of TRL's program shares, as it stands; it goes on with the rows. */
  stream: { random: string };
  /** May end the step before each row, and while numbers are drawn. */
  interruption: Interruption;
  /** What comes after the step, as far as one knows. */
  next?: StepBatch;
}

/** The rows of a run's steps. The owner calls `dispose`. */
export class StepRows {
  private readonly draws: readonly Draw[];
  private readonly noise: DrawJob['noise'];
  private readonly drawer = new Drawer();
  private ahead?: Ahead;
  private nextGroups?: { batch: StepBatch; groups: readonly Group[] };

  constructor(
    private readonly model: CausalLM,
    private readonly config: RowsConfig,
  ) {
    this.draws = drawsOf(model);
    const { neftuneNoiseAlpha: alpha } = config;
    this.noise = alpha ? { alpha, features: model.embeddings[0].weight.shape[1] } : undefined;
  }

  /**
   * The rows of a step; those without a target, which nothing is learned from, are left out. While a row is computed, what comes behind its
   * group is drawn.
   * @throws Interrupted when the step is stopped
   */
  async *of(batch: StepBatch, { stream, interruption, next }: StepOptions): AsyncGenerator<StepRow> {
    const groups = this.nextGroups?.batch === batch ? this.nextGroups.groups : this.groupsOf(batch);
    this.nextGroups = next && { batch: next, groups: this.groupsOf(next) };
    for (const [index, group] of groups.entries()) {
      const { rows: drawn, random } = await this.drawnFor(group, stream.random, interruption);
      stream.random = random;
      const following = groups[index + 1] ?? this.nextGroups?.groups[0];
      if (following) this.drawAhead(following, random, interruption);
      for (const [row, parts] of group.rows.entries()) {
        await interruption.breathe();
        const chance = this.isLeftToChance ? chanceOf(drawn[row], this.draws) : undefined;
        // it goes with the row
        delete drawn[row];
        yield { parts, chance, done: group.done + (group.share * row) / group.rows.length };
      }
    }
  }

  dispose(): void {
    this.drawer.dispose();
  }

  private get isLeftToChance(): boolean {
    return this.noise !== undefined || this.draws.some((draw) => 'share' in draw);
  }

  /** What was drawn ahead is of use if nothing else has been drawn since, as for an evaluation. */
  private drawnFor(group: Group, random: string, interruption: Interruption): Promise<Drawn> {
    const { ahead } = this;
    this.ahead = undefined;
    return ahead?.group === group && ahead.random === random ? ahead.drawn : this.draw(group, random, interruption);
  }

  private drawAhead(group: Group, random: string, interruption: Interruption): void {
    if (!this.isLeftToChance || !this.drawer.hasThread) return;
    const drawn = this.draw(group, random, interruption);
    // who waits for it is told what is wrong; perhaps nobody does
    drawn.catch(() => {});
    this.ahead = { group, random, drawn };
  }

  private draw({ job }: Group, random: string, interruption: Interruption): Promise<Drawn> {
    return this.drawer.draw({ ...job, random }, () => interruption.breathe());
  }

  /** Sequences that drop different numbers have nothing in common. What micro-batches draw, they draw one after the other. */
  private groupsOf(batch: StepBatch): Group[] {
    const { model, config, draws, noise, isLeftToChance } = this;
    const { tokensPerMicroBatch: budget } = config;
    const groups = isLeftToChance ? groupsWithin(batch, budget) : [[...batch.keys()]];
    const options = { unstretched: unstretchedLength(model.config), sharesPrefixes: !isLeftToChance };
    return groups.map((group) => {
      // the others are empty, so that each keeps its index
      const microBatches = batch.map((items, index) => (group.includes(index) ? items : []));
      const rows = cutIntoRows(microBatches, budget, options).filter(hasTargets);
      const placements = group.map((index) => placementOf(batch[index], index, isLeftToChance ? rows : [], config));
      const sizes = isLeftToChance ? rows.map((parts) => sizeOfRow(parts, model)) : [];
      return { rows, job: { placements, sizes, draws, noise }, done: group[0] / batch.length, share: group.length / batch.length };
    });
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
