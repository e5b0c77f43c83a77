/** Copies of good checkpoints, to be spoilt: what the tests of reading checkpoints share. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../../lib/errors';
import { loadModel } from '../../lib/model';
import { fixtures } from './support';

export const scratch = mkdtempSync(path.join(tmpdir(), 'tunebook-checkpoint-'));
after(() => rmSync(scratch, { recursive: true }));

let copies = 0;

/** A copy of a good checkpoint, to be spoilt. */
export function copyOf(variant: string): string {
  const folder = path.join(scratch, `${variant}-${copies++}`);
  cpSync(path.join(fixtures, variant), folder, { recursive: true });
  return folder;
}

export function changeJson(file: string, change: (json: Record<string, unknown>) => void): void {
  const json = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  change(json);
  writeFileSync(file, JSON.stringify(json));
}

export const changeConfig = (folder: string, change: (json: Record<string, unknown>) => void) =>
  changeJson(path.join(folder, 'config.json'), change);

/** The model must be refused with one sentence that names the given things, and leave no tensor behind. */
export async function refused(folder: string, ...named: (string | RegExp)[]): Promise<void> {
  const tensors = tf.memory().numTensors;
  await assert.rejects(loadModel(folder), (error: Error) => {
    assert.ok(error instanceof UserError, error.stack);
    for (const part of named)
      assert.match(error.message, part instanceof RegExp ? part : new RegExp(part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
    assert.doesNotMatch(error.message, /\n/);
    return true;
  });
  assert.equal(tf.memory().numTensors, tensors);
}
