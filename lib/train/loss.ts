/** The loss of a packed row: a forward pass, the output head at the positions that predict a target, and its gradients. */
import * as tf from '@tensorflow/tfjs-core';
import { checkpointedGradients, embedding, KeptShelf, sizesOfVocabulary, tokenLoss, varyingSizes } from '../engine';
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
import { Routings, RoutingsTwice, sharesOf } from './router-loss';

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
  /** float32 [micro-batches, tokens]: what each token counts in its micro-batch's router loss, where there is one (router-loss.ts). */
  shares?: tf.Tensor2D;
}

/** What a row's forward pass found for each target. */
interface RowLoss {
  /** float32 [targets]: what training makes small; differentiable. */
  loss: tf.Tensor1D;
  /** int32 [targets] */
  argmax: tf.Tensor1D;
  /** float32 [targets] */
  entropy: tf.Tensor1D;
  /** float32 [micro-batches]: the router loss of those of the row, where there is one; differentiable. */
  aux?: tf.Tensor1D;
}

/** The same on the host, without what fills up. */
export interface RowScores {
  loss: Float32Array;
  argmax: Int32Array;
  entropy: Float32Array;
  targets: Int32Array;
  owners: readonly number[];
  /** Of each micro-batch of the step; 0 for those of other rows. */
  aux?: Float32Array;
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
  const { parameters, linears, adapter, config } = model;
  // weights in 4 bits are no parameters
  const weights = [...linears.values()].map(({ weight }) => weight);
  const matrices = [...parameters.values(), ...weights, ...(adapter?.parameters.values() ?? [])];
  return new Set([...matrices.flatMap(({ shape }) => shape), ...sizesOfVocabulary(config.vocabSize)]);
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

interface RowLayout {
  /** Whether what sequences begin with in common may be computed once. */
  sharesPrefixes: boolean;
  /** Of the router loss, where there is one: how many micro-batches the step has. */
  microBatches?: number;
}

/** Lays sequences end to end on the device and finds their targets. What fills up the row has no targets. */
function placeRow(parts: readonly RowPart[], model: CausalLM, { sharesPrefixes, microBatches }: RowLayout): DeviceRow {
  const examples = parts.map(({ sequence }) => sequence.inputIds);
  const mayShare = sharesPrefixes && !model.config.keepsState && microBatches === undefined;
  const prefixes = mayShare ? sharedPrefixes(examples) : [];
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
    shares: microBatches === undefined ? undefined : sharesOfRow(parts, microBatches, batch.ids.size),
  };
}

/** @param tokens of the row, with what fills it up */
function sharesOfRow(parts: readonly RowPart[], microBatches: number, tokens: number): tf.Tensor2D {
  const owners = parts.flatMap(({ sequence, microBatch }) => new Array<number>(sequence.inputIds.length).fill(microBatch));
  return tf.tensor2d(sharesOf(owners, microBatches, tokens), [microBatches, tokens]);
}

function disposeRow({ batch, predictors, targets, counts, shares }: DeviceRow): void {
  tf.dispose([predictors, targets, counts, ...(shares ? [shares] : [])]);
  disposeBatch(batch);
}

/** Loss of each target of a row, from the final hidden states of what predicts them, inside the caller's tidy. */
function rowLoss(hidden: tf.Tensor2D, model: CausalLM, { targets }: DeviceRow, settings: LossSettings): RowLoss {
  const { outputHead: head, outputBias: bias } = model;
  const softcap = model.config.finalLogitSoftcapping;
  const { nll, argmax, entropy } = tokenLoss(hidden, head, targets, softcap, bias);
  return { loss: lossOf(nll, { hidden, head, bias, targets, softcap }, settings), argmax, entropy };
}

/** What a row's forward pass finds, with the router loss where there is one: then all tokens go through all layers. */
function passRow(model: CausalLM, row: DeviceRow, settings: LossSettings): RowLoss {
  const { batch, predictors, shares } = row;
  if (!shares) return rowLoss(model.hiddenStates(batch, predictors), model, row, settings);
  const routings = new Routings(shares);
  const hidden = embedding(model.forward({ ...packedPass(batch), routed: routings.see }), predictors);
  return { ...rowLoss(hidden, model, row, settings), aux: routings.loss() };
}

/** (Sum of the row's losses) · share + (sum of its router losses) · weight. */
function sharedLoss({ loss, aux }: RowLoss, { counts }: DeviceRow, share: tf.Scalar, weight?: tf.Scalar): tf.Scalar {
  const shared: tf.Scalar = tf.mul(tf.sum(tf.mul(loss, counts)), share);
  return aux && weight ? tf.add(shared, tf.mul(tf.sum(aux), weight)) : shared;
}

/** Reads the losses of a row; on a lazy engine this is where everything recorded and still alive is computed. */
async function readScores(found: RowLoss, row: DeviceRow): Promise<RowScores> {
  const { targetIds, owners } = row;
  const [loss, argmax, entropy, aux] = await Promise.all([
    found.loss.data<'float32'>(),
    found.argmax.data<'int32'>(),
    found.entropy.data<'float32'>(),
    found.aux?.data<'float32'>(),
  ]);
  const count = owners.length;
  return {
    loss: loss.subarray(0, count),
    argmax: argmax.subarray(0, count),
    entropy: entropy.subarray(0, count),
    targets: targetIds,
    owners,
    ...(aux && { aux }),
  };
}

function disposeLoss(found: RowLoss | undefined): void {
  if (found) tf.dispose([found.loss, found.argmax, found.entropy, ...(found.aux ? [found.aux] : [])]);
}

/** Whether anything in the row is predicted at all; a piece of a split example may be all prompt. */
export function hasTargets(parts: readonly RowPart[]): boolean {
  return parts.some(({ sequence }) => sequence.lossMask.indexOf(1, 1) > 0);
}

/**
 * Forward pass of a row, without gradients.
 * @param microBatches how many the step has, where their router losses are wanted
 */
export async function scoreRow(
  model: CausalLM,
  parts: readonly RowPart[],
  settings: LossSettings = {},
  microBatches?: number,
): Promise<RowScores> {
  const row = placeRow(parts, model, { sharesPrefixes: true, microBatches });
  let found: RowLoss | undefined;
  try {
    found = tf.tidy(() => ({ ...passRow(model, row, settings) }));
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
  /** Of the router loss, where there is one. */
  router?: RouterShare;
}

/** How the router loss of a step's micro-batches counts. */
export interface RouterShare {
  /** How many there are. */
  microBatches: number;
  /** Of the loss of each, a scalar. */
  weight: tf.Scalar;
}

/** Forward and backward pass of a row. The gradients of (sum of the row's losses) · share + (sum of router losses) · weight are added to `sums`. */
export async function backwardRow(
  model: CausalLM,
  parts: readonly RowPart[],
  sums: GradientSums,
  { share, gradientCheckpointing, chance, router, ...settings }: BackwardOptions,
): Promise<RowScores> {
  const row = placeRow(parts, model, { sharesPrefixes: chance === undefined, microBatches: router?.microBatches });
  model.adapter?.prepare();
  const letGoOfChance = chance ? useChance(model, row.batch, chance) : () => {};
  let kept: RowLoss | undefined;
  // beyond the scope that it is computed in, and at once: what follows may fail
  const keep = ({ loss, argmax, entropy, aux }: RowLoss): tf.Scalar => {
    kept = { loss: tf.keep(loss), argmax: tf.keep(argmax), entropy: tf.keep(entropy), aux: aux && tf.keep(aux) };
    return sharedLoss(kept, row, share, router?.weight);
  };
  try {
    if (gradientCheckpointing) checkpointedBackward(model, row, sums, { keep, settings, router });
    else recordBackward(model, sums, () => keep(passRow(model, row, settings)));
    return await readScores(kept as unknown as RowLoss, row);
  } finally {
    letGoOfChance();
    disposeLoss(kept);
    disposeRow(row);
  }
}

function recordBackward(model: CausalLM, sums: GradientSums, loss: () => tf.Scalar): void {
  const trained = trainedParameters(model);
  const { value, grads } = tf.variableGrads(loss, [...trained.values()]);
  value.dispose();
  const add = adderTo(sums, model);
  for (const [name, variable] of trained) {
    const gradient = grads[variable.name];
    if (gradient) add(name, gradient);
  }
}

interface CheckpointedPass {
  /** Keeps what a row's pass has found. @returns what is differentiated */
  keep(found: RowLoss): tf.Scalar;
  settings: LossSettings;
  router?: RouterShare;
}

function checkpointedBackward(model: CausalLM, row: DeviceRow, sums: GradientSums, { keep, settings, router }: CheckpointedPass): void {
  const { batch, predictors, shares } = row;
  const routings = shares && router && new RoutingsTwice(shares, router.weight, model.config.experts?.count ?? 0);
  const shelf = new KeptShelf();
  const usual = packedPass(batch, routings ? undefined : carryOnly(predictors, model.config));
  const pass = { ...usual, shelf, ...(routings && { routed: routings.see }) };
  try {
    tf.tidy(() => {
      const { embed, layers, finish } = model.stages(pass);
      const links = routings ? layers.map((layer) => routings.withShare(layer)) : layers;
      const last = (x: tf.Tensor2D): tf.Scalar => {
        const hidden = routings ? embedding(finish(x), predictors) : finish(x);
        return keep({ ...rowLoss(hidden, model, row, settings), aux: routings?.loss() });
      };
      checkpointedGradients({ first: embed, links, last, shelf }, trainedParameters(model), adderTo(sums, model));
    });
  } finally {
    routings?.dispose();
  }
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
