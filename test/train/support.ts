/** What the tests of the trainer share: golden models, rows, and short runs. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import type { TestContext } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import type { AlpacaExample } from '../../lib/data';
import { bytesOfWeights } from '../../lib/engine';
import {
  type CausalLM,
  type Draw,
  type DropDraw,
  drawsOf,
  type LoadOptions,
  type LoraConfig,
  loadModel,
  tokenNll,
  type WeightDraw,
} from '../../lib/model';
import { projectRoot } from '../../lib/project';
import { type SFTConfig, SFTTrainer, type TrainerCallback } from '../../lib/train';
import { chanceOf } from '../../lib/train/chance';
import type { DrawnRow, RowSize } from '../../lib/train/drawing';
import type { Sequence } from '../../lib/train/examples';
import { GradientSums } from '../../lib/train/gradients';
import { backwardRow, sizeOfRow } from '../../lib/train/loss';

export const golden = path.join(projectRoot, 'test', 'golden');
export const fixtures = path.join(projectRoot, 'test', 'train', 'fixtures');

export function readJsonFile<T>(...names: string[]): T {
  return JSON.parse(readFileSync(path.join(...names), 'utf8')) as T;
}

/** The golden training rows. */
export const rows = readJsonFile<AlpacaExample[]>(golden, 'rows.json');

/** The first of them as conversations. */
export const conversations = rows.slice(0, 8).map(({ instruction, output }) => ({
  messages: [
    { role: 'user', content: instruction },
    { role: 'assistant', content: output },
  ],
}));

/** The ids that the golden forward pass of a family reads. */
export const goldenIds = (family: string): number[] => readJsonFile<{ input_ids: number[] }>(golden, family, 'forward.json').input_ids;

/** The model of a folder, disposed when the test ends. */
export async function loaded(t: TestContext, folder: string, options?: LoadOptions): Promise<CausalLM> {
  const model = await loadModel(folder, options);
  t.after(() => model.dispose());
  return model;
}

/** A tiny model, disposed when the test ends. */
export function tinyModel(t: TestContext, family = 'llama'): Promise<CausalLM> {
  return loaded(t, path.join(golden, family, 'model'));
}

/** A fresh folder, removed when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-train-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of an adapter that PEFT saved, from among the fixtures, with a golden model as its base. @param changes of its configuration */
export function peftAdapter(t: TestContext, name: string, family: string, changes: object = {}): string {
  const folder = path.join(temporaryFolder(t), 'adapter');
  cpSync(path.join(fixtures, name), folder, { recursive: true });
  const config = readJsonFile<object>(folder, 'adapter_config.json');
  const base = { base_model_name_or_path: path.join(golden, family, 'model') };
  writeFileSync(path.join(folder, 'adapter_config.json'), JSON.stringify({ ...config, ...base, ...changes }));
  return folder;
}

/** A short run: 6 steps of 2 micro-batches of 2 examples, every step logged. */
export const short: Partial<SFTConfig> = {
  ...{ maxSteps: 6, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, learningRate: 1e-3, loggingSteps: 1 },
  ...{ maxLength: 256, seed: 7, disableTqdm: true },
};

/** Ends a run when a step has been logged, with the schedule of one that goes on. */
export const stopsAfter = (last: number): TrainerCallback => ({ onLog: ({ step, stop }) => void (step >= last && stop()) });

/** SHA-256 of each weight of a model, by name: equal for equal bits. */
export async function weightsOf(model: CausalLM): Promise<Record<string, string>> {
  const hashes: Record<string, string> = {};
  for (const [name, variable] of model.parameters) hashes[name] = hashOf(await variable.data<'float32'>());
  return hashes;
}

export function hashOf(bytes: NodeJS.ArrayBufferView): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** A sequence of `length` tokens that all carry loss. */
export function sequence(length: number, first = 0): Sequence {
  return { inputIds: Int32Array.from({ length }, (_, i) => first + i), lossMask: new Uint8Array(length).fill(1) };
}

/**
 * Chance that a reference's program can have too, whatever the place: every fourth feature is dropped, and key (fixtures/reference.py), and has the least
 * noise, the others 0.8 of the most (fixtures/make_neftune.py). All sizes are multiples of 4.
 */
function everyFourth(draws: readonly Draw[], size: RowSize, noise?: { bound: number; features: number }): DrawnRow {
  const bytes = (draw: DropDraw | WeightDraw): number =>
    draw.of === 'attention'
      ? size.tokens * draw.heads * bytesOfWeights(size.longest)
      : ((draw.onlyRead ? size.targets : size.tokens) * draw.features) / 8;
  const kept = draws.map((draw) => ('share' in draw ? new Uint8Array(bytes(draw)).fill(0b11011101) : undefined));
  const values = noise && Float32Array.from({ length: size.tokens * noise.features }, (_, i) => (i % 4 === 1 ? -1 : 0.8) * noise.bound);
  return { kept, noise: values };
}

/** What a reference computed in one pass, forward and backward. */
export interface ReferencePass {
  loss: number;
  grad_norm_per_parameter: Record<string, number>;
}

/**
 * Asserts that loss and gradients of sequences of which all tokens carry loss are the reference's: the loss to 1e-5, norms to 1e-4. What is left
 * to chance is as in the fixtures.
 */
export async function assertPass(
  model: CausalLM,
  sequences: readonly number[][],
  { loss, grad_norm_per_parameter: norms }: ReferencePass,
  { gradientCheckpointing, alpha }: { gradientCheckpointing: boolean; alpha?: number },
): Promise<void> {
  const parts = sequences.map((ids, index) => ({
    sequence: { inputIds: Int32Array.from(ids), lossMask: new Uint8Array(ids.length).fill(1) },
    ...{ microBatch: 0, index },
  }));
  const draws = drawsOf(model);
  const features = model.embeddings[0].weight.shape[1];
  const columns = Math.max(...sequences.map(({ length }) => length));
  const noise = alpha === undefined ? undefined : { bound: alpha / Math.sqrt(columns * features), features };
  const chance = chanceOf(everyFourth(draws, sizeOfRow(parts, model), noise), draws);
  const share = tf.scalar(1 / sequences.reduce((sum, { length }) => sum + length - 1, 0));
  const sums = new GradientSums();
  const { loss: losses } = await backwardRow(model, parts, sums, { gradientCheckpointing, chance, share });
  const mean = losses.reduce((sum, x) => sum + x, 0) / losses.length;
  assert.ok(Math.abs(mean - loss) < 1e-5 * loss, `loss ${mean}, expected ${loss}`);
  const gradients = new Map(sums.entries());
  assert.equal(gradients.size, Object.keys(norms).length);
  for (const [name, norm] of Object.entries(norms)) {
    const values = await (gradients.get(ownName(name, model)) as tf.Variable).data<'float32'>();
    const own = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    assert.ok(Math.abs(own - norm) < 1e-4 * norm + 1e-7, `${name}: ${own}, expected ${norm}`);
  }
  sums.dispose();
  share.dispose();
}

/** What a parameter of PyTorch's model is called in files. */
function ownName(name: string, { family }: CausalLM): string {
  const inFile = name.replace(/(?:\.modules_to_save)?\.default/, '').replace('magnitude_vector.weight', 'magnitude_vector');
  return family === 'gpt_neox' ? inFile.replace(/^lm_head/, 'embed_out') : inFile;
}

/** Mean loss of a model over ids. */
export async function lossOn(model: CausalLM, ids: number[]): Promise<number> {
  const { nll } = await tokenNll(model, ids);
  return nll.reduce((sum, x) => sum + x, 0) / nll.length;
}

/** Asserts that a run that trains an adapter learns, and is the same again, with gradient checkpointing, and resumed. */
export async function assertSameAgain(t: TestContext, peftConfig: LoraConfig): Promise<void> {
  const run = async (config: Partial<SFTConfig>, resumeFromCheckpoint?: string) => {
    const model = await loadModel(path.join(golden, 'opt', 'model'));
    const all = { ...short, maxSteps: 4, learningRate: 2e-3, tokensPerMicroBatch: 300, saveStrategy: 'no' as const, ...config };
    const trainer = new SFTTrainer({ model, trainDataset: rows, peftConfig, config: all });
    await trainer.train({ resumeFromCheckpoint });
    const parts = await Promise.all([...(model.adapter?.parameters.values() ?? [])].map(async (x) => hashOf(await x.data<'float32'>())));
    model.dispose();
    return { log: trainer.log, parts };
  };
  const outputDir = temporaryFolder(t);
  const first = await run({ outputDir, saveStrategy: 'steps', saveSteps: 2 });
  assert.ok((first.log[3].loss as number) < (first.log[0].loss as number));
  assert.deepEqual(await run({ gradientCheckpointing: true }), first);
  assert.deepEqual(await run({ outputDir: temporaryFolder(t) }, path.join(outputDir, 'checkpoint-2')), first);
}

/** Asserts that chance touches a model in training alone, not when it is evaluated or read, and that a run leaves no tensor behind. */
export async function assertOnlyInTraining(t: TestContext, settings: Partial<SFTConfig>, peftConfig?: LoraConfig): Promise<void> {
  const model = await tinyModel(t);
  const ids = [...sequence(40).inputIds];
  const config = { ...short, learningRate: 0, ...settings };
  const trainer = new SFTTrainer({ model, trainDataset: rows, evalDataset: rows.slice(0, 8), peftConfig, config });
  const before = { ...(await trainer.evaluate()), nll: (await tokenNll(model, ids)).nll };
  await trainer.train();
  const tensors = tf.memory().numTensors;
  await trainer.train();
  assert.equal(tf.memory().numTensors, tensors);
  assert.deepEqual((await tokenNll(model, ids)).nll, before.nll);
  assert.equal((await trainer.evaluate()).eval_loss, before.eval_loss);
}

/** A run whose checkpoints fall between its log records and evaluations, with examples in random order over two epochs. */
export const resumable: Partial<SFTConfig> = {
  ...short,
  ...{ maxSteps: 10, loggingSteps: 3, evalStrategy: 'steps', evalSteps: 4, saveStrategy: 'steps', saveSteps: 2, saveTotalLimit: 2 },
  ...{ weightDecay: 0.1, warmupSteps: 2, lrSchedulerType: 'cosine', maxGradNorm: 0.5 },
};
