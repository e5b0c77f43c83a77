/**
 * Learning-rate schedules: pure functions of the step, after transformers' optimization.py.
 * Each gives the factor on `learning_rate` for the optimizer step number `step`, counted from 0.
 */
import type { SFTConfig } from './config';
import { type Course, LR_END } from './schedule-settings';

/** Factor on the learning rate at a step counted from 0. */
export type Schedule = (step: number) => number;

interface Span {
  /** Steps in which the rate rises. */
  warmup: number;
  /** Steps of the run. */
  total: number;
}

interface Cosine extends Span {
  /** Waves over the run; 0.5 is one fall. */
  cycles?: number;
  /** The factor at the end of a fall; above 1 the rate rises. */
  floor?: number;
}

/** 1 throughout. */
const constant: Schedule = () => 1;

/** Rises from 0 to 1 in `warmup` steps, then stays. */
function constantWithWarmup(warmup: number): Schedule {
  return (step) => (step < warmup ? step / Math.max(1, warmup) : 1);
}

/** Rises from 0 to 1 in `warmup` steps, then falls in a straight line to 0 at step `total`. */
function linear(warmup: number, total: number): Schedule {
  return (step) => (step < warmup ? step / Math.max(1, warmup) : Math.max(0, (total - step) / Math.max(1, total - warmup)));
}

/** Rises from 0 to 1 in `warmup` steps, then follows a cosine down to `floor` at step `total` (Loshchilov & Hutter 2017). */
function cosine({ warmup, total, cycles = 0.5, floor = 0 }: Cosine): Schedule {
  return (step) => {
    if (step < warmup) return step / Math.max(1, warmup);
    const progress = (step - warmup) / Math.max(1, total - warmup);
    const wave = 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress));
    return Math.max(0, wave * (1 - floor) + floor);
  };
}

/**
 * As `cosine`, but for two things: the first step of warmup has a rate already, `warmupRate` or else one step's share, and the fall is one
 * step ahead, so that the last step has the rate at the end.
 */
function cosineFromFirstStep({ warmup, total, cycles = 0.5, floor = 0, warmupRate }: Cosine & { warmupRate?: number }): Schedule {
  const fall = cosine({ warmup: 0, total: Math.max(1, total - warmup), cycles, floor });
  return (step) => {
    if (step >= warmup) return fall(step - warmup + 1);
    if (warmupRate === undefined) return (step + 1) / Math.max(1, warmup);
    return warmupRate + ((1 - warmupRate) * step) / Math.max(1, warmup - 1);
  };
}

/** Rises from 0 to 1 in `warmup` steps, then falls from 1 to 0 along a cosine, `cycles` times (Loshchilov & Hutter 2017). */
function cosineWithRestarts({ warmup, total, cycles = 1 }: Span & { cycles?: number }): Schedule {
  return (step) => {
    if (step < warmup) return step / Math.max(1, warmup);
    const progress = (step - warmup) / Math.max(1, total - warmup);
    return progress >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((cycles * progress) % 1))));
  };
}

/** Rises from 0 to 1 in `warmup` steps, then falls to `end` at step `total`, as a power of what is left. */
function polynomial({ warmup, total, end, power = 1 }: Span & { end: number; power?: number }): Schedule {
  return (step) => {
    if (step < warmup) return step / Math.max(1, warmup);
    if (step > total) return end;
    const left = 1 - (step - warmup) / Math.max(1, total - warmup);
    return (1 - end) * left ** power + end;
  };
}

/** Rises from 0 to 1 in `warmup` steps, then falls with one over the root of the steps, in units of `timescale`. */
function inverseSqrt(warmup: number, timescale = warmup || 10_000): Schedule {
  return (step) => (step < warmup ? step / Math.max(1, warmup) : 1 / Math.sqrt((step + timescale - warmup) / timescale));
}

interface StableDecay extends Span {
  /** Steps of the fall. */
  decay: number;
  /** Steps between rise and fall. */
  stable?: number;
  rise?: Course;
  fall?: Course;
  /** The factor before the rise and after the fall. */
  floor?: number;
  /** Waves of a fall along a cosine. */
  cycles?: number;
}

/** Rises, stays and falls, each for its own number of steps (Hu et al. 2024, "MiniCPM"). */
function warmupStableDecay(settings: StableDecay): Schedule {
  const { warmup, total, decay, stable = total - warmup - decay, rise = 'linear', fall = 'cosine', floor = 0, cycles = 0.5 } = settings;
  const risen: Readonly<Record<Course, (progress: number) => number>> = {
    linear: (progress) => progress,
    cosine: (progress) => 0.5 * (1 - Math.cos(Math.PI * progress)),
    '1-sqrt': (progress) => 1 - Math.sqrt(1 - progress),
  };
  const fallen: typeof risen = {
    linear: (progress) => 1 - progress,
    cosine: (progress) => 0.5 * (1 + Math.cos(Math.PI * cycles * 2 * progress)),
    '1-sqrt': (progress) => 1 - Math.sqrt(progress),
  };
  const above = (factor: number): number => Math.max(0, factor * (1 - floor) + floor);
  return (step) => {
    if (step < warmup) return above(risen[rise](step / Math.max(1, warmup)));
    const since = step - warmup - stable;
    if (since < 0) return 1;
    return since < decay ? above(fallen[fall](since / Math.max(1, decay))) : floor;
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
  const kwargs = config.lrSchedulerKwargs;
  const cycles = kwargs.num_cycles;
  const floor = kwargs.min_lr_rate ?? (kwargs.min_lr ?? 0) / config.learningRate;
  switch (config.lrSchedulerType) {
    case 'linear':
      return linear(warmup, total);
    case 'cosine':
      return cosine({ warmup, total, cycles });
    case 'cosine_with_restarts':
      return cosineWithRestarts({ warmup, total, cycles });
    case 'cosine_with_min_lr':
      return cosine({ warmup, total, cycles, floor });
    case 'cosine_warmup_with_min_lr':
      return cosineFromFirstStep({ warmup, total, cycles, floor, warmupRate: kwargs.warmup_lr_rate });
    case 'polynomial':
      return polynomial({ warmup, total, end: (kwargs.lr_end ?? LR_END) / config.learningRate, power: kwargs.power });
    case 'inverse_sqrt':
      return inverseSqrt(warmup, kwargs.timescale);
    case 'constant':
      return constant;
    case 'constant_with_warmup':
      return constantWithWarmup(warmup);
    case 'warmup_stable_decay':
      return warmupStableDecay({
        ...{ warmup, total, decay: kwargs.num_decay_steps ?? 0, stable: kwargs.num_stable_steps, cycles },
        ...{ rise: kwargs.warmup_type, fall: kwargs.decay_type, floor: kwargs.min_lr_ratio },
      });
  }
}
