/**
 * Modules that an adapter trains whole, beside its matrices: PEFT's `modules_to_save`. It serves what a base model has not learned, such
 * as the tokens of a chat template in embedding and output head. They are trained in their places, and saved with the adapter.
 */
import type * as tf from '@tensorflow/tfjs-core';
import { UserError } from '../errors';
import { showValue } from '../json';
import { compactName, withoutCompact } from './compact-weights';
import { HEAD, isMeant, lastPart, moduleOf, OLD_HEAD, PEFT_PREFIX, usualName } from './names';
import type { CausalLM } from './types';

/** Which modules an adapter trains whole. */
export interface ModulesToSave {
  /** Their names, or ends of them: `['norm']` means every normalization whose name ends so. What is inside a module is trained with it. */
  readonly modulesToSave: readonly string[];
  /**
   * Where the output head is the embedding, whether it stays so if one of the two is meant. Else the one that is meant is trained, and the
   * other stays as it is.
   */
  readonly ensureWeightTying: boolean;
}

/**
 * Gets a model ready to train modules of it: where embedding and head are one and are to part, they do.
 * @param layers names of those that have matrices of the adapter
 * @returns the parameters of the modules, by their names in PEFT's files
 * @throws UserError when one of the layers is meant too
 */
export function partsToTrain(
  model: CausalLM,
  { modulesToSave: names, ensureWeightTying }: ModulesToSave,
  layers: readonly string[],
): Map<string, tf.Variable> {
  const both = layers.find((layer) => isMeant(layer, names));
  if (both !== undefined)
    throw new UserError(`The modules to save of the adapter mean ${both}, which is among its targets; name it in one of the two.`);
  refuseRounded(model, names);
  refuseTransposed(model, names);
  refuseNormsOfHeads(model, names);
  const table = moduleOf(model.embeddings[0].weight.name);
  const meansTied = model.config.tieWordEmbeddings && [table, HEAD, OLD_HEAD].some((module) => isMeant(module, names));
  if (meansTied && !ensureWeightTying) model.untie();
  const meant = meansTied && ensureWeightTying ? [...names, table] : names;
  const parts = [...model.parameters].filter(([name]) => modulesOf(name).some((module) => isMeant(module, meant)));
  return new Map(parts.map(([name, variable]) => [PEFT_PREFIX + usualName(name), variable]));
}

/** The names by which the module of a parameter may be meant. */
function modulesOf(parameter: string): string[] {
  const usual = moduleOf(usualName(parameter));
  return usual === HEAD ? [usual, moduleOf(parameter)] : [usual];
}

/** What PEFT's file of an adapter holds beside its parts: an embedding that stayed the head too under the head's name again. */
export function tiedCopyOf({ config, embeddings }: CausalLM, parts: ReadonlyMap<string, tf.Variable>): Map<string, tf.Variable> {
  const table = config.tieWordEmbeddings ? parts.get(PEFT_PREFIX + embeddings[0].weight.name) : undefined;
  return new Map(table ? [[`${PEFT_PREFIX}${HEAD}.weight`, table]] : []);
}

/** The name by which a file may hold a part too. */
export function oldNameOf(name: string): string {
  return name.replace(`${PEFT_PREFIX}${HEAD}.`, `${PEFT_PREFIX}${OLD_HEAD}.`);
}

/**
 * Makes sure that each name means something.
 * @throws UserError when one does not
 */
export function checkModules(model: CausalLM, { modulesToSave }: ModulesToSave): void {
  const modules = [HEAD, ...[...model.parameters.keys()].map((name) => moduleOf(usualName(name))), ...model.linears.keys()];
  const other = modulesToSave.find((name) => !modules.some((module) => isMeant(module, [name]) || (module === HEAD && name === OLD_HEAD)));
  if (other === undefined) return;
  const known = [...new Set(modules.map(lastPart))];
  throw new UserError(
    `The modules to save of the adapter name ${showValue(other)}, which the model does not have; it has ${known.join(', ')}.`,
  );
}

/** Whether a layer is in a module that is trained whole, so that it gets no matrices; as in PEFT by whole parts of its name. */
export function isTrainedWhole(layer: string, { modulesToSave }: ModulesToSave): boolean {
  return modulesToSave.some((name) => `.${layer}.`.includes(`.${name}.`));
}

/** PEFT's file would hold it transposed. */
function refuseTransposed({ transposed }: CausalLM, names: readonly string[]): void {
  const found = [...transposed].map(moduleOf).find((module) => isMeant(module, names));
  if (found !== undefined)
    throw new UserError(
      `The modules to save of the adapter mean ${found}, whose weights its checkpoints hold transposed; such layers are not saved whole with an ` +
        'adapter: leave it out, or train it by matrices (target_modules).',
    );
}

/** PEFT's file would hold a vector of each head (StableLM). */
function refuseNormsOfHeads({ inParts }: CausalLM, names: readonly string[]): void {
  const rows = [...inParts].filter(([, { shape }]) => shape.length === 2).map(([name]) => moduleOf(name));
  const found = rows.find((module) => isMeant(module, names));
  if (found !== undefined)
    throw new UserError(
      `The modules to save of the adapter mean ${found}, a norm of each head; such norms are not saved with an adapter: name other modules.`,
    );
}

/** Compact weights cannot be trained. */
function refuseRounded(model: CausalLM, names: readonly string[]): void {
  const weights = [...model.linears.values(), ...model.embeddings].map(({ weight }) => weight);
  const rounded = weights.find((weight) => weight.compact && isMeant(moduleOf(weight.name), names));
  if (rounded)
    throw new UserError(
      `The modules to save of the adapter mean ${moduleOf(rounded.name)}, whose weights are in ${compactName(model)} and cannot be trained; leave it out, ` +
        `or load the model without ${withoutCompact(model).option}.`,
    );
}
