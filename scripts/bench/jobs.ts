/**
 * What the bench asks of a child process and what the child answers, both as JSON. Children in TypeScript (`measure/`)
 * and in Python (`peer/`) take the same jobs and give the same answers.
 */

/** Engines that this project's own code can run on. */
export type EngineName = 'tunebook' | 'webgpu' | 'tfjs-node' | 'tfjs-wasm';

/** Where everything is computed: peers take the GPU that torch finds, this project's engine the one that WebGPU finds. */
export type BenchDevice = 'cpu' | 'gpu';

/** The recipe of every training run: TRL's settings of these names; the rest are TRL's defaults. */
export const RECIPE = { batchSize: 4, accumulation: 4, maxLength: 512, learningRate: 1e-4 } as const;

/** Examples in one optimizer step. */
export const EXAMPLES_PER_STEP = RECIPE.batchSize * RECIPE.accumulation;

/** Everything is loaded from here. */
interface ModelJob {
  /** Folder of a checkpoint. */
  model: string;
  /** File with rows of `prompt` and `completion`. */
  rows: string;
  /** Used by a peer; this project's engine takes all of the machine. */
  threads: number;
}

export interface TrainJob extends ModelJob {
  engine: EngineName;
  device: BenchDevice;
  recipe: typeof RECIPE;
  steps: number;
  /** Number format of the products; this project's engine knows no bf16. */
  precision: 'float32' | 'bf16' | 'fp16';
  /** What the machine can do is measured by this product between the steps; only this project's engine does. */
  beside?: ProductWay;
  /** Folder of an adapter (LoRA) that is trained in the place of the weights. */
  adapter?: string;
}

/** One optimizer step. */
export interface StepRecord {
  seconds: number;
  loss: number;
  /** Tokens of the step's examples; padding is not counted. */
  tokens: number;
  /** Floating-point operations that the step needs (flops.ts); absent for peers. */
  flops?: number;
  /**
   * The speed of the product beside, in 10⁹ operations a second, over some seconds just before and just after the step (of
   * the first step, after it), and for a moment between its rows.
   */
  besideGflops?: number;
  /** Seconds inside ONNX Runtime's runs; absent on other engines. */
  runSeconds?: number;
  /** Seconds of compiling graphs; absent on other engines. */
  compileSeconds?: number;
}

export interface TrainResult {
  steps: StepRecord[];
  /** Largest resident memory of the process. */
  peakBytes: number;
}

export interface DecodeJob extends ModelJob {
  newTokens: number;
  /** Whether tokens are guessed by what the text repeats, and several checked at once. */
  promptLookup: boolean;
  /** Whether tokens are guessed with weights in 8 bits; transformers has no such guesses. */
  draft: boolean;
}

export interface DecodeResult {
  /** The new tokens, greedily chosen. */
  ids: number[];
  /** Seconds of the first call, compilation counted. */
  firstSeconds: number;
  /** Seconds of the same call again. */
  seconds: number;
  peakBytes: number;
}

export interface ScoreJob extends ModelJob {
  engine: EngineName;
  recipe: typeof RECIPE;
  /** Rows that are scored, from the first on. */
  examples: number;
  /** Examples in a batch: a peer pads to the longest of them, and the loss is a mean of the batches' means. */
  evalBatchSize: number;
}

export interface ScoreResult {
  loss: number;
  /** Tokens of the examples; padding is not counted. */
  tokens: number;
  /** Seconds of the first evaluation, compilation counted. */
  firstSeconds: number;
  /** Seconds of the same evaluation again. */
  seconds: number;
  peakBytes: number;
}

/** Sizes of a matrix product: [m, k] times [k, n]. */
export type Product = readonly [m: number, k: number, n: number];

/** A product, and the operator of ONNX Runtime that computes it. */
export interface ProductWay {
  product: Product;
  op: 'MatMul' | 'Conv';
}

export interface CeilingJob {
  products: readonly Product[];
  threads: number;
}

export interface CeilingResult {
  /** The fastest product, in 10⁹ floating-point operations a second, a multiplication and an addition counted as two. */
  gflops: number;
  product: Product;
  /** Absent for a peer. */
  op?: ProductWay['op'];
  /** Versions of the packages that were measured. */
  versions: Record<string, string>;
}

export interface MakeModelJob {
  shape: string;
  /** Folder of the tokenizer. */
  tokenizer: string;
  /** Folder that the checkpoint goes to. */
  directory: string;
}

export interface MakeAdapterJob {
  /** Folder of the checkpoint that it is for. */
  model: string;
  rank: number;
  /** Folder that the adapter goes to. */
  directory: string;
}

export interface MakeModelResult {
  parameters: number;
}

export interface ImportResult {
  seconds: number;
}
