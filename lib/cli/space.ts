/** Room on the disk, asked for before a run rather than missed at its end. */
import fs from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../errors';
import { existingParent, writeError } from '../files';
import { type CausalLM, type OnnxDtype, ownWeights, type SavedDtype, tiedCopyOf } from '../model';
import type { SFTTrainer } from '../train';
import { keepsBest } from '../train/best';
import { savingSteps } from '../train/cadence';
import { listCheckpoints, resolveCheckpoint, stepOfCheckpoint, unfinishedIn } from '../train/checkpoint';
import type { UpdateRule } from '../train/optimizer';
import { isCheckpointOf } from '../train/run-folder';
import { ruleOf } from '../train/update-rules';

/** Bytes of a saved model, or of its adapter. */
export function bytesOfModel(model: CausalLM, dtype: SavedDtype = 'float32'): number {
  const own = ownWeights(model);
  return (dtype === 'float32' ? 4 : 2) * numbersOf([...own.values(), ...tiedCopyOf(model, own).values()]);
}

/** Bytes of what an optimizer keeps, which lies beside the weights of a checkpoint. */
function bytesOfState(model: CausalLM, { stateOf }: UpdateRule): number {
  const shapes = [...ownWeights(model).values()].flatMap(({ shape }) => Object.values(stateOf(shape)));
  return 4 * shapes.reduce((sum, shape) => sum + shape.reduce((product, length) => product * length, 1), 0);
}

function numbersOf(tensors: Iterable<{ readonly size: number }>): number {
  return [...tensors].reduce((sum, { size }) => sum + size, 0);
}

/** Bytes of a weight in a number format, with its part of a step. */
const BYTES_A_NUMBER: Readonly<Record<OnnxDtype, number>> = { fp32: 4, fp16: 2, q8: 1, q4: 0.625, q4f16: 0.5625 };

/** Bytes of a model exported in number formats. */
export function bytesOfExport({ parameters, adapter }: CausalLM, dtypes: readonly OnnxDtype[]): number {
  // a module that the adapter trains whole is one of the model's
  const numbers = numbersOf(new Set([...parameters.values(), ...(adapter?.parameters.values() ?? [])]));
  return dtypes.reduce((sum, dtype) => sum + numbers * BYTES_A_NUMBER[dtype], 0);
}

/**
 * By how many bytes the files of a run with an output_dir, its model in that folder included, outgrow those that lie on the disk before it;
 * negative where they never do. Whatever replaces something is written beside it first.
 * @throws UserError when there is no complete checkpoint where it is to continue from
 */
export function bytesOfRun({ model, config, plan }: Pick<SFTTrainer, 'model' | 'config' | 'plan'>): number {
  const outputDir = config.outputDir as string;
  const size = bytesOfModel(model);
  const sizeOfCheckpoint = size + bytesOfState(model, ruleOf(config));
  const from = resolveCheckpoint(outputDir, config.resumeFromCheckpoint);
  const resumes = from !== undefined && isCheckpointOf(outputDir, from);
  const before = listCheckpoints(outputDir);
  const removedFirst = [...unfinishedIn(outputDir), ...(resumes ? [] : before.map(({ folder }) => folder))];
  const first = from === undefined ? 0 : stepOfCheckpoint(from);
  const steps = resumes ? before.map(({ step }) => step) : [];
  // the first to go comes first: those of later steps, from before the run went back
  const lying = new Set([...steps.filter((step) => step > first), ...steps.filter((step) => step <= first)]);
  let bytes = -removedFirst.reduce((sum, place) => sum + bytesIn(place), 0);
  let most = bytes;
  const write = (amount: number): void => {
    most = Math.max(most, bytes + amount);
  };
  const keep = (limit: number): void => {
    for (const step of lying) {
      if (lying.size <= limit) return;
      lying.delete(step);
      bytes -= sizeOfCheckpoint;
    }
  };
  const { duringRun, atEnd } = mostKept(config);
  for (const step of savingSteps(config, plan, first)) {
    write(sizeOfCheckpoint);
    if (!lying.delete(step)) bytes += sizeOfCheckpoint;
    lying.add(step);
    keep(duringRun);
  }
  keep(atEnd);
  write(size);
  return most;
}

/** How many checkpoints stay after each save and in the end: while the run goes on, a limit of 1 is not for the best one. */
function mostKept(config: SFTTrainer['config']): { duringRun: number; atEnd: number } {
  const { saveTotalLimit: limit } = config;
  const atEnd = limit ?? Number.POSITIVE_INFINITY;
  return { duringRun: limit === 1 && keepsBest(config) ? 2 : atEnd, atEnd };
}

/** Bytes of a file, or of all files in a folder; what a link leads to is not counted. */
function bytesIn(place: string): number {
  const status = fs.lstatSync(place, { throwIfNoEntry: false });
  if (!status?.isDirectory()) return status?.size ?? 0;
  return fs.readdirSync(place).reduce((sum, name) => sum + bytesIn(path.join(place, name)), 0);
}

/** @throws UserError when the disk of a folder or file, which need not exist yet, has less room than that */
export function checkSpace(place: string, needed: number): void {
  const free = freeBytes(place);
  if (free >= needed) return;
  throw new UserError(
    `The disk of ${place} has ${megabytes(free)} free, but about ${megabytes(needed)} are needed; free some space, or write to another disk.`,
  );
}

function freeBytes(place: string): number {
  try {
    const { bavail, bsize } = fs.statfsSync(existingParent(place));
    return bavail * bsize;
  } catch (error) {
    throw writeError(place, error);
  }
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
