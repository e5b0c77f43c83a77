/** Updates in place are those of plain tfjs operations, which other devices make. */
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs-core';
import * as engine from '../../lib/engine';
import * as composed from '../../lib/engine/composed-updates';
import { assertClose, random } from './tensors';

before(async () => {
  await engine.useDevice('cpu');
});

interface Case {
  shape: number[];
  /** Shapes of what is kept beside the weights. */
  kept: number[][];
  inPlace(variables: tf.Variable[]): void;
  compose(variables: tf.Variable[]): void;
}

/** Both ways of one update of weights and what is kept, from a gradient, which comes last. */
function waysOf<U>(update: (updates: readonly U[]) => void, compose: (update: U) => void, make: (variables: tf.Variable[]) => U) {
  return {
    inPlace: (variables: tf.Variable[]) => update([make(variables)]),
    compose: (variables: tf.Variable[]) => compose(make(variables)),
  };
}

const common = { learningRate: 0.1, weightDecay: 0.1, gradientScale: 0.7 };

const adamW = waysOf(engine.adamW, composed.adamW, ([parameter, m, v, gradient]) => {
  const settings = { ...common, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 3 };
  return { parameter, moments: { m, v }, gradient, settings };
});

const adafactorSettings = { ...common, beta2: 0.4, epsilon: 1e-30, clipThreshold: 1 };
const ofMatrix = waysOf(engine.adafactor, composed.adafactor, ([parameter, rows, columns, gradient]) => {
  return { parameter, squares: { rows, columns }, gradient, settings: adafactorSettings };
});
const ofVector = waysOf(engine.adafactor, composed.adafactor, ([parameter, all, gradient]) => {
  return { parameter, squares: { all }, gradient, settings: adafactorSettings };
});

const sgdSettings = { ...common, momentum: 0, dampening: 0, nesterov: false, isFirst: false };
const sgd = waysOf(engine.sgd, composed.sgd, ([parameter, gradient]) => ({ parameter, gradient, settings: sgdSettings }));
const withMomentum = (more: object) =>
  waysOf(engine.sgd, composed.sgd, ([parameter, buffer, gradient]) => {
    return { parameter, buffer, gradient, settings: { ...sgdSettings, momentum: 0.9, ...more } };
  });

// shapes that fill no vector of four numbers, no piece of 16,384, or more than one
const SHAPES = [
  [5, 4],
  [3, 20_011],
  [20_011, 3],
  [1, 9],
  [9, 1],
  [130, 577],
  [16, 16_384],
];
const STACKS = [
  [3, 5, 4],
  [2, 130, 577],
  [70, 1, 4],
];
const VECTORS = [[13], [1], [], [16_385]];

const CASES: Record<string, Case[]> = {
  adamW: [...SHAPES, ...STACKS, ...VECTORS].map((shape) => ({ shape, kept: [shape, shape], ...adamW })),
  adafactor: [
    ...SHAPES.map((shape) => ({ shape, kept: [[shape[0]], [shape[1]]], ...ofMatrix })),
    ...STACKS.map(([count, rows, columns]) => ({
      shape: [count, rows, columns],
      kept: [
        [count, rows],
        [count, columns],
      ],
      ...ofMatrix,
    })),
    ...VECTORS.map((shape) => ({ shape, kept: [shape], ...ofVector })),
  ],
  sgd: [...SHAPES, ...VECTORS].map((shape) => ({ shape, kept: [], ...sgd })),
  'sgd with momentum': [{ dampening: 0.1 }, { nesterov: true }, { isFirst: true, dampening: 0.5 }].flatMap((more) =>
    [...SHAPES, ...VECTORS].map((shape) => ({ shape, kept: [shape], ...withMomentum(more) })),
  ),
};

for (const [name, cases] of Object.entries(CASES)) {
  test(`${name}: in place equals plain operations, and leaves copies alone`, () => {
    for (const { shape, kept, inPlace, compose } of cases) {
      tf.tidy(() => {
        const gradient = random(shape);
        const start = [random(shape), ...kept.map((own) => tf.abs(random(own))), gradient];
        const [one, other] = [0, 1].map(() => start.map((x) => tf.variable(x)));
        const copy = tf.clone(one[0]);
        inPlace(one);
        compose(other);
        for (let i = 0; i < start.length - 1; i++) assertClose(one[i], other[i], 2e-6, `${shape}: ${i === 0 ? 'parameter' : `state ${i}`}`);
        assertClose(copy, start[0], 0, `${shape}: a copy of the parameter`);
        assertClose(one[start.length - 1], tf.zeros(shape), 0, `${shape}: the gradient, used up`);
        for (const variable of [...one, ...other]) variable.dispose();
      });
    }
  });
}
