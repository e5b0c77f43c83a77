/** What the tests of the trainer share: golden models, rows, and short runs. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import type { TestContext } from 'node:test';
import type { AlpacaExample } from '../../lib/data';
import { type CausalLM, loadModel } from '../../lib/model';
import { projectRoot } from '../../lib/project';
import type { SFTConfig } from '../../lib/train';
import type { Sequence } from '../../lib/train/examples';

export const golden = path.join(projectRoot, 'test', 'golden');
export const fixtures = path.join(projectRoot, 'test', 'train', 'fixtures');

export function readJsonFile<T>(...names: string[]): T {
  return JSON.parse(readFileSync(path.join(...names), 'utf8')) as T;
}

/** The golden training rows. */
export const rows = readJsonFile<AlpacaExample[]>(golden, 'rows.json');

/** A tiny model, disposed when the test ends. */
export async function tinyModel(t: TestContext, family = 'llama'): Promise<CausalLM> {
  const model = await loadModel(path.join(golden, family, 'model'));
  t.after(() => model.dispose());
  return model;
}

/** A fresh folder, removed when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'tunebook-train-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A short run: 6 steps of 2 micro-batches of 2 examples, every step logged. */
export const short: Partial<SFTConfig> = {
  ...{ maxSteps: 6, perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, learningRate: 1e-3, loggingSteps: 1 },
  ...{ maxLength: 256, seed: 7, disableTqdm: true },
};

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

/** A run whose checkpoints fall between its log records and evaluations, with examples in random order over two epochs. */
export const resumable: Partial<SFTConfig> = {
  ...short,
  ...{ maxSteps: 10, loggingSteps: 3, evalStrategy: 'steps', evalSteps: 4, saveStrategy: 'steps', saveSteps: 2, saveTotalLimit: 2 },
  ...{ weightDecay: 0.1, warmupSteps: 2, lrSchedulerType: 'cosine', maxGradNorm: 0.5 },
};
