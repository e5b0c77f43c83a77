/** The settings of learning-rate schedules: which there are, and what `lr_scheduler_kwargs` each takes, by transformers' functions. */
import { choice, type FieldValue, number, table } from './fields';

export const LR_SCHEDULERS = [
  ...(['linear', 'cosine', 'cosine_with_restarts', 'cosine_with_min_lr', 'cosine_warmup_with_min_lr'] as const),
  ...(['polynomial', 'inverse_sqrt', 'constant', 'constant_with_warmup', 'warmup_stable_decay'] as const),
] as const;

export type LrSchedulerType = (typeof LR_SCHEDULERS)[number];

/** How a rate rises or falls. */
const COURSES = ['linear', 'cosine', '1-sqrt'] as const;
export type Course = (typeof COURSES)[number];

const amount = number(0, {}, '');
const course = choice('linear', COURSES, '');

export const lrSchedulerKwargsField = table(
  {
    ...{ min_lr: amount, min_lr_rate: amount, num_cycles: amount, power: amount, lr_end: amount, timescale: amount },
    ...{ warmup_lr_rate: amount, num_decay_steps: amount, num_stable_steps: amount, min_lr_ratio: amount },
    ...{ warmup_type: course, decay_type: course },
  },
  'What shapes a schedule further, such as {min_lr_rate: 0.1}, {num_cycles: 2} or {num_decay_steps: 100}.',
);

export type LrSchedulerKwargs = FieldValue<typeof lrSchedulerKwargsField>;

/** What each schedule takes; get_scheduler leaves all out where there is no entry. */
const TAKEN: { readonly [K in LrSchedulerType]?: ReadonlyArray<keyof LrSchedulerKwargs> } = {
  linear: [],
  cosine: ['num_cycles'],
  cosine_with_restarts: ['num_cycles'],
  cosine_with_min_lr: ['num_cycles', 'min_lr', 'min_lr_rate'],
  cosine_warmup_with_min_lr: ['num_cycles', 'min_lr', 'min_lr_rate', 'warmup_lr_rate'],
  polynomial: ['lr_end', 'power'],
  inverse_sqrt: ['timescale'],
  warmup_stable_decay: ['num_decay_steps', 'num_stable_steps', 'warmup_type', 'decay_type', 'min_lr_ratio', 'num_cycles'],
};

/** Where a polynomial's fall ends. */
export const LR_END = 1e-7;

interface Settings {
  readonly lrSchedulerType: LrSchedulerType;
  readonly lrSchedulerKwargs: LrSchedulerKwargs;
  readonly learningRate: number;
}

/** Makes sure that a schedule has what it needs, and nothing else. @param fail throws a sentence */
export function checkSchedule(
  { lrSchedulerType: type, lrSchedulerKwargs: kwargs, learningRate }: Settings,
  fail: (s: string) => never,
): void {
  const taken = TAKEN[type];
  const other = taken && (Object.keys(kwargs) as Array<keyof LrSchedulerKwargs>).find((key) => !taken.includes(key));
  if (other !== undefined) {
    const takers = LR_SCHEDULERS.filter((name) => TAKEN[name]?.includes(other)).join(', ');
    fail(`lr_scheduler_kwargs has ${other}, which lr_scheduler_type ${type} does not take; remove it, or choose one that does: ${takers}.`);
  }
  if (taken?.includes('min_lr')) checkFloor(type, kwargs, learningRate, fail);
  if (type === 'warmup_stable_decay' && kwargs.num_decay_steps === undefined) {
    fail('lr_scheduler_type warmup_stable_decay needs num_decay_steps in lr_scheduler_kwargs, such as {num_decay_steps: 100}.');
  }
  const { lr_end: end = LR_END, timescale = 1 } = kwargs;
  if (type === 'polynomial' && end >= learningRate) {
    fail(`lr_end in lr_scheduler_kwargs is ${end}, but must be below learning_rate, which is ${learningRate}; choose another.`);
  }
  if (timescale <= 0) fail(`timescale in lr_scheduler_kwargs is ${timescale}, but must be above 0.`);
}

function checkFloor(type: LrSchedulerType, kwargs: LrSchedulerKwargs, learningRate: number, fail: (s: string) => never): void {
  const { min_lr: minLr, min_lr_rate: minLrRate } = kwargs;
  if ((minLr === undefined) === (minLrRate === undefined)) {
    fail(`lr_scheduler_type ${type} needs exactly one of min_lr and min_lr_rate in lr_scheduler_kwargs, such as {min_lr_rate: 0.1}.`);
  }
  if (minLr !== undefined && learningRate === 0) {
    fail('min_lr in lr_scheduler_kwargs is a share of learning_rate, which is 0; choose a learning_rate above 0.');
  }
}

/** Whether a schedule takes any; TRL accepts them with the constant schedules and does nothing with them. */
export function takesKwargs(type: LrSchedulerType): boolean {
  return TAKEN[type] !== undefined;
}
