/** Helpers of the model tests. */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { varyingSizes } from '../../lib/engine';
import { type CausalLM, disposeBatch, makeBatch } from '../../lib/model';
import { logitsOf as logitsOfStates } from '../../lib/model/logits';
import { readSafetensors, writeSafetensors } from '../../lib/model/safetensors';
import type { TokenBatch } from '../../lib/model/types';
import { projectRoot } from '../../lib/project';

/** Tiny checkpoints of every layout, made by make.py there. */
export const fixtures = path.join(projectRoot, 'test/model/fixtures');

/** Asserts that two lists of numbers differ nowhere by more than `tolerance`. */
export function closeTo(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++) {
    assert.ok(Math.abs(found[i] - expected[i]) <= tolerance, `at ${i}: ${found[i]} instead of ${expected[i]}`);
  }
}

/** Logits of one sequence, a row for each position. */
export async function logitsOf(model: CausalLM, ids: number[]): Promise<number[][]> {
  const [rows] = await packedLogits(model, [ids]);
  return rows;
}

/** Logits of the tokens of a row, which is disposed. */
export async function batchLogits(model: CausalLM, batch: TokenBatch): Promise<number[][]> {
  const logits = tf.tidy(() => logitsOfStates(model, model.hiddenStates(batch)));
  const rows = await logits.array();
  logits.dispose();
  disposeBatch(batch);
  return rows;
}

/** Logits of several sequences computed in one packed row. */
export async function packedLogits(model: CausalLM, sequences: number[][]): Promise<number[][][]> {
  varyingSizes({ tokens: sequences.flat().length });
  const rows = await batchLogits(model, makeBatch(sequences));
  let start = 0;
  return sequences.map(({ length }) => {
    start += length;
    return rows.slice(start - length, start);
  });
}

/** Tensors of a file, by name. */
export type Tensors = Map<string, { shape: readonly number[]; data: Float32Array }>;

/** Changes the tensors of a single-file checkpoint. */
export async function changeTensors(folder: string, change: (tensors: Tensors) => void): Promise<void> {
  const file = path.join(folder, 'model.safetensors');
  const tensors = await readSafetensors(file);
  change(tensors);
  await writeSafetensors(
    file,
    [...tensors].map(([name, { shape, data }]) => ({ name, shape, data: () => data })),
  );
}
