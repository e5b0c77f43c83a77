/**
 * Learning-rate schedules: pure functions of the step, after transformers' optimization.py.
 * Each gives the factor on `learning_rate` for the optimizer step number `step`, counted from 0.
 */
import type { SFTConfig } from './config';

/** Factor on the learning rate at a step counted from 0. */
export type Schedule = (step: number) => number;

interface Cosine {
  warmup: number;
  total: number;
  /** Waves over the run; 0.5 is one fall. */
  cycles?: number;
  /** The factor at the end of a fall; above 1 the rate rises. */
  floor?: number;
}

/** 1 throughout. */
export const constant: Schedule = () => 1;

/** Rises from 0 to 1 in `warmup` steps, then stays. */
export function constantWithWarmup(warmup: number): Schedule {
  return (step) => (step < warmup ? step / Math.max(1, warmup) : 1);
}

/** Rises from 0 to 1 in `warmup` steps, then falls in a straight line to 0 at step `total`. */
export function linear(warmup: number, total: number): Schedule {
  return (step) => (step < warmup ? step / Math.max(1, warmup) : Math.max(0, (total - step) / Math.max(1, total - warmup)));
}

/** Rises from 0 to 1 in `warmup` steps, then follows a cosine down to `floor` at step `total` (Loshchilov & Hutter 2017). */
export function cosine({ warmup, total, cycles = 0.5, floor = 0 }: Cosine): Schedule {
  return (step) => {
    if (step < warmup) return step / Math.max(1, warmup);
    const progress = (step - warmup) / Math.max(1, total - warmup);
    const wave = 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress));
    return Math.max(0, wave * (1 - floor) + floor);
  };
}

/** Steps of warmup in a run of `total` steps: `warmup_steps`, or its share when below 1, or else `warmup_ratio` of all. */
export function warmupSteps(config: Pick<SFTConfig, 'warmupSteps' | 'warmupRatio'>, total: number): number {
  if (config.warmupSteps >= 1) return config.warmupSteps;
  return Math.ceil(total * (config.warmupSteps > 0 ? config.warmupSteps : config.warmupRatio));
}

/** The schedule that a configuration asks for, over `total` optimizer steps. */
export function makeSchedule(config: SFTConfig, total: number): Schedule {
  const warmup = warmupSteps(config, total);
  const { num_cycles: cycles, min_lr: minLr, min_lr_rate: minLrRate } = config.lrSchedulerKwargs;
  switch (config.lrSchedulerType) {
    case 'linear':
      return linear(warmup, total);
    case 'cosine':
      return cosine({ warmup, total, cycles });
    case 'constant':
      return constant;
    case 'constant_with_warmup':
      return constantWithWarmup(warmup);
    case 'cosine_with_min_lr':
      return cosine({ warmup, total, cycles, floor: minLrRate ?? (minLr ?? 0) / config.learningRate });
  }
}
