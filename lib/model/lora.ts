/**
 * LoRA (Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models"): the weights of a model stay as they are, and beside
 * some of its linear layers two thin matrices are trained, y = x Wᵀ + b + scaling · (x Aᵀ) Bᵀ. Names, defaults and numbers are PEFT's.
 */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { checkModel } from '../arguments';
import { computeRecorded, type Dropping, linear } from '../engine';
import { messageOf, UserError } from '../errors';
import { showValue } from '../json';
import { createTorchRandom, type TorchRandom, uniform } from '../torch-random';
import { RowNorms } from './dora';
import { refuseFourBits } from './four-bits';
import { type Linear, Parameter } from './layers';
import { checkModules, isTrainedWhole, type ModulesToSave, partsToTrain } from './modules-to-save';
import { HEAD, lastPart, moduleOf, OLD_HEAD, PEFT_PREFIX, usualName } from './names';
import { isTrainableTokens, type TrainableTokens } from './token-indices';
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
  readonly useRslora: boolean;
  readonly loraDropout: number;
  readonly useDora: boolean;
  readonly trainableTokenIndices?: TrainableTokens;
}

const QUERIES_AND_VALUES = ['q_proj', 'v_proj'];
/** PEFT's choice of layers, by `model_type` (its TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING); it has none for others. */
const USUAL_TARGETS: Readonly<Record<string, readonly string[]>> = {
  ...{ llama: QUERIES_AND_VALUES, mistral: QUERIES_AND_VALUES, qwen2: QUERIES_AND_VALUES, qwen3: QUERIES_AND_VALUES },
  ...{ gemma2: QUERIES_AND_VALUES, gemma3_text: QUERIES_AND_VALUES, opt: QUERIES_AND_VALUES, gpt_neo: QUERIES_AND_VALUES },
  ...{ gpt_neox: ['query_key_value'], gpt2: ['c_attn'] },
};

const ALL_LINEAR = 'all-linear';

/** By `model_type` layers that PEFT refuses an adapter: kernels for GPUs compute Mamba with their weights alone. */
const WITHOUT_ADAPTER: Readonly<Record<string, string>> = { falcon_h1: 'out_proj' };

/**
 * By `model_type` names that PEFT takes for those of experts and of what chooses among them, 'all-linear' too: as those are no linear layers, it
 * adapts their parameters (its target_parameters), which is not there.
 */
const OF_EXPERTS = ['gate', 'gate_proj', 'up_proj', 'down_proj'];
const TAKEN_FOR_EXPERTS: Readonly<Record<string, readonly string[]>> = { qwen3_moe: OF_EXPERTS, olmoe: OF_EXPERTS };

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

/** An adapter at work in a model: its layers compute with it, and it alone is trained. `model.dispose` frees it too. */
export class LoraAdapter {
  /** The matrices, and what is trained of the model's own, by their names in PEFT's files. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** While set, as in training, what is dropped of the layers' inputs. */
  dropout?: Dropping;
  private readonly scaling: tf.Scalar;
  /** Of each layer, where their lengths are trained. */
  private readonly norms: readonly RowNorms[];

  /**
   * @param layers with values; the adapter owns them from now on
   * @param base null where no checkpoint has the weights that it belongs to
   * @param modules parameters of the model that are trained and saved with it (modules-to-save.ts); they stay the model's
   * @param rows of the model's tables, with values (trainable-tokens.ts); the adapter owns them from now on
   */
  constructor(
    readonly settings: LoraSettings,
    readonly layers: readonly LoraLayer[],
    readonly base: AdapterBase | null,
    modules: ReadonlyMap<string, tf.Variable>,
    private readonly rows: readonly TrainedRows[],
  ) {
    const matrices = layers.flatMap(partsOf).map(({ name, value }): [string, tf.Variable] => [name, value]);
    const ofTables = rows.map(({ values: { name, value } }): [string, tf.Variable] => [name, value as tf.Variable]);
    this.parameters = new Map([...matrices, ...modules, ...ofTables]);
    // a tensor, fed once for all layers: a number would be another feed of the graph for each
    this.scaling = tf.keep(tf.scalar(scalingOf(settings)));
    const { scaling } = this;
    this.norms = settings.useDora ? layers.map((layer) => new RowNorms(layer, scaling)) : [];
    for (const [index, layer] of layers.entries()) layer.linear.adapter = (x, y) => this.output(layer, { x, y, index });
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
    for (const [index, { magnitude }] of this.layers.entries()) tf.tidy(() => magnitude?.value.assign(this.norms[index].ofWeight()));
    computeRecorded();
  }

  /**
   * The adapted layer's output: y + scaling · (x Aᵀ) Bᵀ; with lengths (m / n) · (x Wᵀ + scaling · (x Aᵀ) Bᵀ) + b. Where some of x is dropped,
   * that counts for what the adapter changes, as in PEFT: y + (m / n − 1) · x' Wᵀ + (m / n) · scaling · (x' Aᵀ) Bᵀ.
   * @param y x Wᵀ + b
   */
  private output(layer: LoraLayer, { x, y, index }: { x: tf.Tensor2D; y: tf.Tensor2D; index: number }): tf.Tensor2D {
    const update = this.update(layer, x, index);
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
  private update({ a, b }: LoraLayer, x: tf.Tensor2D, index: number): tf.Tensor2D {
    const inner = this.dropout?.linear(x, a.tensor, index, this.settings.loraDropout) ?? linear(x, a.tensor);
    return linear(tf.mul(inner, this.scaling), b.tensor);
  }

  /** Adds the updates to the weights, W ← W + scaling · B A, and with lengths W ← (m / n) · (W + scaling · B A). */
  merge(): void {
    this.prepare();
    for (const [index, { linear: layer, a, b, magnitude }] of this.layers.entries()) {
      const { value } = layer.weight;
      tf.tidy(() => {
        const sum: tf.Tensor2D = tf.add(value, tf.mul(tf.matMul(b.tensor, a.tensor), this.scaling));
        value.assign(magnitude ? tf.mul(sum, tf.expandDims(tf.div(magnitude.tensor, this.norms[index].tensor), 1)) : sum);
      });
      // one after the other: together, old and new weights of all layers would need memory at once
      computeRecorded();
    }
  }

  dispose(): void {
    for (const layer of this.layers) {
      layer.linear.adapter = undefined;
      for (const part of partsOf(layer)) part.dispose();
    }
    for (const part of [...this.norms, ...this.rows]) part.dispose();
    this.scaling.dispose();
  }
}

function scalingOf({ r, loraAlpha, useRslora }: LoraSettings): number {
  return loraAlpha / (useRslora ? Math.sqrt(r) : r);
}

/** The settings under PEFT's keys. A plain name is written as a list: PEFT takes every text for a pattern of whole names. */
export function peftKeys({ targetModules, ...settings }: LoraSettings): Record<string, unknown> {
  const { r, loraAlpha, loraDropout, useRslora, useDora, modulesToSave, ensureWeightTying, trainableTokenIndices } = settings;
  const targets = isPlainName(targetModules) ? [targetModules] : targetModules;
  return {
    ...{ r, lora_alpha: loraAlpha, lora_dropout: loraDropout, use_rslora: useRslora, target_modules: targets },
    // left out where off: a run that was begun before the key was there is continued
    ...(useDora && { use_dora: true }),
    ...(modulesToSave.length > 0 && { modules_to_save: modulesToSave }),
    ...(ensureWeightTying && { ensure_weight_tying: true }),
    ...(trainableTokenIndices && { trainable_token_indices: trainableTokenIndices }),
  };
}

/** The parts of a layer, named as in PEFT's files, still without values. */
export function declareLayer(layer: Linear, { r, useDora }: Pick<LoraSettings, 'r' | 'useDora'>): LoraLayer {
  const [out, features] = layer.weight.shape;
  const declare = <R extends tf.Rank>(which: string, shape: tf.ShapeMap[R]): Parameter<R> =>
    new Parameter<R>(`${PEFT_PREFIX}${layer.name}.lora_${which}`, shape, 'zeros');
  return {
    linear: layer,
    a: declare<tf.Rank.R2>('A.weight', [r, features]),
    b: declare<tf.Rank.R2>('B.weight', [out, r]),
    magnitude: useDora ? declare<tf.Rank.R1>('magnitude_vector', [out]) : undefined,
  };
}

/** What is trained of a layer. */
export function partsOf({ a, b, magnitude }: LoraLayer): Parameter[] {
  return [a, b, ...(magnitude ? [magnitude] : [])] as unknown as Parameter[];
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
  const settings = { ...asked, targetModules: namesOf(asked.targetModules, targets) };
  const modules = partsToTrain(
    model,
    settings,
    targets.map(({ name }) => name),
  );
  const random = createTorchRandom(seed);
  // in Python a seed is set before the model is loaded
  for (let unused = model.config.wordsOfLoading; unused > 0; unused--) random.word();
  const layers = targets.map((target) => {
    const layer = declareLayer(target, settings);
    layer.a.fill(startOfA(layer, random));
    layer.b.fill(new Float32Array(layer.b.shape[0] * layer.b.shape[1]));
    layer.magnitude?.fill(new Float32Array(layer.magnitude.shape[0]));
    return layer;
  });
  const rows = rowsToTrain(model, settings);
  for (const each of rows) each.start();
  model.adapter = new LoraAdapter(settings, layers, baseOf(model), modules, rows);
  model.adapter.startLengths();
  return model.adapter;
}

/**
 * What A begins with, as PEFT draws it: uniform up to 1 / √in (He et al. 2015 with a = √5, as of torch's linear layers). Both matrices are
 * linear layers there, which draw such values when they are made, before A draws its own.
 */
function startOfA({ a, b }: LoraLayer, random: TorchRandom): Float32Array {
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
  refuseFourBits(model, 'has no weights that an adapter could be added to');
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

function settle(config: LoraConfig, { config: { modelType }, linears }: CausalLM): LoraSettings {
  const taken = TAKEN_FOR_EXPERTS[modelType];
  const { r = 8, loraAlpha = 8, useRslora = false, loraDropout = 0, useDora = false, modulesToSave = [], ...rest } = config;
  const { targetModules: targets, ensureWeightTying = false, trainableTokenIndices, ...others } = rest;
  const targetModules = targets ?? USUAL_TARGETS[modelType];
  // types do not hold those who write JavaScript, or take the settings from a file; what is ignored would compute something else
  const other = Object.entries(others).find(([, value]) => value !== undefined)?.[0];
  if (other !== undefined)
    throw new UserError(
      `${other} is no setting of an adapter; there are r, loraAlpha, targetModules, useRslora, loraDropout, useDora, modulesToSave, ` +
        'trainableTokenIndices and ensureWeightTying, and no other kinds of LoRA.',
    );
  if (targetModules === undefined)
    throw new UserError(
      `PEFT chooses no layers of a ${modelType} model by itself: name the target modules of the adapter (targetModules; in a recipe ` +
        `lora_target_modules), ${taken ? '' : "'all-linear' or "}some of ${lastPartsOf([...linears.values()], taken).join(', ')}.`,
    );
  const refuse = (name: string, value: unknown, range: string): never => {
    throw new UserError(`${name} of the adapter is ${showValue(value)}, but must be ${range}.`);
  };
  if (!Number.isInteger(r) || r < 1) refuse('r', r, 'a whole number, at least 1');
  if (!(Number.isFinite(loraAlpha) && loraAlpha > 0)) refuse('loraAlpha', loraAlpha, 'a number above 0');
  if (typeof useRslora !== 'boolean') refuse('useRslora', useRslora, 'true or false');
  if (typeof useDora !== 'boolean') refuse('useDora', useDora, 'true or false');
  if (!(Number.isFinite(loraDropout) && loraDropout >= 0 && loraDropout < 1))
    refuse('loraDropout', loraDropout, 'a number, at least 0 and below 1');
  const names = typeof targetModules === 'string' ? [targetModules] : targetModules;
  if (!isListOfNames(names) || names.length === 0)
    refuse('targetModules', targetModules, "names of linear layers such as ['q_proj', 'v_proj'], or 'all-linear'");
  if (!isListOfNames(modulesToSave)) refuse('modulesToSave', modulesToSave, "names of modules such as ['embed_tokens', 'lm_head']");
  if (typeof ensureWeightTying !== 'boolean') refuse('ensureWeightTying', ensureWeightTying, 'true or false');
  if (trainableTokenIndices !== undefined && !isTrainableTokens(trainableTokenIndices))
    refuse('trainableTokenIndices', trainableTokenIndices, 'ids of tokens such as [5, 6], or such lists by the names of modules');
  return { r, loraAlpha, useRslora, loraDropout, useDora, targetModules, modulesToSave, ensureWeightTying, trainableTokenIndices };
}

export function isListOfNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string' && name !== '');
}

/** What is written of the modules that were asked for: 'all-linear' by its names, as PEFT does. */
function namesOf(asked: LoraSettings['targetModules'], targets: readonly Linear[]): LoraSettings['targetModules'] {
  return asked === ALL_LINEAR ? lastPartsOf(targets) : asked;
}

/** What the layers are called, each name once. @param without names that are left out */
function lastPartsOf(layers: readonly Linear[], without: readonly string[] = []): string[] {
  return [...new Set(layers.map(({ name }) => lastPart(name)))].filter((name) => !without.includes(name));
}

/** The layers that are meant, in the model's order. @throws UserError when that is none, or something else than a linear layer too */
function targetsOf({ targetModules, ...modules }: LoraSettings, model: CausalLM): Linear[] {
  const all = [...model.linears.values()].filter(({ name }) => !isTrainedWhole(name, modules));
  const matches = matcherOf(targetModules);
  const isMeant = (name: string): boolean => matches(name) && !isTrainedWhole(name, modules);
  const found = targetModules === ALL_LINEAR ? all : all.filter(({ name }) => isMeant(name));
  refuseExperts(targetModules, matches, model);
  // a head that is the embedding is no parameter of its own, and experts are in a module without a weight
  const inTransformers = [...model.parameters.keys()].map(usualName);
  const others = [HEAD, OLD_HEAD, ...inTransformers.flatMap((name) => [name.replace(/\.(?:weight|bias)$/, ''), moduleOf(name)])];
  const other = others.find((name) => !model.linears.has(name) && isMeant(name));
  if (other !== undefined && targetModules !== ALL_LINEAR)
    throw new UserError(
      `The target modules of the adapter mean ${other} too, but only linear layers inside the model can have one; leave it out.`,
    );
  refuseWithoutAdapter(found, all, model);
  if (found.length > 0) return found;
  if (targetModules === ALL_LINEAR || [...model.linears.keys()].some(matches))
    throw new UserError(
      `The target modules of the adapter, ${showValue(targetModules)}, are all in modules to save, ${modules.modulesToSave.join(', ')}, which are ` +
        'trained whole and get no matrices; name a linear layer outside of them, or fewer modules to save.',
    );
  const known = lastPartsOf(all).join(', ');
  throw new UserError(
    `The target modules of the adapter, ${showValue(targetModules)}, are no layers of the model; its linear layers are ${known}.`,
  );
}

function refuseWithoutAdapter(found: readonly Linear[], all: readonly Linear[], { config: { modelType } }: CausalLM): void {
  const without = WITHOUT_ADAPTER[modelType];
  const refused = found.find(({ name }) => lastPart(name) === without);
  if (!refused) return;
  const others = lastPartsOf(all, [without]);
  throw new UserError(
    `The target modules of the adapter mean ${refused.name}, which PEFT gives none in a model of type ${modelType}; name the others: ${others.join(', ')}.`,
  );
}

function refuseExperts(targetModules: LoraSettings['targetModules'], matches: (name: string) => boolean, model: CausalLM): void {
  const taken = TAKEN_FOR_EXPERTS[model.config.modelType];
  if (!taken) return;
  const places = [...model.inParts.keys()].flatMap((name) => taken.map((part) => `${moduleOf(name)}.${part}`));
  const meant = [...places, ...model.linears.keys()].find((name) => taken.includes(lastPart(name)) && matches(name));
  if (meant === undefined && targetModules !== ALL_LINEAR) return;
  throw new UserError(
    `The target modules of the adapter, ${showValue(targetModules)}, mean the experts too, whose weights PEFT adapts by target_parameters; those ` +
      `are not supported: name layers beside them, ${lastPartsOf([...model.linears.values()], taken).join(', ')}.`,
  );
}

/** As PEFT matches names: a list by whole names or their ends, a text as a regular expression; a plain name is taken for a list of one. */
function matcherOf(targetModules: LoraSettings['targetModules']): (name: string) => boolean {
  const names = typeof targetModules === 'string' ? [targetModules] : targetModules;
  const byEnd = (name: string): boolean => names.some((target) => name === target || name.endsWith(`.${target}`));
  if (typeof targetModules !== 'string' || isPlainName(targetModules)) return byEnd;
  try {
    const pattern = new RegExp(`^(?:${targetModules})$`);
    return (name) => pattern.test(name);
  } catch (error) {
    throw new UserError(`The target modules of the adapter, ${showValue(targetModules)}, are no regular expression: ${messageOf(error)}.`, {
      cause: error,
    });
  }
}

/**
 * Settings by which exactly these layers of a model are meant: those given, or with the layers' own names where something else than the
 * target modules chose them (PEFT's layers_to_transform), which is not written again.
 */
export function settingsFor(settings: LoraSettings, layers: readonly LoraLayer[], model: CausalLM): LoraSettings {
  const names = layers.map(({ linear: layer }) => layer.name);
  return meansExactly(settings, names, model) ? settings : { ...settings, targetModules: names };
}

function meansExactly(settings: LoraSettings, names: readonly string[], model: CausalLM): boolean {
  try {
    const candidates = [...model.linears.keys()].filter((name) => !isTrainedWhole(name, settings));
    const meant = candidates.filter(matcherOf(settings.targetModules));
    return meant.length === names.length && meant.every((name) => names.includes(name));
  } catch {
    // a pattern that Python knows
    return false;
  }
}

/** The names in a list of an adapter's target modules by which no linear layer of the model is called. */
export function namesWithoutLayer({ adapter, linears }: CausalLM): string[] {
  const targetModules = adapter?.settings.targetModules ?? [];
  if (typeof targetModules === 'string') return [];
  const layers = [...linears.keys()];
  return targetModules.filter((name) => !layers.some(matcherOf([name])));
}

function isPlainName(targetModules: LoraSettings['targetModules']): boolean {
  return typeof targetModules === 'string' && /^[\w.]+$/.test(targetModules);
}
