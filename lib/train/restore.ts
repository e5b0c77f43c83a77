/** From a checkpoint's tensors back to a model and an optimizer. */
import * as path from 'node:path';
import type * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { namesIn } from '../files';
import { type CausalLM, ownWeights } from '../model';
import { openSafetensors, readInto, readTransposed, type SafetensorsFile } from '../model/safetensors';
import { MEAN, OPTIMIZER_FILE, SQUARE } from './checkpoint';
import type { AdamW } from './optimizer';

/**
 * Makes sure that a checkpoint has the weights of a model, or those of its adapter, and moments that fit them. Nothing is changed.
 * @throws UserError when a file or a tensor is missing, or has another shape
 */
export async function checkTensors(folder: string, model: CausalLM): Promise<void> {
  const weights = ownWeights(model);
  await withWeightFiles(folder, model, async (files) => {
    for (const [name, variable] of weights) checkShape(fileOf(name, files, folder), name, variable);
  });
  await withFile(path.join(folder, OPTIMIZER_FILE), async (file) => {
    for (const moment of file.tensors.keys()) {
      const [prefix, other] = moment.startsWith(MEAN) ? [MEAN, SQUARE] : [SQUARE, MEAN];
      const name = moment.slice(prefix.length);
      const variable = moment.startsWith(prefix) ? weights.get(name) : undefined;
      if (!variable)
        throw new UserError(`${file.file} holds ${moment}, which this model does not have; the checkpoint belongs to another model.`);
      if (!file.tensors.has(other + name))
        throw new UserError(`${file.file} holds ${moment} but not ${other + name}; it is damaged: continue from another checkpoint.`);
      checkShape(file, moment, variable);
    }
  });
}

/** Puts a checkpoint's weights, or those of its adapter, into a model of the same shape. */
export async function restoreWeights(folder: string, model: CausalLM): Promise<void> {
  await withWeightFiles(folder, model, async (files) => {
    for (const [name, variable] of ownWeights(model)) await assignFrom(fileOf(name, files, folder), name, variable);
  });
}

/** Puts a checkpoint's moments into an optimizer. */
export async function restoreOptimizer(
  folder: string,
  optimizer: AdamW,
  parameters: ReadonlyMap<string, tf.Variable>,
  step: number,
): Promise<void> {
  await withFile(path.join(folder, OPTIMIZER_FILE), async (file) => {
    for (const [name, parameter] of parameters) {
      if (!file.tensors.has(MEAN + name)) continue;
      const { m, v } = optimizer.momentsOf(name, parameter);
      await assignFrom(file, MEAN + name, m);
      await assignFrom(file, SQUARE + name, v);
    }
    optimizer.step = step;
  });
}

async function withFile(place: string, use: (file: SafetensorsFile) => Promise<void>): Promise<void> {
  const file = await openSafetensors(place);
  try {
    await use(file);
  } finally {
    await file.close();
  }
}

async function withWeightFiles(
  folder: string,
  { transposed }: CausalLM,
  use: (files: readonly SafetensorsFile[]) => Promise<void>,
): Promise<void> {
  const names = namesIn(folder).filter((name) => name.endsWith('.safetensors') && name !== OPTIMIZER_FILE);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of names) files.push(readTransposed(await openSafetensors(path.join(folder, name)), transposed));
    await use(files);
  } finally {
    for (const file of files) await file.close();
  }
}

function fileOf(name: string, files: readonly SafetensorsFile[], folder: string): SafetensorsFile {
  const file = files.find(({ tensors }) => tensors.has(name));
  if (!file) throw new UserError(`${folder} has no weights for ${name}; it belongs to another model.`);
  return file;
}

function checkShape({ file, tensors }: SafetensorsFile, name: string, variable: tf.Variable): void {
  const shape = tensors.get(name)?.shape ?? [];
  if (shape.join() === variable.shape.join()) return;
  throw new UserError(
    `${file}: ${name} has shape [${shape}], but the model's is [${variable.shape}]; the checkpoint belongs to another model.`,
  );
}

async function assignFrom(file: SafetensorsFile, name: string, variable: tf.Variable): Promise<void> {
  checkShape(file, name, variable);
  await readInto(variable, file, name);
}
