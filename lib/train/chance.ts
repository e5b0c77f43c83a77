/**
 * What is left to chance in training: which numbers are dropped, and the noise in the embeddings (NEFTune, Jain et al. 2023). All of it is drawn
 * as PyTorch draws it on a CPU, for micro-batches as TRL lays them out, so that a seed drops the same numbers here as there.
 */
import * as tf from '@tensorflow/tfjs-core';
import { Dropout, KeptNumbers, ownedTensor } from '../engine';
import type { CausalLM, Draw, DropDraw, TokenBatch } from '../model';
import { type TorchRandom, uniform } from '../torch-random';
import type { MicroBatch, RowPart } from './batches';
import type { SFTConfig } from './config';
import { countTokens } from './examples';

/** How TRL lays out a micro-batch: padded, with a row for each example, or end to end in one row. */
export interface Layout {
  rows: number;
  columns: number;
  /** Of each sequence the place of its first token, counted through all rows. */
  starts: readonly number[];
}

export function layoutOf(microBatch: MicroBatch, { packing, paddingFree }: Pick<SFTConfig, 'packing' | 'paddingFree'>): Layout {
  const inOneRow = packing || paddingFree;
  const lengths = microBatch.map(countTokens);
  const columns = inOneRow ? lengths.reduce((sum, length) => sum + length, 0) : Math.max(...lengths);
  const starts: number[] = [];
  let start = 0;
  for (const [index, item] of microBatch.entries()) {
    if (!inOneRow) start = index * columns;
    for (const { inputIds } of item) {
      starts.push(start);
      start += inputIds.length;
    }
  }
  return { rows: inOneRow ? 1 : microBatch.length, columns, starts };
}

/** Drawn for one row; on the host alone until it is used. */
export interface RowChance {
  hidden?: Dropout;
  adapter?: Dropout;
  /** [tokens, features] of the embeddings. */
  noise?: Float32Array;
}

/** A row that something is drawn for. */
export interface ChanceRow {
  parts: readonly RowPart[];
  /** Tokens, and targets, of its tensors: those that fill up are among them. */
  size: { tokens: number; targets: number };
}

export interface ChanceOptions {
  draws: readonly Draw[];
  random: TorchRandom;
  /** NEFTune's alpha, where there is noise, and the columns of the embeddings. */
  noise?: { alpha: number; features: number };
  /** Called now and then: drawing takes a while. */
  breathe: () => Promise<void>;
}

/**
 * Draws for rows that hold whole micro-batches.
 * @param microBatches in their order, by what their parts call them
 */
export async function drawChances(
  microBatches: ReadonlyMap<number, Layout>,
  rows: readonly ChanceRow[],
  { draws, random, noise, breathe }: ChanceOptions,
): Promise<RowChance[]> {
  const drops = draws.filter((draw): draw is DropDraw => 'share' in draw);
  const kept = rows.map(({ size }) => new Map(drops.map((draw) => [draw, new KeptNumbers(rowsOf(draw, size), draw.features)])));
  const noises = rows.map(({ size }) => (noise ? new Float32Array(size.tokens * noise.features) : undefined));
  for (const [microBatch, layout] of microBatches) {
    const runs = { all: runsOf(rows, microBatch, layout, everyToken), read: runsOf(rows, microBatch, layout, predictors) };
    if (noise) drawNoise(runs.all, layout, noises as Float32Array[], { ...noise, random });
    for (const draw of draws) {
      if ('words' in draw) {
        random.skip(draw.words);
        continue;
      }
      drawKept(draw.onlyRead ? runs.read : runs.all, layout, (row) => kept[row].get(draw) as KeptNumbers, { draw, random });
      await breathe();
    }
  }
  return kept.map((found, row) => ({ hidden: dropoutOf('hidden', found), adapter: dropoutOf('adapter', found), noise: noises[row] }));
}

const rowsOf = ({ onlyRead }: DropDraw, { tokens, targets }: ChanceRow['size']): number => (onlyRead ? targets : tokens);

function dropoutOf(of: DropDraw['of'], kept: ReadonlyMap<DropDraw, KeptNumbers>): Dropout | undefined {
  const own = [...kept].filter(([draw]) => draw.of === of);
  return own.length > 0 ? new Dropout(new Map(own.map(([{ place }, numbers]) => [place, numbers])), own[0][0].share) : undefined;
}

/** Tokens that follow each other in a micro-batch as in a row's tensor. */
interface Run {
  /** Their first place among all of the micro-batch. */
  from: number;
  /** Its place in the tensor. */
  to: number;
  count: number;
  row: number;
}

/** Where tokens of a micro-batch are in the tensors of rows, in the order of the micro-batch. */
function runsOf(rows: readonly ChanceRow[], microBatch: number, { starts }: Layout, tokensOf: (part: RowPart) => Iterable<number>): Run[] {
  const runs: Run[] = [];
  for (const [row, { parts }] of rows.entries()) {
    let to = 0;
    for (const part of parts) {
      let last: Run | undefined;
      for (const token of tokensOf(part)) {
        const from = starts[part.index] + token;
        if (part.microBatch === microBatch) {
          if (last && last.from + last.count === from) last.count++;
          else runs.push((last = { from, to, count: 1, row }));
        }
        to++;
      }
    }
  }
  return runs.sort((a, b) => a.from - b.from);
}

function everyToken({ sequence }: RowPart): Iterable<number> {
  return sequence.inputIds.keys();
}

/** The tokens whose next one is a target. */
export function* predictors({ sequence: { lossMask } }: RowPart): Iterable<number> {
  // nothing predicts the first token of an example
  for (let i = 1; i < lossMask.length; i++) if (lossMask[i] !== 0) yield i - 1;
}

/** Goes through all tokens of a micro-batch: draws for those of runs, and goes past the others. @param words for each token */
function goThrough(runs: readonly Run[], { rows, columns }: Layout, words: number, random: TorchRandom, draw: (run: Run) => void): void {
  let at = 0;
  for (const run of runs) {
    random.skip(words * (run.from - at));
    draw(run);
    at = run.from + run.count;
  }
  random.skip(words * (rows * columns - at));
}

function drawKept(
  runs: readonly Run[],
  layout: Layout,
  keptOf: (row: number) => KeptNumbers,
  { draw: { share, features }, random }: { draw: DropDraw; random: TorchRandom },
): void {
  // PyTorch draws nothing where all is dropped
  if (share === 1) return;
  goThrough(runs, layout, 2 * features, random, ({ row, to, count }) => {
    keptOf(row).draw(1 - share, to * features, count * features, random);
  });
}

/** As transformers: evenly from ±alpha/√(columns · features), in float32. */
function drawNoise(
  runs: readonly Run[],
  layout: Layout,
  noises: readonly Float32Array[],
  { alpha, features, random }: { alpha: number; features: number; random: TorchRandom },
): void {
  const bound = Math.fround(Math.fround(alpha) / Math.fround(Math.sqrt(layout.columns * features)));
  goThrough(runs, layout, features, random, ({ row, to, count }) => {
    noises[row].set(uniform(count * features, bound, random), to * features);
  });
}

/** Until the returned function is called, a row is computed with what was drawn for it. */
export function useChance(model: CausalLM, batch: TokenBatch, { hidden, adapter, noise }: RowChance): () => void {
  const [table] = model.embeddings;
  batch.dropout = hidden;
  if (model.adapter) model.adapter.dropout = adapter;
  if (noise) table.noise = tf.keep(ownedTensor<tf.Rank.R2>(noise, [batch.ids.size, table.weight.shape[1]]));
  return () => {
    batch.dropout = undefined;
    if (model.adapter) model.adapter.dropout = undefined;
    hidden?.dispose();
    adapter?.dispose();
    table.noise?.dispose();
    table.noise = undefined;
  };
}
