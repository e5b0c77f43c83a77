/**
 * The update rules: what AdamW, Adafactor and SGD keep for a parameter, and the engine's operation that updates it. Numbers are those of torch
 * and transformers, as Trainer sets them up; so are the names of what is kept.
 */
import { adafactor, adamW, sgd } from '../engine';
import type { SFTConfig } from './config';
import type { UpdateRule } from './optimizer';
import { readOptimArgs, type SgdArguments } from './optimizer-settings';

/** The rule that a configuration names. */
export function ruleOf({ optim, optimArgs, adamBeta1: beta1, adamBeta2: beta2, adamEpsilon: epsilon }: SFTConfig): UpdateRule {
  if (optim === 'adafactor') return adafactorRule();
  if (optim === 'sgd') return sgdRule(readOptimArgs(optimArgs));
  return adamWRule({ beta1, beta2, epsilon });
}

/** torch.optim.AdamW. It keeps running means of the gradient and of its square. */
export function adamWRule({ beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = {}): UpdateRule {
  return {
    stateOf: (shape) => ({ exp_avg: shape, exp_avg_sq: shape }),
    update: (updates, step) =>
      adamW(
        updates.map(({ parameter, gradient, state: { exp_avg: m, exp_avg_sq: v }, weightDecay }) => {
          return { parameter, gradient, moments: { m, v }, settings: { ...step, beta1, beta2, epsilon, weightDecay } };
        }),
      ),
  };
}

/**
 * transformers' Adafactor, with `scale_parameter` and `relative_step` off. Of a matrix, and of each of several in one parameter, it keeps the mean
 * squares of its rows and columns alone.
 * A matrix that checkpoints hold transposed has them the other way round than there.
 */
function adafactorRule(): UpdateRule {
  const constant = { epsilon: 1e-30, clipThreshold: 1 };
  return {
    stateOf: (shape): Record<string, number[]> =>
      shape.length < 2
        ? { exp_avg_sq: shape }
        : { exp_avg_sq_row: shape.slice(0, -1), exp_avg_sq_col: [...shape.slice(0, -2), ...shape.slice(-1)] },
    update: (updates, { step, ...settings }) =>
      adafactor(
        updates.map(({ parameter, gradient, state: { exp_avg_sq_row: rows, exp_avg_sq_col: columns, exp_avg_sq: all }, weightDecay }) => {
          // the mean of all squares at first, and a longer and longer memory
          const beta2 = 1 - step ** -0.8;
          return {
            parameter,
            gradient,
            squares: rows ? { rows, columns } : { all },
            settings: { ...constant, ...settings, beta2, weightDecay },
          };
        }),
      ),
  };
}

/** torch.optim.SGD. With momentum it keeps a buffer of the parameter's shape. */
function sgdRule({ momentum = 0, dampening = 0, nesterov = false }: Partial<SgdArguments> = {}): UpdateRule {
  return {
    stateOf: (shape) => (momentum > 0 ? { momentum_buffer: shape } : ({} as Record<string, number[]>)),
    update: (updates, { learningRate, gradientScale }) =>
      sgd(
        updates.map(({ parameter, gradient, state: { momentum_buffer: buffer }, isFirst, weightDecay }) => {
          const settings = { learningRate, gradientScale, momentum, dampening, nesterov, isFirst, weightDecay };
          return { parameter, gradient, buffer, settings };
        }),
      ),
  };
}
