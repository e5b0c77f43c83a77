/** Room on the disk, asked for before a run rather than missed at its end. */
import fs from 'node:fs';
import { UserError } from '../errors';
import { existingParent, writeError } from '../files';
import { type CausalLM, ownWeights } from '../model';

/** Bytes that lie on the disk at a time: the model or its adapter, and checkpoints, each with AdamW's two moments beside it. */
export function bytesNeeded(model: CausalLM, checkpoints: number): number {
  const values = [...ownWeights(model).values()].reduce((sum, { size }) => sum + size, 0);
  return 4 * values * (1 + 3 * checkpoints);
}

/** @throws UserError when the disk under a folder, which need not exist yet, has less room than that */
export function checkSpace(folder: string, needed: number): void {
  const free = freeBytes(folder);
  if (free >= needed) return;
  throw new UserError(
    `The disk of ${folder} has ${megabytes(free)} free, but this run will write about ${megabytes(needed)}; free some space or name an output_dir on another disk.`,
  );
}

function freeBytes(folder: string): number {
  try {
    const { bavail, bsize } = fs.statfsSync(existingParent(folder));
    return bavail * bsize;
  } catch (error) {
    throw writeError(folder, error);
  }
}

function megabytes(bytes: number): string {
  return `${Math.ceil(bytes / 1e6)} MB`;
}
