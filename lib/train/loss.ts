/** The loss of a packed row: a forward pass, the output head at the positions that predict a target, and its gradients. */
import * as tf from '@tensorflow/tfjs-core';
import { checkpointedGradients, tokenLoss, varyingSizes } from '../engine';
import {
  type CausalLM,
  carryOnly,
  disposeBatch,
  makeBatch,
  ownWeights,
  packedPass,
  placeOf,
  sharedPrefixes,
  type TokenBatch,
} from '../model';
import { predictors, type RowPart } from './batches';
import { type RowChance, useChance } from './chance';
import type { RowSize } from './drawing';
import type { GradientSums } from './gradients';
import { type LossSettings, lossOf } from './objective';

/** A row on the device: its tokens, and which positions predict which targets. */
interface DeviceRow {
  batch: TokenBatch;
  /** int32 [targets]: places in the row whose next token carries loss, and the first of them again to fill up. */
  predictors: tf.Tensor1D;
  /** int32 [targets]: those next tokens. */
  targets: tf.Tensor1D;
  /** float32 [targets]: 1 for each target, 0 for what fills up. */
  counts: tf.Tensor1D;
  /** The targets again, without those that fill up, on the host. */
  targetIds: Int32Array;
  /** For each of them the micro-batch that it belongs to. */
  owners: number[];
}

/** What a row's forward pass found for each target. */
interface RowLoss {
  /** float32 [targets]: what training makes small; differentiable. */
  loss: tf.Tensor1D;
  /** int32 [targets] */
  argmax: tf.Tensor1D;
  /** float32 [targets] */
  entropy: tf.Tensor1D;
}

/** The same on the host, without what fills up. */
export interface RowScores {
  loss: Float32Array;
  argmax: Int32Array;
  entropy: Float32Array;
  targets: Int32Array;
  owners: readonly number[];
}

/** Rows have a multiple of so many tokens and targets: the products that give the gradients of weights are faster over them. */
const ROW_MULTIPLE = 16;

/** The next multiple of 16 that is none of the given sizes, from which a compiled graph could not tell it. */
function filledUp(count: number, sizes: ReadonlySet<number>): number {
  let filled = ROW_MULTIPLE * Math.ceil(count / ROW_MULTIPLE);
  while (sizes.has(filled)) filled += ROW_MULTIPLE;
  return filled;
}

function sizesOf(model: CausalLM): Set<number> {
  const { parameters, linears, adapter } = model;
  // weights in 4 bits are no parameters
  const weights = [...linears.values()].map(({ weight }) => weight);
  return new Set([...parameters.values(), ...weights, ...(adapter?.parameters.values() ?? [])].flatMap(({ shape }) => shape));
}

/**
 * Segments that fill up a row: its length is then a multiple of 16, and none of the model's own sizes. None is longer than the row's
 * longest sequence, so the model can read them.
 * @param lengths tokens that each sequence adds to the row
 */
export function fillerOf(lengths: readonly number[], model: CausalLM): Int32Array[] {
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const length = filledUp(tokens, sizesOf(model));
  const longest = Math.max(...lengths);
  const count = Math.ceil((length - tokens) / longest);
  return Array.from({ length: count }, (_, i) => new Int32Array(Math.min(longest, length - tokens - i * longest)));
}

/** Tokens and targets that the tensors of a row have whose sequences share nothing. */
export function sizeOfRow(parts: readonly RowPart[], model: CausalLM): RowSize {
  const lengths = parts.map(({ sequence }) => sequence.inputIds.length);
  const filler = fillerOf(lengths, model).map(({ length }) => length);
  const tokens = [...lengths, ...filler].reduce((sum, length) => sum + length, 0);
  const targets = parts.reduce((sum, part) => sum + [...predictors(part)].length, 0);
  return { tokens, targets: filledUp(targets, sizesOf(model).add(tokens)), longest: Math.max(...lengths, ...filler) };
}

/**
 * Lays sequences end to end on the device and finds their targets. What fills up the row has no targets.
 * @param sharesPrefixes whether what sequences begin with in common is computed once
 */
function placeRow(parts: readonly RowPart[], model: CausalLM, sharesPrefixes: boolean): DeviceRow {
  const examples = parts.map(({ sequence }) => sequence.inputIds);
  const prefixes = sharesPrefixes && !model.config.keepsState ? sharedPrefixes(examples) : [];
  const own = examples.map(({ length }, i) => length - (prefixes[i]?.tokens ?? 0));
  const batch = makeBatch([...examples, ...fillerOf(own, model)], prefixes, parts[0].stretchedTo);
  const places: number[] = [];
  const targets: number[] = [];
  const owners: number[] = [];
  for (const [index, part] of parts.entries()) {
    for (const token of predictors(part)) {
      places.push(placeOf(batch, index, token));
      targets.push(part.sequence.inputIds[token + 1]);
      owners.push(part.microBatch);
    }
  }
  const filled = filledUp(targets.length, sizesOf(model).add(batch.ids.size));
  const fill = (list: readonly number[]): number[] => [...list, ...new Array<number>(filled - list.length).fill(list[0])];
  varyingSizes({ tokens: { size: batch.ids.size, multipleOf: ROW_MULTIPLE }, targets: { size: filled, multipleOf: ROW_MULTIPLE } });
  if (model.config.keepsState) batch.segments.chunks(sizesOf(model).add(batch.ids.size).add(filled));
  return {
    batch,
    predictors: tf.tensor1d(fill(places), 'int32'),
    targets: tf.tensor1d(fill(targets), 'int32'),
    counts: tf.tensor1d(new Float32Array(filled).fill(1, 0, targets.length)),
    targetIds: Int32Array.from(targets),
    owners,
  };
}

function disposeRow({ batch, predictors, targets, counts }: DeviceRow): void {
  tf.dispose([predictors, targets, counts]);
  disposeBatch(batch);
}

/** Loss of each target of a row, from the final hidden states of what predicts them, inside the caller's tidy. */
function rowLoss(hidden: tf.Tensor2D, model: CausalLM, { targets }: DeviceRow, settings: LossSettings): RowLoss {
  const head = model.outputHead;
  const softcap = model.config.finalLogitSoftcapping;
  const { nll, argmax, entropy } = tokenLoss(hidden, head, targets, softcap);
  return { loss: lossOf(nll, { hidden, head, targets, softcap }, settings), argmax, entropy };
}

/** (Sum of the row's losses) · share. */
function sharedLoss({ loss }: RowLoss, { counts }: DeviceRow, share: tf.Scalar): tf.Scalar {
  return tf.mul(tf.sum(tf.mul(loss, counts)), share);
}

/** Reads the losses of a row; on a lazy engine this is where everything recorded and still alive is computed. */
async function readScores(found: RowLoss, row: DeviceRow): Promise<RowScores> {
  const { targetIds, owners } = row;
  const [loss, argmax, entropy] = await Promise.all([
    found.loss.data<'float32'>(),
    found.argmax.data<'int32'>(),
    found.entropy.data<'float32'>(),
  ]);
  const count = owners.length;
  return {
    loss: loss.subarray(0, count),
    argmax: argmax.subarray(0, count),
    entropy: entropy.subarray(0, count),
    targets: targetIds,
    owners,
  };
}

function disposeLoss(found: RowLoss | undefined): void {
  if (found) tf.dispose([found.loss, found.argmax, found.entropy]);
}

/** Whether anything in the row is predicted at all; a piece of a split example may be all prompt. */
export function hasTargets(parts: readonly RowPart[]): boolean {
  return parts.some(({ sequence }) => sequence.lossMask.indexOf(1, 1) > 0);
}

/** Forward pass of a row, without gradients. */
export async function scoreRow(model: CausalLM, parts: readonly RowPart[], settings: LossSettings = {}): Promise<RowScores> {
  const row = placeRow(parts, model, true);
  let found: RowLoss | undefined;
  try {
    found = tf.tidy(() => ({ ...rowLoss(model.hiddenStates(row.batch, row.predictors), model, row, settings) }));
    return await readScores(found, row);
  } finally {
    disposeLoss(found);
    disposeRow(row);
  }
}

export interface BackwardOptions extends LossSettings {
  /** One over the targets of the whole optimizer step, as a scalar tensor so that every step runs the same compiled graph. */
  share: tf.Scalar;
  /** Keeps only what passes from layer to layer, and computes the rest again for the gradient. */
  gradientCheckpointing: boolean;
  /** What is dropped, and the noise in the embeddings, where something is left to chance. */
  chance?: RowChance;
}

/** Forward and backward pass of a row. The gradients of (sum of the row's losses) · share are added to `sums`. */
export async function backwardRow(
  model: CausalLM,
  parts: readonly RowPart[],
  sums: GradientSums,
  { share, gradientCheckpointing, chance, ...settings }: BackwardOptions,
): Promise<RowScores> {
  const row = placeRow(parts, model, chance === undefined);
  model.adapter?.prepare();
  const letGoOfChance = chance ? useChance(model, row.batch, chance) : () => {};
  let kept: RowLoss | undefined;
  // beyond the scope that it is computed in, and at once: what follows may fail
  const lossFrom = (hidden: tf.Tensor2D): tf.Scalar => {
    const found = rowLoss(hidden, model, row, settings);
    kept = { loss: tf.keep(found.loss), argmax: tf.keep(found.argmax), entropy: tf.keep(found.entropy) };
    return sharedLoss(kept, row, share);
  };
  try {
    if (gradientCheckpointing) checkpointedBackward(model, row, sums, lossFrom);
    else recordBackward(model, row, sums, lossFrom);
    return await readScores(kept as unknown as RowLoss, row);
  } finally {
    letGoOfChance();
    disposeLoss(kept);
    disposeRow(row);
  }
}

/** The loss of a row from the final hidden states of what predicts its targets. */
type LossFrom = (hidden: tf.Tensor2D) => tf.Scalar;

function recordBackward(model: CausalLM, row: DeviceRow, sums: GradientSums, lossFrom: LossFrom): void {
  const trained = trainedParameters(model);
  const { value, grads } = tf.variableGrads(() => lossFrom(model.hiddenStates(row.batch, row.predictors)), [...trained.values()]);
  value.dispose();
  const add = adderTo(sums, model);
  for (const [name, variable] of trained) {
    const gradient = grads[variable.name];
    if (gradient) add(name, gradient);
  }
}

function checkpointedBackward(model: CausalLM, row: DeviceRow, sums: GradientSums, lossFrom: LossFrom): void {
  tf.tidy(() => {
    const { embed, layers, finish } = model.stages(packedPass(row.batch, carryOnly(row.predictors, model.config)));
    const last = (x: tf.Tensor2D) => lossFrom(finish(x));
    checkpointedGradients({ first: embed, links: layers, last }, trainedParameters(model), adderTo(sums, model));
  });
}

/** What the model computes with of all that is trained, by the names of what is trained: of some rows of a table it is the table. */
function trainedParameters(model: CausalLM): Map<string, tf.Variable> {
  const tables = model.adapter?.tables;
  const trained = [...ownWeights(model)].filter(([, variable]) => variable.trainable);
  return new Map(trained.map(([name, variable]) => [name, tables?.get(name)?.table ?? variable]));
}

/** Adds the gradient of what the model computes with to the sum of what is trained. */
function adderTo(sums: GradientSums, { adapter }: CausalLM): (name: string, gradient: tf.Tensor) => void {
  const tables = adapter?.tables;
  return (name, gradient) => sums.add(name, tables?.get(name)?.gradientOf(gradient) ?? gradient);
}
