/**
 * The checkpoint of the best evaluation. As in transformers it is the last one that was written right after an evaluation that was the
 * best until then; a better evaluation without a checkpoint does not take its place.
 */
import * as path from 'node:path';
import { realPath } from '../files';
import type { CausalLM } from '../model';
import { decidingMetric } from './best';
import { checkpointFolder, isCheckpoint } from './checkpoint';
import type { SFTConfig } from './config';
import { formatNumber } from './format';
import { restoreWeights } from './restore';
import type { RunState } from './run-state';

/**
 * Where the best checkpoint of a run lies that goes on from `checkpoint`: beside it, since a run's folder may have been moved, or else
 * where it lay.
 * @returns its folder, null where there is none, and what to tell of one that is gone
 */
export function findBest({ bestCheckpoint }: RunState, checkpoint: string): { folder: string | null; note?: string } {
  const beside = (name: string): string => path.join(path.dirname(realPath(checkpoint)), name);
  if (bestCheckpoint === null) return { folder: null };
  const folder = [beside(path.basename(bestCheckpoint)), bestCheckpoint].find(isCheckpoint);
  return folder === undefined ? { folder: null, note: `The best checkpoint so far, ${bestCheckpoint}, is no longer there.` } : { folder };
}

/**
 * Ends a run with the weights of its best checkpoint; where there is none, the model stays as it is.
 * @returns what to tell: which weights the model has now
 */
export async function loadBest({ bestCheckpoint, best }: RunState, config: SFTConfig, model: CausalLM): Promise<string> {
  const last = 'so load_best_model_at_end leaves the model with its last weights.';
  if (!bestCheckpoint) return `No checkpoint is that of a best evaluation, ${last}`;
  if (!isCheckpoint(bestCheckpoint)) return `The best checkpoint, ${bestCheckpoint}, is no longer there, ${last}`;
  await restoreWeights(bestCheckpoint, model);
  const name = path.basename(bestCheckpoint);
  // the best evaluation may have no checkpoint
  const figure =
    best && name === path.basename(checkpointFolder('', best.step)) ? ` (eval_${decidingMetric(config)} ${formatNumber(best.metric)})` : '';
  return `The model has the weights of ${name}${figure}, as load_best_model_at_end says.`;
}
