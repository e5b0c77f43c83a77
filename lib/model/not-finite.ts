/** What is said when a model computes no numbers. */
import { UserError } from '../errors';
import type { CausalLM } from './types';

/** Whether all are numbers. */
export function areFinite(values: ArrayLike<number>): boolean {
  let sum = 0;
  // one that is infinite or NaN makes the sum so; finite ones in float32 cannot
  for (let i = 0; i < values.length; i++) sum += values[i];
  return Number.isFinite(sum);
}

/** The error about logits or losses that are NaN or infinite. */
export function notFinite({ source }: CausalLM): UserError {
  return new UserError(
    `The model ${source} computes NaN or infinity in place of numbers: its weights are damaged, or its training diverged; ` +
      'load another checkpoint, or train again with a lower learning rate.',
  );
}
