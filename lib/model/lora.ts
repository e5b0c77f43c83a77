/**
 * LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): the weights of a model stay as they are, and beside
 * some of its linear layers two thin matrices are trained, y = x Wᵀ + b + scaling · (x Aᵀ) Bᵀ. Names, defaults and numbers are PEFT's.
 */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { checkModel } from '../arguments';
import { computeRecorded, type Dropping, linear } from '../engine';
import { UserError } from '../errors';
import { createTorchRandom, type TorchRandom, uniform } from '../torch-random';
import { refuseCompact } from './compact-weights';
import { RowNorms } from './dora';
import { type Linear, Parameter } from './layers';
import { isPlainName, namesOf, settle, stacksOf, targetsOf } from './lora-targets';
import { checkModules, type ModulesToSave, partsToTrain } from './modules-to-save';
import { moduleOf, PEFT_PREFIX } from './names';
import { type Patterns, rankOf, scalingOf } from './rank-patterns';
import { declareUpdates, type StackUpdate } from './stack-updates';
import type { TrainableTokens } from './token-indices';
import { checkTokens, rowsToTrain, type TrainedRows } from './trainable-tokens';
import type { CausalLM } from './types';

/** What an adapter is made like, under PEFT's names. */
export interface LoraConfig {
  /** Rank: how many rows A has, and columns B. Default 8. */
  r?: number;
  /** The update is scaled by loraAlpha / r. Default 8. */
  loraAlpha?: number;
  /**
   * The linear layers that get an update: names, or ends of names (`['q_proj', 'v_proj']`), a regular expression for whole names, or
   * 'all-linear' for all but the output head. Default: what PEFT takes for the architecture, the projections of queries and values; of
   * most newer ones it takes none by itself, and layers must be named.
   */
  targetModules?: readonly string[] | string;
  /**
   * Parameters of experts that get an update, and of what chooses among them, by the ends of their names in transformers
   * (`['experts.gate_up_proj', 'experts.down_proj', 'gate.weight']`). Default: none.
   */
  targetParameters?: readonly string[];
  /** Rank-stabilized LoRA (Kalajdzievski 2023): scaled by loraAlpha / √r instead. Default false. */
  useRslora?: boolean;
  /** Share of the adapter's inputs that is dropped while training. Default 0. */
  loraDropout?: number;
  /** DoRA (Liu et al. 2024): the lengths of the adapted weights' rows are trained on their own. Default false. */
  useDora?: boolean;
  /** Modules that are trained whole and saved with the adapter, by names or their ends (`['embed_tokens', 'lm_head']`). Default: none. */
  modulesToSave?: readonly string[];
  /**
   * Ids of tokens whose rows of the embedding are trained and saved with the adapter, or such ids by module
   * (`{ embed_tokens: [5, 6], lm_head: [5, 6] }`). Where the output head is the embedding, the rows are its own, too. Default: none; the trainer
   * adds those of tokens that came with a chat template, and an output head of its own to the modules to save, as TRL's does.
   */
  trainableTokenIndices?: TrainableTokens;
  /**
   * Where the output head is the embedding, and one of them is among the modules: whether they stay one. Default false, as in PEFT: the one
   * that is named is trained, and the other stays as it is.
   */
  ensureWeightTying?: boolean;
}

/** A complete `LoraConfig`. */
export interface LoraSettings extends ModulesToSave {
  readonly r: number;
  readonly loraAlpha: number;
  readonly targetModules: readonly string[] | string;
  readonly targetParameters: readonly string[];
  /** Ranks that differ from `r`, and alphas from `loraAlpha`, by patterns of names (rank-patterns.ts). */
  readonly rankPattern?: Patterns;
  readonly alphaPattern?: Patterns;
  readonly useRslora: boolean;
  readonly loraDropout: number;
  readonly useDora: boolean;
  readonly trainableTokenIndices?: TrainableTokens;
}

/** The checkpoint that an adapter belongs to. */
export interface AdapterBase {
  /** Its folder or Hub id. */
  readonly name: string;
  /** Branch, tag or commit on the Hub. */
  readonly revision?: string;
}

/** The matrices beside one layer. */
export interface LoraLayer {
  readonly linear: Linear;
  /** [r, in] */
  readonly a: Parameter<tf.Rank.R2>;
  /** [out, r] */
  readonly b: Parameter<tf.Rank.R2>;
  /** [out]: the lengths of the rows (dora.ts), where they are trained. */
  readonly magnitude?: Parameter<tf.Rank.R1>;
}

/** All that an adapter has matrices beside: layers, then parameters. */
export interface LoraParts {
  readonly layers: readonly LoraLayer[];
  readonly updates: readonly StackUpdate[];
}

/** A layer at work: what it reads, which one it is, and how its update is scaled. */
interface Place {
  x: tf.Tensor2D;
  index: number;
  scaling: tf.Scalar;
}

/** An adapter at work in a model: its layers compute with it, and it alone is trained. `model.dispose` frees it too. */
export class LoraAdapter {
  /** The matrices, and what is trained of the model's own, by their names in PEFT's files. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** While set, as in training, what is dropped of the layers' inputs. */
  dropout?: Dropping;
  /** By value: a tensor each, fed once for all layers that have it; a number would be another feed of the graph for each layer. */
  private readonly scalars = new Map<number, tf.Scalar>();
  /** Of each layer, where their lengths are trained. */
  private readonly norms: readonly RowNorms[];

  /**
   * @param parts with values; the adapter owns them from now on
   * @param base null where no checkpoint has the weights that it belongs to
   * @param modules parameters of the model that are trained and saved with it (modules-to-save.ts); they stay the model's
   * @param rows of the model's tables, with values (trainable-tokens.ts); the adapter owns them from now on
   */
  constructor(
    readonly settings: LoraSettings,
    readonly parts: LoraParts,
    readonly base: AdapterBase | null,
    modules: ReadonlyMap<string, tf.Variable>,
    private readonly rows: readonly TrainedRows[],
  ) {
    const { layers, updates } = parts;
    const matrices = trainedOf(parts).map(({ name, value }): [string, tf.Variable] => [name, value]);
    const ofTables = rows.map(({ values: { name, value } }): [string, tf.Variable] => [name, value as tf.Variable]);
    this.parameters = new Map([...matrices, ...modules, ...ofTables]);
    this.norms = settings.useDora ? layers.map((layer) => new RowNorms(layer, this.scalingOf(layer.linear))) : [];
    for (const update of updates) update.attach(this.scalingOf(update.stack));
    for (const [index, layer] of layers.entries()) {
      const scaling = this.scalingOf(layer.linear);
      layer.linear.adapter = (x, y) => this.output(layer, { x, y, index, scaling });
    }
  }

  private scalingOf({ name }: { name: string }): tf.Scalar {
    const value = scalingOf(name, this.settings);
    const scalar = this.scalars.get(value) ?? tf.keep(tf.scalar(value));
    this.scalars.set(value, scalar);
    return scalar;
  }

  /** Gets ready to compute with the matrices as they are now: before a pass, outside of what its gradient is taken of. */
  prepare(): void {
    for (const rows of this.rows) rows.write();
    for (const norms of this.norms) norms.refresh();
  }

  /** Which variable the model computes with in the place of each parameter, where that is another one: the table of trained rows. */
  get tables(): ReadonlyMap<string, TrainedRows> {
    return new Map(this.rows.map((rows) => [rows.values.name, rows]));
  }

  /** Makes the lengths those of the weights, so that a fresh adapter changes nothing. */
  startLengths(): void {
    for (const [index, { magnitude }] of this.parts.layers.entries()) tf.tidy(() => magnitude?.value.assign(this.norms[index].ofWeight()));
    computeRecorded();
  }

  /**
   * The adapted layer's output: y + scaling · (x Aᵀ) Bᵀ; with lengths (m / n) · (x Wᵀ + scaling · (x Aᵀ) Bᵀ) + b. Where some of x is dropped,
   * that counts for what the adapter changes, as in PEFT: y + (m / n − 1) · x' Wᵀ + (m / n) · scaling · (x' Aᵀ) Bᵀ.
   * @param y x Wᵀ + b
   */
  private output(layer: LoraLayer, { x, y, index, scaling }: Place & { y: tf.Tensor2D }): tf.Tensor2D {
    const update = this.update(layer, { x, index, scaling });
    if (!layer.magnitude) return tf.add(y, update);
    const { bias } = layer.linear;
    const scale = tf.div(layer.magnitude.tensor, this.norms[index].tensor);
    if (this.dropout) {
      // the weight is not trained, so that nothing keeps what is left of x
      const product = layer.linear.timesWeight(this.dropout.apply(x, index, this.settings.loraDropout));
      return tf.add(tf.sub(y, product), tf.mul(scale, tf.add(product, update)));
    }
    if (!bias) return tf.mul(scale, tf.add(y, update));
    return tf.add(tf.mul(scale, tf.add(tf.sub(y, bias.tensor), update)), bias.tensor);
  }

  /** scaling · (x Aᵀ) Bᵀ, in training of what is left of x; scaled where it is narrowest. */
  private update({ a, b }: LoraLayer, { x, index, scaling }: Place): tf.Tensor2D {
    const inner = this.dropout?.linear(x, a.tensor, index, this.settings.loraDropout) ?? linear(x, a.tensor);
    return linear(tf.mul(inner, scaling), b.tensor);
  }

  /** Adds the updates to the weights, W ← W + scaling · B A, and with lengths W ← (m / n) · (W + scaling · B A). */
  merge(): void {
    this.prepare();
    for (const [index, { linear: layer, a, b, magnitude }] of this.parts.layers.entries()) {
      const { value } = layer.weight;
      tf.tidy(() => {
        const sum: tf.Tensor2D = tf.add(value, tf.mul(tf.matMul(b.tensor, a.tensor), this.scalingOf(layer)));
        value.assign(magnitude ? tf.mul(sum, tf.expandDims(tf.div(magnitude.tensor, this.norms[index].tensor), 1)) : sum);
      });
      // one after the other: together, old and new weights of all layers would need memory at once
      computeRecorded();
    }
    for (const update of this.parts.updates) {
      update.merge(this.scalingOf(update.stack));
      computeRecorded();
    }
  }

  dispose(): void {
    for (const { linear: layer } of this.parts.layers) layer.adapter = undefined;
    for (const { stack } of this.parts.updates) stack.adapter = undefined;
    for (const part of [...trainedOf(this.parts), ...this.norms, ...this.rows, ...this.scalars.values()]) part.dispose();
  }
}

/** The settings under PEFT's keys. A plain name is written as a list: PEFT takes every text for a pattern of whole names. */
export function peftKeys({ targetModules, ...settings }: LoraSettings): Record<string, unknown> {
  const { r, loraAlpha, loraDropout, useRslora, useDora, modulesToSave, ensureWeightTying, trainableTokenIndices } = settings;
  const { targetParameters, rankPattern, alphaPattern } = settings;
  const targets = isPlainName(targetModules) ? [targetModules] : targetModules;
  return {
    ...{ r, lora_alpha: loraAlpha, lora_dropout: loraDropout, use_rslora: useRslora, target_modules: targets },
    // left out where off: a run that was begun before the key was there is continued
    ...(useDora && { use_dora: true }),
    ...(targetParameters.length > 0 && { target_parameters: targetParameters }),
    ...(rankPattern && { rank_pattern: rankPattern }),
    ...(alphaPattern && { alpha_pattern: alphaPattern }),
    ...(modulesToSave.length > 0 && { modules_to_save: modulesToSave }),
    ...(ensureWeightTying && { ensure_weight_tying: true }),
    ...(trainableTokenIndices && { trainable_token_indices: trainableTokenIndices }),
  };
}

/** The parts of a layer, named as in PEFT's files, still without values. */
export function declareLayer(layer: Linear, settings: LoraSettings): LoraLayer {
  const [out, features] = layer.weight.shape;
  const r = rankOf(layer.name, settings);
  const declare = <R extends tf.Rank>(which: string, shape: tf.ShapeMap[R]): Parameter<R> =>
    new Parameter<R>(`${PEFT_PREFIX}${layer.name}.lora_${which}`, shape, 'zeros');
  return {
    linear: layer,
    a: declare<tf.Rank.R2>('A.weight', [r, features]),
    b: declare<tf.Rank.R2>('B.weight', [out, r]),
    magnitude: settings.useDora ? declare<tf.Rank.R1>('magnitude_vector', [out]) : undefined,
  };
}

/** What is trained of a layer. */
export function partsOf({ a, b, magnitude }: LoraLayer): Parameter[] {
  return [a, b, ...(magnitude ? [magnitude] : [])] as unknown as Parameter[];
}

/** What is trained beside layers and parameters. */
export function trainedOf({ layers, updates }: LoraParts): Parameter[] {
  return [...layers.flatMap(partsOf), ...updates.flatMap(({ a, b }) => [a, b] as unknown as Parameter[])];
}

/**
 * Gives a model a fresh adapter, which changes nothing as yet: as in PEFT, A is uniform within ±1/√in, and B zero. Same seed, same
 * matrices. From now on the adapter is what is trained and saved.
 * @throws UserError when the model has one already, a setting is out of place, or no layer is meant
 */
export function addAdapter(model: CausalLM, config: LoraConfig, { seed }: { seed: number }): LoraAdapter {
  if (model.adapter) {
    throw new UserError(
      'The model has an adapter already; train that one, without a peftConfig (in a recipe use_peft: false), or begin ' +
        'anew with the model as loadModel loads it; an adapter that is to stay is merged first (mergeAdapter(model), or tunebook merge).',
    );
  }
  const asked = settle(config, model);
  checkModules(model, asked);
  checkTokens(model, asked);
  const targets = targetsOf(asked, model);
  const stacks = stacksOf(asked, targets, model);
  const settings = { ...asked, targetModules: namesOf(asked.targetModules, targets) };
  const modules = partsToTrain(model, settings, [...targets.map(({ name }) => name), ...stacks.map(({ name }) => moduleOf(name))]);
  const updates = declareUpdates(stacks, settings);
  const random = createTorchRandom(seed);
  // in Python a seed is set before the model is loaded
  for (let unused = model.config.wordsOfLoading; unused > 0; unused--) random.word();
  const layers = targets.map((target) => {
    const layer = declareLayer(target, settings);
    start(layer, random);
    layer.magnitude?.fill(new Float32Array(layer.magnitude.shape[0]));
    return layer;
  });
  for (const update of updates) start(update, random);
  const rows = rowsToTrain(model, settings);
  for (const each of rows) each.start();
  model.adapter = new LoraAdapter(settings, { layers, updates }, baseOf(model), modules, rows);
  model.adapter.startLengths();
  return model.adapter;
}

function start({ a, b }: Pick<LoraLayer, 'a' | 'b'>, random: TorchRandom): void {
  a.fill(startOfA({ a, b }, random));
  b.fill(new Float32Array(b.shape[0] * b.shape[1]));
}

/**
 * What A begins with, as PEFT draws it: uniform up to 1 / √in (He et al. 2015 with a = √5, as of torch's linear layers). Both matrices are
 * linear layers there, which draw such values when they are made, before A draws its own.
 */
function startOfA({ a, b }: Pick<LoraLayer, 'a' | 'b'>, random: TorchRandom): Float32Array {
  const [rank, inputs] = a.shape;
  const [outputs] = b.shape;
  for (let unused = rank * inputs + outputs * rank; unused > 0; unused--) random.word();
  return uniform(rank * inputs, 1 / Math.sqrt(inputs), random);
}

/**
 * Adds a model's adapter to its weights, and takes it off: the model computes the same (but for rounding), without the adapter's time,
 * and is saved whole again. Does nothing to a model without one.
 * @throws UserError when it is no model, or its weights are in 4 bits
 */
export function mergeAdapter(model: CausalLM): void {
  checkModel('mergeAdapter', model);
  if (!model.adapter) return;
  refuseCompact(model, 'has no weights that an adapter could be added to');
  model.weightsChanged = true;
  model.adapter.merge();
  model.adapter.dispose();
  model.adapter = undefined;
}

/** What training changes and saving writes, by name in the file: the adapter's matrices where there is one, else the model's weights. */
export function ownWeights({ adapter, parameters }: CausalLM): ReadonlyMap<string, tf.Variable> {
  return adapter?.parameters ?? parameters;
}

/** A folder by its whole path, as the adapter may be opened from anywhere. */
function baseOf({ source, revision, directory, weightsChanged }: CausalLM): AdapterBase | null {
  if (directory === undefined || weightsChanged) return null;
  return existsSync(source) ? { name: path.resolve(source) } : { name: source, revision };
}
