/** What is left to chance in training: which numbers are dropped, and the noise in the embeddings (NEFTune, Jain et al. 2023). */
import * as tf from '@tensorflow/tfjs-core';
import { Dropout, ownedTensor } from '../engine';
import type { CausalLM, Draw, TokenBatch } from '../model';
import { type MicroBatch, predictors, type RowPart } from './batches';
import type { SFTConfig } from './config';
import type { DrawnRow, Layout, Placement, Run } from './drawing';
import { countTokens } from './examples';

type LayoutConfig = Pick<SFTConfig, 'packing' | 'paddingFree' | 'padToMultipleOf'>;

/** How TRL lays a micro-batch out: padded, or end to end in one row. */
export function layoutOf(microBatch: MicroBatch, { packing, paddingFree, padToMultipleOf }: LayoutConfig): Layout {
  const lengths = microBatch.map(countTokens);
  const filledUp = (tokens: number): number => Math.ceil(tokens / (padToMultipleOf ?? 1)) * (padToMultipleOf ?? 1);
  if (packing || paddingFree) return { rows: 1, columns: filledUp(lengths.reduce((sum, length) => sum + length, 0)) };
  return { rows: microBatch.length, columns: filledUp(Math.max(...lengths)) };
}

/** Of each of its sequences the place of the first token in that layout, counted through all rows. */
function startsOf(microBatch: MicroBatch, { rows, columns }: Layout): number[] {
  const starts: number[] = [];
  let start = 0;
  for (const [index, item] of microBatch.entries()) {
    if (rows > 1) start = index * columns;
    for (const { inputIds } of item) {
      starts.push(start);
      start += inputIds.length;
    }
  }
  return starts;
}

/** Where the tokens of a micro-batch are in the tensors of rows that hold all of it. @param index what the parts of rows call it */
export function placementOf(
  microBatch: MicroBatch,
  index: number,
  rows: ReadonlyArray<readonly RowPart[]>,
  config: LayoutConfig,
): Placement {
  const layout = layoutOf(microBatch, config);
  const starts = startsOf(microBatch, layout);
  const runs = (tokensOf: (part: RowPart) => Iterable<number>): Run[] =>
    rows.flatMap((parts, row) => runsIn(parts, index, starts, tokensOf).map((run) => ({ ...run, row }))).sort((a, b) => a.from - b.from);
  return { layout, tokens: runs(({ sequence }) => sequence.inputIds.keys()), read: runs(predictors) };
}

function runsIn(
  parts: readonly RowPart[],
  microBatch: number,
  starts: readonly number[],
  tokensOf: (part: RowPart) => Iterable<number>,
): Array<Omit<Run, 'row'>> {
  const runs: Array<Omit<Run, 'row'>> = [];
  let to = 0;
  for (const part of parts) {
    let last: Omit<Run, 'row'> | undefined;
    for (const token of tokensOf(part)) {
      const from = starts[part.index] + token;
      if (part.microBatch === microBatch) {
        if (last && last.from + last.count === from) last.count++;
        else runs.push((last = { from, to, count: 1 }));
      }
      to++;
    }
  }
  return runs;
}

/** What was drawn for one row; on the host alone until it is used. */
export interface RowChance {
  hidden?: Dropout;
  attention?: Dropout;
  adapter?: Dropout;
  /** [tokens, features] of the embeddings. */
  noise?: Float32Array;
}

/** @param draws those that the row was drawn for */
export function chanceOf({ kept, noise }: DrawnRow, draws: readonly Draw[]): RowChance {
  const dropoutOf = (of: 'hidden' | 'attention' | 'adapter'): Dropout | undefined => {
    const places = new Map<number, Uint8Array>();
    for (const [index, draw] of draws.entries()) if ('share' in draw && draw.of === of) places.set(draw.place, kept[index] as Uint8Array);
    return places.size > 0 ? new Dropout(places) : undefined;
  };
  return { hidden: dropoutOf('hidden'), attention: dropoutOf('attention'), adapter: dropoutOf('adapter'), noise };
}

/** Until the returned function is called, a row is computed with what was drawn for it. */
export function useChance(model: CausalLM, batch: TokenBatch, { hidden, attention, adapter, noise }: RowChance): () => void {
  const [table] = model.embeddings;
  batch.dropout = hidden;
  batch.attentionDropout = attention;
  if (model.adapter) model.adapter.dropout = adapter;
  if (noise) table.noise = tf.keep(ownedTensor<tf.Rank.R2>(noise, [batch.ids.size, table.weight.shape[1]]));
  return () => {
    batch.dropout = batch.attentionDropout = undefined;
    if (model.adapter) model.adapter.dropout = undefined;
    for (const dropout of [hidden, attention, adapter]) dropout?.dispose();
    table.noise?.dispose();
    table.noise = undefined;
  };
}
