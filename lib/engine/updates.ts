/**
 * Updates of parameters from their gradients, in place. In main memory they are made piece by piece by WebAssembly; elsewhere by tfjs operations.
 * All use the gradients up: they are zero afterwards.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { type AdafactorSettings, adafactorInPlace, adafactorOfVector } from './adafactor';
import { type AdamWSettings, adamWInPlace } from './adamw';
import * as composed from './composed-updates';
import { ortBackend } from './device';
import { setToZero, writableData } from './in-place';
import { type SgdSettings, sgdInPlace } from './sgd';

export type { AdafactorSettings, AdamWSettings, SgdSettings };

/** One parameter's part in an update: its weights, their gradient, and numbers. */
interface Update<Settings> {
  parameter: tf.Variable;
  gradient: tf.Variable;
  settings: Settings;
}

/** With the moments of the parameter's shape. */
export interface AdamWUpdate extends Update<AdamWSettings> {
  moments: { m: tf.Variable; v: tf.Variable };
}

/** With mean squares of the gradient: of the rows and columns of a matrix [..., rows, columns], [..., rows] and [..., columns], of all numbers of a vector. */
export interface AdafactorUpdate extends Update<AdafactorSettings> {
  squares: { rows: tf.Variable; columns: tf.Variable } | { all: tf.Variable };
}

/** With momentum, with a buffer of the parameter's shape. */
export interface SgdUpdate extends Update<SgdSettings> {
  buffer?: tf.Variable;
}

type Writable = (variable: tf.Variable) => Float32Array;

function makeUpdates<U extends Update<object>>(
  updates: readonly U[],
  inPlace: (update: U, data: Writable) => void,
  compose: (update: U) => void,
): void {
  const backend = ortBackend();
  if (backend?.worksOnHost) {
    for (const update of updates) inPlace(update, (variable) => writableData(backend, variable));
    return;
  }
  for (const update of updates) {
    compose(update);
    // One parameter at a time: together, old and new weights and moments of all of them would need memory at once.
    backend?.flush();
  }
  setToZero(updates.map(({ gradient }) => gradient));
}

/**
 * AdamW (Loshchilov & Hutter 2019; arithmetic as in PyTorch's torch.optim.AdamW):
 * w ← w·(1 − lr·decay); m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − lr/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
 */
export function adamW(updates: readonly AdamWUpdate[]): void {
  const inPlace = ({ parameter, gradient, moments, settings }: AdamWUpdate, data: Writable): void =>
    adamWInPlace(data(parameter), data(gradient), data(moments.m), data(moments.v), settings);
  makeUpdates(updates, inPlace, composed.adamW);
}

/**
 * Adafactor without a first moment and with a learning rate from outside (Shazeer & Stern 2018; arithmetic as in transformers' `Adafactor`):
 * r ← βr + (1−β)(mean of g² of each row + ε), c alike of each column; u = g / √(r·c / mean of r); w ← w·(1 − lr·decay) − lr·u / max(1, RMS(u)/threshold).
 * What r and c stand for, the mean squares of all numbers, is kept as it is for vectors: v ← βv + (1−β)(g² + ε); u = g / √v.
 *
 * Matrices that are one parameter, as those of experts, have their own r and c, and one RMS(u).
 * As r and c have one mean, it does not matter which of both is divided by it, or whether a matrix lies transposed.
 */
export function adafactor(updates: readonly AdafactorUpdate[]): void {
  const inPlace = ({ parameter, gradient, squares, settings }: AdafactorUpdate, data: Writable): void => {
    const [w, g] = [data(parameter), data(gradient)];
    const [rows, columns] = parameter.shape.slice(-2);
    if ('rows' in squares) adafactorInPlace(w, g, data(squares.rows), data(squares.columns), { ...settings, rows, columns });
    else adafactorOfVector(w, g, data(squares.all), settings);
  };
  makeUpdates(updates, inPlace, composed.adafactor);
}

/**
 * Stochastic gradient descent (arithmetic as in torch.optim.SGD): d = g + decay·w; w ← w − lr·d. With momentum μ and dampening τ
 * b ← μb + (1−τ)d, at first b = d; w ← w − lr·b, or with Nesterov's w ← w − lr·(d + μb).
 */
export function sgd(updates: readonly SgdUpdate[]): void {
  const inPlace = ({ parameter, gradient, buffer, settings }: SgdUpdate, data: Writable): void =>
    sgdInPlace(data(parameter), data(gradient), buffer && data(buffer), settings);
  makeUpdates(updates, inPlace, composed.sgd);
}
