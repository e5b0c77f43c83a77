/** Child: fine-tunes a checkpoint for a few steps and times each of them. */

import { engineStatistics } from '../../../lib/engine';
import { loadDataset, loadModel, SFTTrainer, type TrainerCallback } from '../../../lib/index';
import { type CausalLM, sharedPrefixes } from '../../../lib/model';
import { cutIntoRows, type RowPart, stepsOfEpoch } from '../../../lib/train/batches';
import { countTargets } from '../../../lib/train/examples';
import { peakBytes, serve } from '../child';
import { type ExampleSizes, type ModelSizes, trainingFlops } from '../flops';
import type { StepRecord, TrainJob, TrainResult } from '../jobs';
import { useEngine } from './engine';
import { TimedProducts } from './products';

serve(async ({ engine, model: folder, rows, recipe, steps, beside }: TrainJob): Promise<TrainResult> => {
  await useEngine(engine);
  const model = await loadModel(folder);
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
      trainSamplingStrategy: 'sequential',
      loggingSteps: 1,
      disableTqdm: true,
    },
  });
  const examples = stepsOfEpoch(trainer.trainItems, trainer.config, 0).map((step) =>
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

/** Seconds after each step that products are computed for. */
const BESIDE_SECONDS = 2;

/** Takes the time of each step, and how much of it the engine's own counters explain; between them, the speed of products. */
class StepClock implements TrainerCallback {
  readonly times: StepTimes[] = [];
  /** After each step, the seconds of the runs. */
  private readonly beside: number[][] = [];
  private begun = readClocks();

  constructor(private readonly products: TimedProducts | undefined) {}

  onStepBegin(): void {
    this.begun = readClocks();
  }

  onStepEnd(): void {
    const ended = readClocks();
    const since = (name: 'now' | 'runMs' | 'compileMs') => (ended[name] - this.begun[name]) / 1000;
    const counters = engineStatistics() ? { runSeconds: since('runMs'), compileSeconds: since('compileMs') } : {};
    this.times.push({ seconds: since('now'), ...counters });
    if (this.products) this.beside.push(this.products.timeRuns(BESIDE_SECONDS));
  }

  /** The speed of the products just before and just after a step. */
  besideStep(step: number): number | undefined {
    return this.products?.gflops(this.beside.slice(Math.max(0, step - 1), step + 1).flat());
  }
}

/** Milliseconds: of the wall clock, inside ONNX Runtime's runs, and of compiling. */
function readClocks(): { now: number; runMs: number; compileMs: number } {
  const { runMs, compileMs } = engineStatistics() ?? { runMs: 0, compileMs: 0 };
  return { now: performance.now(), runMs, compileMs };
}

/** Linear layers that come before attention. */
const BEFORE_ATTENTION = /\.(q_proj|k_proj|v_proj|query_key_value)$/;

function sizesOf({ linears, outputHead, config }: CausalLM): ModelSizes {
  const inLastLayer = new RegExp(`\\.layers\\.${config.numHiddenLayers - 1}\\.`);
  const all = [...linears.values()];
  const weightsOf = (list: typeof all): number => list.reduce((sum, { weight }) => sum + weight.shape[0] * weight.shape[1], 0);
  return {
    linearParameters: weightsOf(all),
    lastParameters: weightsOf(all.filter(({ name }) => inLastLayer.test(name) && !BEFORE_ATTENTION.test(name))),
    headParameters: outputHead.size,
    layers: config.numHiddenLayers,
    attentionWidth: config.numAttentionHeads * config.headDim,
  };
}
