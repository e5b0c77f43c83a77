/** Gradients of the fused kernels, registered with tfjs's automatic differentiation. */
import * as tf from '@tensorflow/tfjs-core';
import { ADAPTED_PARTS, type ExpertPart, factorNames, KERNEL_NAMES, kindOf } from '../expert-parts';

type Tensors = Record<string, tf.Tensor>;

const run = <T>(name: string, inputs: Tensors, attrs: tf.NamedAttrMap = {}): T =>
  tf.engine().runKernel(name, inputs, attrs) as unknown as T;

const firstOf = (dy: tf.Tensor | tf.Tensor[]): tf.Tensor => (Array.isArray(dy) ? dy[0] : dy);

/**
 * Called once, when the backend is registered. A kernel that computes several gradients runs when the gradient function
 * is called, not when the first of them is asked for: tfjs asks inside a tidy, which would dispose of the others.
 */
export function registerFusedGradients(): void {
  tf.registerGradient({
    kernelName: 'RmsNorm',
    inputsToSave: ['x', 'weight'],
    outputsToSave: [false, true],
    gradFunc: (dy, [x, weight, inverse]) => {
      const gradients = run<tf.Tensor[]>('RmsNormGrad', { dy: firstOf(dy), x, weight, inverse });
      return { x: () => gradients[0], weight: () => gradients[1] };
    },
  });
  tf.registerGradient({
    kernelName: 'LayerNorm',
    inputsToSave: ['x', 'weight'],
    outputsToSave: [false, true, true],
    gradFunc: (dy, [x, weight, mean, inverse]) => {
      const gradients = run<tf.Tensor[]>('LayerNormGrad', { dy: firstOf(dy), x, weight, mean, inverse });
      return { x: () => gradients[0], weight: () => gradients[1], bias: () => gradients[2] };
    },
  });
  tf.registerGradient({
    kernelName: 'Rotary',
    inputsToSave: ['cos', 'sin'],
    gradFunc: (dy, [cos, sin], attrs) => ({ x: () => run('Rotary', { x: firstOf(dy), cos, sin: tf.neg(sin) }, attrs) }),
  });
  tf.registerGradient({
    kernelName: 'SwiGlu',
    inputsToSave: ['gate', 'up'],
    gradFunc: (dy, [gate, up]) => {
      const gradients = run<tf.Tensor[]>('SwiGluGrad', { dy: firstOf(dy), gate, up });
      return { gate: () => gradients[0], up: () => gradients[1] };
    },
  });
  tf.registerGradient({
    kernelName: 'Activation',
    inputsToSave: ['x'],
    gradFunc: (dy, [x], attrs) => ({ x: () => run('ActivationGrad', { dy: firstOf(dy), x }, attrs) }),
  });
  tf.registerGradient({
    kernelName: 'Dropout',
    inputsToSave: ['kept'],
    gradFunc: (dy, [kept], attrs) => ({ x: () => run('Dropout', { x: firstOf(dy), kept }, { ...attrs, way: 'back' }) }),
  });
  tf.registerGradient({
    kernelName: 'Embedding',
    inputsToSave: ['weight', 'ids'],
    gradFunc: (dy, [weight, ids]) => ({ weight: () => run('ScatterRows', { rows: firstOf(dy), ids }, { count: weight.shape[0] }) }),
  });
  for (const [kernelName, bits] of [
    ['SegmentAttention', []],
    ['SegmentAttentionDropout', ['kept']],
  ] as const)
    tf.registerGradient({
      kernelName,
      inputsToSave: ['q', 'k', 'v', 'blocks', 'groups', 'slots', ...bits],
      outputsToSave: [true],
      gradFunc: (dy, [q, k, v, blocks, groups, slots, ...others], attrs) => {
        const y = others[others.length - 1];
        const inputs = { dy: firstOf(dy), q, k, v, y, blocks, groups, slots, ...(bits.length > 0 && { kept: others[0] }) };
        const gradients = run<tf.Tensor[]>('SegmentAttentionGrad', inputs, attrs);
        return { q: () => gradients[0], k: () => gradients[1], v: () => gradients[2] };
      },
    });
  tf.registerGradient({
    kernelName: 'SegmentAttentionSums',
    inputsToSave: ['q', 'k', 'v', 'blocks', 'groups', 'slots'],
    outputsToSave: [true, false],
    gradFunc: (dys, [q, k, v, blocks, groups, slots, y], attrs) => {
      const [dy, dSums] = dys as unknown as tf.Tensor[];
      const gradients = run<tf.Tensor[]>('SegmentAttentionGrad', { dy, q, k, v, y, blocks, groups, slots, dSums }, attrs);
      return { q: () => gradients[0], k: () => gradients[1], v: () => gradients[2] };
    },
  });
  tf.registerGradient({
    kernelName: 'GatedDelta',
    inputsToSave: ['q', 'k', 'v', 'g', 'beta', 'goesOn'],
    outputsToSave: [false, true, true],
    gradFunc: (dy, [q, k, v, g, beta, goesOn, before, solved], attrs) => {
      const inputs = { dy: firstOf(dy), q, k, v, g, beta, goesOn, before, solved };
      const gradients = run<tf.Tensor[]>('GatedDeltaGrad', inputs, attrs);
      return Object.fromEntries(['q', 'k', 'v', 'g', 'beta'].map((name, i) => [name, () => gradients[i]]));
    },
  });
  tf.registerGradient({
    kernelName: 'StateSpace',
    inputsToSave: ['q', 'k', 'v', 'g', 'goesOn'],
    outputsToSave: [false, true],
    gradFunc: (dy, [q, k, v, g, goesOn, before], attrs) => {
      const gradients = run<tf.Tensor[]>('StateSpaceGrad', { dy: firstOf(dy), q, k, v, g, goesOn, before }, attrs);
      return Object.fromEntries(['q', 'k', 'v', 'g'].map((name, i) => [name, () => gradients[i]]));
    },
  });
  for (const adapted of ADAPTED_PARTS) registerGradientOfExperts(adapted);
  for (const [kernelName, more] of [
    ['TokenLoss', []],
    ['TokenLossWithBias', ['bias']],
  ] as const)
    tf.registerGradient({
      kernelName,
      inputsToSave: ['hidden', 'weight', 'targets', ...more],
      gradFunc: (dy, [hidden, weight, targets, bias], attrs) => {
        const inputs = { hidden, weight, targets, ...(bias && { bias }), dNll: firstOf(dy) };
        const [factor, ...residuals] = run<tf.Tensor[]>('TokenLossGrad', inputs, attrs);
        return {
          hidden: () => run('TokenLossHiddenGrad', { weight, factor, ...numbered(residuals) }),
          weight: () => run('TokenLossWeightGrad', { hidden, factor, ...numbered(residuals) }),
          ...(bias && { bias: () => run('TokenLossBiasGrad', { factor, ...numbered(residuals) }) }),
        };
      },
    });
}

/** @param adapted to which weights an adapter is added */
function registerGradientOfExperts(adapted: readonly ExpertPart[]): void {
  const names = adapted.flatMap(factorNames);
  tf.registerGradient({
    kernelName: `Experts${kindOf(adapted)}`,
    inputsToSave: ['x', 'weights', 'chosen', 'gateUp', 'down', ...names],
    outputsToSave: [false, true],
    gradFunc: (dys, [x, weights, chosen, gateUp, down, ...others], attrs) => {
      const [factors, gatesAndUps] = [others.slice(0, -1), others[others.length - 1]];
      const named = Object.fromEntries(names.map((name, i) => [name, factors[i]]));
      const dy = firstOf(dys);
      const inputs = { dy, weights, chosen, gateUp, down, gatesAndUps, ...named };
      const [dx, dWeights, dGatesAndUps, inner] = run<tf.Tensor[]>(`ExpertsGrad${kindOf(adapted)}`, inputs, attrs);
      const sides = { gateUp: { pairs: dGatesAndUps, x, chosen }, down: { pairs: inner, x: dy, chosen } };
      const ofFactors = adapted.flatMap((part, i) => {
        const [a, b] = factors.slice(2 * i);
        return run<tf.Tensor[]>(`Experts${KERNEL_NAMES[part]}FactorsGrad`, { ...sides[part], a, b }, attrs);
      });
      return {
        x: () => dx,
        weights: () => dWeights,
        gateUp: () => run('ExpertsGateUpGrad', sides.gateUp, attrs),
        down: () => run('ExpertsDownGrad', sides.down, attrs),
        ...Object.fromEntries(names.map((name, i) => [name, () => ofFactors[i]])),
      };
    },
  });
}

/** A list as named inputs, in its order. */
const numbered = (pieces: readonly tf.Tensor[]): Tensors => Object.fromEntries(pieces.map((piece, index) => [`piece${index}`, piece]));
