/**
 * Dynamic loss scaling: in float16 small gradients vanish and large ones overflow, so the loss is multiplied by a factor
 * that is as large as the gradients bear (Micikevicius et al. 2018). The numbers are those of torch.amp.GradScaler.
 */
import { currentDevice, currentPrecision, usePrecision } from '../engine';

const FIRST = 65536;
const GROWTH = 2;
const BACKOFF = 0.5;
/** Updates without an overflow after which the scale grows. */
const GROWTH_INTERVAL = 2000;

/** The scale of the loss, part of a run's state. */
export interface LossScale {
  scale: number;
  /** Updates since the scale changed. */
  updates: number;
  /** Steps of the run that made no update, because a gradient overflowed. */
  skipped: number;
}

export function firstLossScale(): LossScale {
  return { scale: FIRST, updates: 0, skipped: 0 };
}

/** The scale for the next step, after one whose gradients had this norm; a norm that is not finite means an overflow. */
export function nextLossScale({ scale, updates, skipped }: LossScale, norm: number): LossScale {
  if (!Number.isFinite(norm)) return { scale: scale * BACKOFF, updates: 0, skipped: skipped + 1 };
  return updates + 1 === GROWTH_INTERVAL ? { scale: scale * GROWTH, updates: 0, skipped } : { scale, updates: updates + 1, skipped };
}

/** What changed between two steps, as a line for people; undefined when nothing did. */
export function describeChange(before: LossScale, after: LossScale, step: number): string | undefined {
  if (after.skipped > before.skipped)
    return `Step ${step}: a gradient overflowed float16, so this step made no update; loss scale ${after.scale}.`;
  return after.scale === before.scale ? undefined : `Step ${step}: loss scale ${after.scale}.`;
}

/**
 * Makes the engine compute products of matrices in float16, where `fp16` asks for it and the device can.
 * @returns whether the loss needs a scale now, and what to tell the user
 */
export async function startMixedPrecision(fp16: boolean): Promise<{ mixed: boolean; notes: string[] }> {
  const { name, float16 } = await currentDevice();
  if (!fp16) return { mixed: false, notes: [] };
  // The engine's own setting goes before: float16 can be had on every device, if only to try it.
  if (!float16 && currentPrecision() === 'float32') {
    const reason = name === 'webgpu' ? 'the GPU has no shader-f16, so everything ' : '';
    return { mixed: false, notes: [`fp16 has no effect here: ${reason}computes in float32.`] };
  }
  usePrecision('float16');
  return { mixed: true, notes: [] };
}
