/** Draws what is left to chance in training, as PyTorch draws it on a CPU for micro-batches as TRL lays them out. */
import type { Draw, DropDraw } from '../model';
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
  tokens: readonly Run[];
  /** Only those whose final states are read, in tensors of them alone. */
  read: readonly Run[];
}

export interface DrawJob {
  /** State of the stream where it begins. */
  random: string;
  /** Of rows, whole micro-batches. */
  placements: readonly Placement[];
  /** Tokens of each row's tensors; targets of those that hold only what is read. */
  sizes: ReadonlyArray<{ tokens: number; targets: number }>;
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
      drawKept(placement, { ...draw, random }, (row) => rows[row].kept[index] as Uint8Array);
      await breathe();
    }
  }
  return { rows, random: random.state() };
}

function bitsFor({ features, onlyRead }: DropDraw, { tokens, targets }: { tokens: number; targets: number }): Uint8Array {
  return new Uint8Array(Math.ceil(((onlyRead ? targets : tokens) * features) / 8));
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
