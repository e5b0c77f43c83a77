/** Child: fine-tunes a checkpoint for a few steps and times each of them. */

import { engineStatistics } from '../../../lib/engine';
import { loadDataset, loadModel, SFTTrainer, type TrainerCallback } from '../../../lib/index';
import { type CausalLM, sharedPrefixes } from '../../../lib/model';
import type { LoraLayer } from '../../../lib/model/lora';
import { createTorchRandom } from '../../../lib/torch-random';
import { cutIntoRows, type RowPart, stepsOfEpoch } from '../../../lib/train/batches';
import { countTargets } from '../../../lib/train/examples';
import { peakBytes, serve } from '../child';
import { type ExampleSizes, type ModelSizes, trainingFlops } from '../flops';
import type { StepRecord, TrainJob, TrainResult } from '../jobs';
import { useEngine } from './engine';
import { TimedProducts } from './products';

serve(async ({ engine, model: folder, adapter, rows, recipe, steps, precision, beside }: TrainJob): Promise<TrainResult> => {
  await useEngine(engine);
  const model = await loadModel(adapter ?? folder);
  const clock = new StepClock(beside && new TimedProducts(beside));
  const trainer = new SFTTrainer({
    model,
    trainDataset: await loadDataset(rows),
    callbacks: [clock],
    config: {
      maxSteps: steps,
      perDeviceTrainBatchSize: recipe.batchSize,
      gradientAccumulationSteps: recipe.accumulation,
      maxLength: recipe.maxLength,
      learningRate: recipe.learningRate,
      completionOnlyLoss: true,
      fp16: precision === 'fp16',
      trainSamplingStrategy: 'sequential',
      loggingSteps: 1,
      disableTqdm: true,
    },
  });
  const examples = stepsOfEpoch(trainer.trainItems, trainer.config, 0, createTorchRandom(0)).map((step) =>
    cutIntoRows(step, trainer.config.tokensPerMicroBatch).flatMap(sizesOfRow),
  );
  const sizes = sizesOf(model);
  await trainer.train();
  const records = clock.times.map(
    (times, step): StepRecord => ({
      ...times,
      besideGflops: clock.besideStep(step),
      loss: trainer.log[step].loss ?? Number.NaN,
      tokens: examples[step].reduce((sum, { tokens }) => sum + tokens, 0),
      flops: trainingFlops(sizes, examples[step]),
    }),
  );
  return { steps: records, peakBytes: peakBytes() };
});

function sizesOfRow(row: readonly RowPart[]): ExampleSizes[] {
  const prefixes = sharedPrefixes(row.map(({ sequence }) => sequence.inputIds));
  return row.map(({ sequence }, i) => ({
    tokens: sequence.inputIds.length,
    shared: prefixes[i]?.tokens,
    targets: countTargets(sequence),
  }));
}

type StepTimes = Pick<StepRecord, 'seconds' | 'runSeconds' | 'compileSeconds'>;

/** Seconds after each step that products are computed for; between two of its rows it is one run of them. */
const BESIDE_SECONDS = 2;

/**
 * Takes the time of each step, and how much of it the engine's own counters explain; between steps and between the rows of a step, the
 * speed of products, as a shared machine may change its own while a long step runs. Their time is none of the step's.
 */
class StepClock implements TrainerCallback {
  readonly times: StepTimes[] = [];
  /** After each step, the seconds of the runs. */
  private readonly beside: number[][] = [];
  /** Inside of each step, likewise. */
  private readonly inside: number[][] = [];
  private begun = readClocks();
  /** Milliseconds of the step's runs of products so far. */
  private pausedMs = 0;

  constructor(private readonly products: TimedProducts | undefined) {}

  onStepBegin(): void {
    this.inside.push([]);
    this.pausedMs = 0;
    this.begun = readClocks();
  }

  onSubstepEnd(): void {
    if (!this.products) return;
    const started = performance.now();
    this.inside[this.inside.length - 1].push(...this.products.timeRuns(0));
    this.pausedMs += performance.now() - started;
  }

  onStepEnd(): void {
    const ended = readClocks();
    const since = (name: 'now' | 'runMs' | 'compileMs') => (ended[name] - this.begun[name]) / 1000;
    const counters = engineStatistics() ? { runSeconds: since('runMs'), compileSeconds: since('compileMs') } : {};
    this.times.push({ seconds: since('now') - this.pausedMs / 1000, ...counters });
    if (this.products) this.beside.push(this.products.timeRuns(BESIDE_SECONDS));
  }

  /** The speed of the products just before a step, between its rows and just after it. */
  besideStep(step: number): number | undefined {
    return this.products?.gflops([...this.beside.slice(Math.max(0, step - 1), step + 1), this.inside[step]].flat());
  }
}

/** Milliseconds: of the wall clock, inside ONNX Runtime's runs, and of compiling. */
function readClocks(): { now: number; runMs: number; compileMs: number } {
  const { runMs, compileMs } = engineStatistics() ?? { runMs: 0, compileMs: 0 };
  return { now: performance.now(), runMs, compileMs };
}

/** Linear layers that come before attention, or what is in its place. */
const BEFORE_ATTENTION = /\.(q_proj|k_proj|v_proj|qkv_proj|c_attn|query_key_value|in_proj|in_proj_(qkv|a|b))$/;

function sizesOf({ linears, outputHead, config, adapter }: CausalLM): ModelSizes {
  const inLastLayer = new RegExp(`(?:^|\\.)(?:layers|h)\\.${config.numHiddenLayers - 1}\\.`);
  const isLast = ({ name }: { name: string }): boolean => inLastLayer.test(name) && !BEFORE_ATTENTION.test(name);
  const all = [...linears.values()];
  const weightsOf = (list: typeof all): number => list.reduce((sum, { weight }) => sum + weight.shape[0] * weight.shape[1], 0);
  const beside = (layers: readonly LoraLayer[]): number => layers.reduce((sum, { a, b }) => sum + a.value.size + b.value.size, 0);
  return {
    linearParameters: weightsOf(all),
    lastParameters: weightsOf(all.filter(isLast)),
    ...(adapter && {
      adapterParameters: beside(adapter.parts.layers),
      lastAdapterParameters: beside(adapter.parts.layers.filter(({ linear }) => isLast(linear))),
    }),
    headParameters: outputHead.size,
    layers: config.numHiddenLayers,
    attentionWidth: config.numAttentionHeads * config.headDim,
  };
}
