/** From a checkpoint's tensors back to a model and an optimizer. */
import * as path from 'node:path';
import type * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { namesIn } from '../files';
import { type CausalLM, ownWeights } from '../model';
import { readWhole } from '../model/parts';
import { openSafetensors, readInto, readTransposed, type SafetensorsFile } from '../model/safetensors';
import { nameOfState, OPTIMIZER_FILE } from './checkpoint';
import type { Optimizer, UpdateRule } from './optimizer';

/**
 * Makes sure that a checkpoint has the weights of a model, or those of its adapter, and a state of the optimizer that fits them. Nothing is changed.
 * @throws UserError when a file or a tensor is missing, or has another shape
 */
export async function checkTensors(folder: string, model: CausalLM, rule: UpdateRule): Promise<void> {
  const weights = ownWeights(model);
  await withWeightFiles(folder, model, async (files) => {
    for (const [name, variable] of weights) checkShape(fileOf(name, files, folder), name, variable.shape);
  });
  await withFile(path.join(folder, OPTIMIZER_FILE), async (file) => {
    const known = new Set<string>();
    for (const [name, { shape }] of weights) {
      const state = Object.entries(rule.stateOf(shape)).map(([key, own]) => ({ tensor: nameOfState(key, name), shape: own }));
      const there = state.find(({ tensor }) => file.tensors.has(tensor));
      const missing = there && state.find(({ tensor }) => !file.tensors.has(tensor));
      if (missing)
        throw new UserError(
          `${file.file} holds ${there.tensor} but not ${missing.tensor}; it is damaged: continue from another checkpoint.`,
        );
      if (there) for (const { tensor, shape } of state) checkShape(file, tensor, shape);
      for (const { tensor } of state) known.add(tensor);
    }
    const foreign = [...file.tensors.keys()].find((tensor) => !known.has(tensor));
    if (foreign !== undefined)
      throw new UserError(`${file.file} holds ${foreign}, which this model does not have; the checkpoint belongs to another model.`);
  });
}

/** Puts a checkpoint's weights, or those of its adapter, into a model of the same shape. */
export async function restoreWeights(folder: string, model: CausalLM): Promise<void> {
  await withWeightFiles(folder, model, async (files) => {
    for (const [name, variable] of ownWeights(model)) await assignFrom(fileOf(name, files, folder), name, variable);
  });
}

/** Puts a checkpoint's state of the optimizer into one. @param step updates made so far */
export async function restoreOptimizer(folder: string, optimizer: Optimizer, step: number): Promise<void> {
  await withFile(path.join(folder, OPTIMIZER_FILE), async (file) => {
    for (const [name, parameter] of optimizer.parameters) {
      const keys = Object.keys(optimizer.rule.stateOf(parameter.shape));
      if (!keys.some((key) => file.tensors.has(nameOfState(key, name)))) continue;
      for (const [key, variable] of Object.entries(optimizer.stateOf(name, parameter)))
        await assignFrom(file, nameOfState(key, name), variable);
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
  { transposed, inParts }: CausalLM,
  use: (files: readonly SafetensorsFile[]) => Promise<void>,
): Promise<void> {
  const names = namesIn(folder).filter((name) => name.endsWith('.safetensors') && name !== OPTIMIZER_FILE);
  const files: SafetensorsFile[] = [];
  try {
    for (const name of names) files.push(readTransposed(await openSafetensors(path.join(folder, name)), transposed));
    await use(readWhole(files, inParts));
  } finally {
    for (const file of files) await file.close();
  }
}

function fileOf(name: string, files: readonly SafetensorsFile[], folder: string): SafetensorsFile {
  const file = files.find(({ tensors }) => tensors.has(name));
  if (!file) throw new UserError(`${folder} has no weights for ${name}; it belongs to another model.`);
  return file;
}

function checkShape({ file, tensors }: SafetensorsFile, name: string, expected: readonly number[]): void {
  const shape = tensors.get(name)?.shape ?? [];
  if (shape.join() === expected.join()) return;
  throw new UserError(`${file}: ${name} has shape [${shape}], but the model's is [${expected}]; the checkpoint belongs to another model.`);
}

async function assignFrom(file: SafetensorsFile, name: string, variable: tf.Variable): Promise<void> {
  checkShape(file, name, variable.shape);
  await readInto(variable, file, name);
}
