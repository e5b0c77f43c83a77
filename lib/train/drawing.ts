/** Draws what is left to chance in training, as PyTorch draws it on a CPU for micro-batches as TRL lays them out. */
import { bytesOfWeights } from '../engine';
import type { Draw, DropDraw, WeightDraw } from '../model';
import { restoreTorchRandom, type TorchRandom, uniform } from '../torch-random';

/** How TRL lays out a micro-batch: padded, with a row for each example, or end to end in one row. */
export interface Layout {
  rows: number;
  columns: number;
}

/** Tokens that follow each other in a micro-batch as in a row's tensor. */
export interface Run {
  /** Their first place among all of the micro-batch, counted through all rows. */
  from: number;
  /** Its place in the tensor. */
  to: number;
  count: number;
  row: number;
}

/** Where the tokens of a micro-batch are in the tensors of rows, in the order of the micro-batch. */
export interface Placement {
  layout: Layout;
  /** Of each sequence all tokens. */
  tokens: readonly Run[];
  /** Only those whose final states are read, in tensors of them alone. */
  read: readonly Run[];
}

/** Sizes of a row's tensors. */
export interface RowSize {
  tokens: number;
  /** Of those tensors that hold only what is read. */
  targets: number;
  /** Tokens of its longest sequence. */
  longest: number;
}

export interface DrawJob {
  /** State of the stream where it begins. */
  random: string;
  /** Of rows, whole micro-batches. */
  placements: readonly Placement[];
  sizes: readonly RowSize[];
  /** What each micro-batch draws. */
  draws: readonly Draw[];
  /** NEFTune's alpha, and the columns of the embeddings. */
  noise?: { alpha: number; features: number };
}

/** What was drawn for one row. */
export interface DrawnRow {
  /** For each draw which numbers are kept, as bits; nothing where nothing is dropped. */
  kept: ReadonlyArray<Uint8Array | undefined>;
  /** [tokens, features] */
  noise?: Float32Array;
}

export interface Drawn {
  rows: DrawnRow[];
  /** State of the stream where it ends. */
  random: string;
}

/**
 * @param breathe called now and then: it takes a while
 * @throws what `breathe` throws
 */
export async function drawRows({ random: state, placements, sizes, draws, noise }: DrawJob, breathe: () => Promise<void>): Promise<Drawn> {
  const random = restoreTorchRandom(state);
  const rows = sizes.map((size) => ({
    kept: draws.map((draw) => ('share' in draw ? bitsFor(draw, size) : undefined)),
    noise: noise && new Float32Array(size.tokens * noise.features),
  }));
  for (const placement of placements) {
    if (noise) drawNoise(placement, { ...noise, random }, (row) => rows[row].noise as Float32Array);
    for (const [index, draw] of draws.entries()) {
      if ('words' in draw) {
        random.skip(draw.words);
        continue;
      }
      const bitsOf = (row: number) => rows[row].kept[index] as Uint8Array;
      if (draw.of === 'attention') {
        const heads = drawWeights(placement, { ...draw, random }, (row) => ({ bits: bitsOf(row), longest: sizes[row].longest }));
        for (const _ of heads) await breathe();
      } else drawKept(placement, { ...draw, random }, bitsOf);
      await breathe();
    }
  }
  return { rows, random: random.state() };
}

function bitsFor(draw: DropDraw | WeightDraw, { tokens, targets, longest }: RowSize): Uint8Array {
  if (draw.of === 'attention') return new Uint8Array(tokens * draw.heads * bytesOfWeights(longest));
  return new Uint8Array(Math.ceil(((draw.onlyRead ? targets : tokens) * draw.features) / 8));
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
  { layout, tokens, read }: Placement,
  { share, features, onlyRead, random }: DropDraw & { random: TorchRandom },
  bitsOf: (row: number) => Uint8Array,
): void {
  // PyTorch draws nothing where all is dropped
  if (share === 1) return;
  goThrough(onlyRead ? read : tokens, layout, 2 * features, random, ({ row, to, count }) => {
    random.bernoulli(1 - share, count * features, bitsOf(row), to * features);
  });
}

/**
 * PyTorch draws for [rows, heads, columns, columns], queries by keys. Of them a query has use for those of its sequence's tokens up to itself; they are
 * written as the engine reads them (`KeptWeights`). It gives way after each head.
 */
function* drawWeights(
  { layout: { rows, columns }, tokens }: Placement,
  { share, heads, random }: WeightDraw & { random: TorchRandom },
  rowOf: (row: number) => { bits: Uint8Array; longest: number },
): Generator<void> {
  if (share === 1) return;
  let at = 0;
  const goTo = (number: number): void => {
    random.skip(2 * (number - at));
    at = number;
  };
  for (let row = 0; row < rows; row++) {
    const runs = tokens.filter(({ from }) => Math.floor(from / columns) === row);
    for (let head = 0; head < heads; head++) {
      for (const { from, to, count, row: tensor } of runs) {
        const { bits, longest } = rowOf(tensor);
        const column = from - row * columns;
        for (let i = 0; i < count; i++) {
          goTo(((row * heads + head) * columns + column + i) * columns + column);
          random.bernoulli(1 - share, i + 1, bits, 8 * bytesOfWeights(longest) * ((to + i) * heads + head));
          at += i + 1;
        }
      }
      yield;
    }
  }
  goTo(rows * heads * columns ** 2);
}

/** As transformers: evenly from ±alpha/√(columns · features), in float32. */
function drawNoise(
  { layout, tokens }: Placement,
  { alpha, features, random }: { alpha: number; features: number; random: TorchRandom },
  noiseOf: (row: number) => Float32Array,
): void {
  const bound = Math.fround(Math.fround(alpha) / Math.fround(Math.sqrt(layout.columns * features)));
  goThrough(tokens, layout, features, random, ({ row, to, count }) => {
    noiseOf(row).set(uniform(count * features, bound, random), to * features);
  });
}
