/** What of a model an adapter is added to: its settings, made complete, and the layers and parameters that they mean. */
import { UserError } from '../errors';
import { showValue } from '../json';
import type { Linear, MatrixStack } from './layers';
import type { LoraConfig, LoraLayer, LoraSettings } from './lora';
import { isTrainedWhole } from './modules-to-save';
import { patternMatcher } from './name-patterns';
import { HEAD, lastPart, moduleOf, OLD_HEAD, usualName } from './names';
import { isTrainableTokens } from './token-indices';
import type { CausalLM } from './types';

const QUERIES_AND_VALUES = ['q_proj', 'v_proj'];
/**
 * PEFT's choice of layers, by `model_type` (its TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING); it has none for others. The one for Mixtral it
 * forgets where it looks for names of experts among the targets, and so asks for them (0.21).
 */
const USUAL_TARGETS: Readonly<Record<string, readonly string[]>> = {
  ...{ llama: QUERIES_AND_VALUES, mistral: QUERIES_AND_VALUES, qwen2: QUERIES_AND_VALUES, qwen3: QUERIES_AND_VALUES },
  ...{ gemma: QUERIES_AND_VALUES, gemma2: QUERIES_AND_VALUES, gemma3_text: QUERIES_AND_VALUES },
  ...{ opt: QUERIES_AND_VALUES, gpt_neo: QUERIES_AND_VALUES, gptj: QUERIES_AND_VALUES, stablelm: QUERIES_AND_VALUES },
  ...{ gpt_neox: ['query_key_value'], bloom: ['query_key_value'], gpt2: ['c_attn'], gpt_bigcode: ['c_attn'], codegen: ['qkv_proj'] },
  phi: [...QUERIES_AND_VALUES, 'fc1', 'fc2'],
};

const ALL_LINEAR = 'all-linear';

/** By `model_type` layers that PEFT refuses an adapter: kernels for GPUs compute Mamba with their weights alone. */
const WITHOUT_ADAPTER: Readonly<Record<string, string>> = { falcon_h1: 'out_proj' };

const GATE_UP = 'gate_up_proj';
const OF_EXPERTS = { gate: 'gate.weight', gate_proj: GATE_UP, up_proj: GATE_UP, down_proj: 'down_proj' };
const OF_MIXTRAL = { gate: 'gate.weight', w1: GATE_UP, w3: GATE_UP, w2: 'down_proj' };
/**
 * By `model_type` names that PEFT takes for those of experts and of what chooses among them, in all layers, 'all-linear' too: as those are no
 * linear layers, it adapts these parameters in their place.
 */
const TAKEN_FOR_EXPERTS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  ...{ qwen3_moe: OF_EXPERTS, olmoe: OF_EXPERTS, mixtral: OF_MIXTRAL },
};

/**
 * The settings of an adapter with all that is left to PEFT.
 * @throws UserError when one is unknown or out of place
 */
export function settle(config: LoraConfig, model: CausalLM): LoraSettings {
  const { modelType } = model.config;
  const { r = 8, loraAlpha = 8, useRslora = false, loraDropout = 0, useDora = false, modulesToSave = [], ...rest } = config;
  const { targetModules: targets, targetParameters = [], ensureWeightTying = false, trainableTokenIndices, ...others } = rest;
  // what is no list is refused below
  const areNamed = !Array.isArray(targetParameters) || targetParameters.length > 0;
  const targetModules = targets ?? USUAL_TARGETS[modelType] ?? (areNamed ? [] : undefined);
  // types do not hold those who write JavaScript, or take the settings from a file; what is ignored would compute something else
  const other = Object.entries(others).find(([, value]) => value !== undefined)?.[0];
  if (other !== undefined)
    throw new UserError(
      `${other} is no setting of an adapter; there are r, loraAlpha, targetModules, targetParameters, useRslora, loraDropout, useDora, ` +
        'modulesToSave, trainableTokenIndices and ensureWeightTying, and no other kinds of LoRA.',
    );
  if (targetModules === undefined)
    throw new UserError(
      `PEFT chooses no layers of a ${modelType} model by itself: name the target modules of the adapter (targetModules; in a recipe ` +
        `lora_target_modules), 'all-linear' or some of ${lastPartsOf([...model.linears.values()]).join(', ')}.`,
    );
  const asked = {
    r,
    loraAlpha,
    useRslora,
    loraDropout,
    useDora,
    targetModules,
    targetParameters,
    modulesToSave,
    ensureWeightTying,
    trainableTokenIndices,
  };
  refuseOutOfRange(asked);
  const meant = withExperts({ targetModules, targetParameters }, { r, loraAlpha }, model);
  return { ...asked, ...meant };
}

/** @throws UserError when a setting has a value that it cannot have */
function refuseOutOfRange(settings: LoraSettings): void {
  const { r, loraAlpha, useRslora, loraDropout, useDora, targetModules, targetParameters, modulesToSave, ensureWeightTying } = settings;
  const { trainableTokenIndices } = settings;
  const refuse = (name: string, value: unknown, range: string): never => {
    throw new UserError(`${name} of the adapter is ${showValue(value)}, but must be ${range}.`);
  };
  if (!isListOfNames(targetParameters))
    refuse('targetParameters', targetParameters, "names of parameters of experts such as ['experts.gate_up_proj', 'experts.down_proj']");
  if (!Number.isInteger(r) || r < 1) refuse('r', r, 'a whole number, at least 1');
  if (!(Number.isFinite(loraAlpha) && loraAlpha > 0)) refuse('loraAlpha', loraAlpha, 'a number above 0');
  if (typeof useRslora !== 'boolean') refuse('useRslora', useRslora, 'true or false');
  if (typeof useDora !== 'boolean') refuse('useDora', useDora, 'true or false');
  if (!(Number.isFinite(loraDropout) && loraDropout >= 0 && loraDropout < 1))
    refuse('loraDropout', loraDropout, 'a number, at least 0 and below 1');
  const names = typeof targetModules === 'string' ? [targetModules] : targetModules;
  if (!isListOfNames(names) || (names.length === 0 && targetParameters.length === 0))
    refuse('targetModules', targetModules, "names of linear layers such as ['q_proj', 'v_proj'], or 'all-linear'");
  if (!isListOfNames(modulesToSave)) refuse('modulesToSave', modulesToSave, "names of modules such as ['embed_tokens', 'lm_head']");
  if (typeof ensureWeightTying !== 'boolean') refuse('ensureWeightTying', ensureWeightTying, 'true or false');
  if (trainableTokenIndices !== undefined && !isTrainableTokens(trainableTokenIndices))
    refuse('trainableTokenIndices', trainableTokenIndices, 'ids of tokens such as [5, 6], or such lists by the names of modules');
}

type Targets = Pick<LoraSettings, 'targetModules' | 'targetParameters' | 'rankPattern' | 'alphaPattern'>;

/**
 * The targets, with parameters in the place of names that PEFT takes for experts. A gate and what it multiplies have a rank each by these names;
 * as they are one parameter, that has twice the rank.
 * @throws UserError when they are those of some layers or experts, or one half of what is one parameter
 */
function withExperts(targets: Targets, { r, loraAlpha }: Pick<LoraSettings, 'r' | 'loraAlpha'>, model: CausalLM): Targets {
  const taken = TAKEN_FOR_EXPERTS[model.config.modelType];
  if (!taken) return targets;
  refuseSomeExperts(targets.targetModules, taken, model);
  const names = namesIn(targets.targetModules, model, taken);
  if (!names) return targets;
  const isTaken = (name: string): boolean => Object.hasOwn(taken, lastPart(name));
  const ofExperts = [...new Set(names.filter(isTaken).map(lastPart))];
  const halves = ofExperts.filter((name) => taken[name] === GATE_UP);
  if (halves.length === 1) {
    const both = Object.keys(taken).filter((name) => taken[name] === GATE_UP);
    throw new UserError(
      `The target modules of the adapter name ${halves[0]}, but not the other half of the experts' parameter ${GATE_UP}: name both ` +
        `${both.join(' and ')}, or that parameter among the target parameters (lora_target_parameters: ${GATE_UP}).`,
    );
  }
  const pattern = `.*\\.${GATE_UP}`;
  return {
    targetModules: names.filter((name) => !isTaken(name)),
    targetParameters: [...new Set([...targets.targetParameters, ...ofExperts.map((name) => taken[name])])],
    ...(halves.length > 0 && { rankPattern: { [pattern]: 2 * r }, alphaPattern: { [pattern]: 2 * loraAlpha } }),
  };
}

/** Target modules as a list of names, 'all-linear' with those of experts; undefined where they are a pattern. */
function namesIn(targetModules: LoraSettings['targetModules'], { linears }: CausalLM, taken: object): readonly string[] | undefined {
  if (targetModules === ALL_LINEAR) return [...new Set([...lastPartsOf([...linears.values()]), ...Object.keys(taken)])];
  if (typeof targetModules !== 'string') return targetModules;
  return isPlainName(targetModules) ? [targetModules] : undefined;
}

/** @throws UserError when a pattern means experts, or a name those of one layer: PEFT would adapt the ones of all layers for it */
function refuseSomeExperts(targetModules: LoraSettings['targetModules'], taken: object, model: CausalLM): void {
  const places = [...model.stacks.keys()].flatMap((name) => Object.keys(taken).map((part) => `${moduleOf(name)}.${part}`));
  const names = namesIn(targetModules, model, taken);
  const found = names
    ? names.filter((name) => /(?:^|\.)\d+\./.test(name))
    : [...places, ...model.linears.keys()].filter(matcherOf(targetModules));
  const meant = found.find((name) => Object.hasOwn(taken, lastPart(name)));
  if (meant === undefined) return;
  const beside = lastPartsOf([...model.linears.values()], Object.keys(taken));
  throw new UserError(
    `The target modules of the adapter, ${showValue(targetModules)}, mean ${meant}, for which PEFT adapts the experts of all layers: name those by ` +
      `target parameters (lora_target_parameters: ${namesOfStacks(model).join(', ')}), and among the target modules layers beside them, ${beside.join(', ')}.`,
  );
}

/** What the parameters that experts have are called in all layers, each name once. */
function namesOfStacks({ stacks }: CausalLM): string[] {
  return [...new Set([...stacks.keys()].map((name) => name.replace(/^.*\.\d+\./, '')))];
}

/**
 * The parameters of experts that are meant, in the model's order.
 * @throws UserError when none is and no layer either, or something else than those is meant too
 */
export function stacksOf({ targetParameters }: LoraSettings, layers: readonly Linear[], model: CausalLM): MatrixStack[] {
  const matches = matcherOf(targetParameters);
  const found = [...model.stacks.values()].filter(({ name }) => matches(name));
  const weights = [...model.parameters.keys(), ...[...model.linears.values()].map(({ weight }) => weight.name)];
  const other = weights.map(usualName).find((name) => matches(name) && !model.stacks.has(name));
  if (other !== undefined)
    throw new UserError(
      `The target parameters of the adapter mean ${other} too, but only those of experts are adapted so; leave it out, and name linear layers ` +
        'among the target modules (lora_target_modules).',
    );
  if (targetParameters.length > 0 && found.length === 0 && layers.length === 0) {
    const known =
      model.stacks.size > 0 ? `it has ${namesOfStacks(model).join(', ')}` : 'it has no experts, and its layers are target modules';
    throw new UserError(
      `The target parameters of the adapter, ${showValue(targetParameters)}, are no parameters of experts of the model; ${known}.`,
    );
  }
  return found;
}

export function isListOfNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((name) => typeof name === 'string' && name !== '');
}

/** What is written of the modules that were asked for: 'all-linear' by its names, as PEFT does. */
export function namesOf(asked: LoraSettings['targetModules'], targets: readonly Linear[]): LoraSettings['targetModules'] {
  return asked === ALL_LINEAR ? lastPartsOf(targets) : asked;
}

/** What the layers are called, each name once. @param without names that are left out */
function lastPartsOf(layers: readonly Linear[], without: readonly string[] = []): string[] {
  return [...new Set(layers.map(({ name }) => lastPart(name)))].filter((name) => !without.includes(name));
}

/** The layers that are meant, in the model's order. @throws UserError when that is none, or something else than a linear layer too */
export function targetsOf({ targetModules, targetParameters, ...modules }: LoraSettings, model: CausalLM): Linear[] {
  const all = [...model.linears.values()].filter(({ name }) => !isTrainedWhole(name, modules));
  const matches = matcherOf(targetModules);
  const isMeant = (name: string): boolean => matches(name) && !isTrainedWhole(name, modules);
  const found = targetModules === ALL_LINEAR ? all : all.filter(({ name }) => isMeant(name));
  // a head that is the embedding is no parameter of its own, and experts are in a module without a weight
  const inTransformers = [...model.parameters.keys()].map(usualName);
  const others = [HEAD, OLD_HEAD, ...inTransformers.flatMap((name) => [name.replace(/\.(?:weight|bias)$/, ''), moduleOf(name)])];
  const other = others.find((name) => !model.linears.has(name) && isMeant(name));
  if (other !== undefined && targetModules !== ALL_LINEAR) {
    const hasStacks = [...model.stacks.keys()].some((name) => moduleOf(name) === other);
    const remedy = hasStacks ? `, and name its parameters (lora_target_parameters: ${namesOfStacks(model).join(', ')})` : '';
    throw new UserError(
      `The target modules of the adapter mean ${other} too, but only linear layers inside the model can have one; leave it out${remedy}.`,
    );
  }
  refuseWithoutAdapter(found, all, model);
  // what experts have may be all that is meant
  if (found.length > 0 || targetParameters.length > 0) return found;
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

/** As PEFT matches names: a list by whole names or their ends, a text as a regular expression; a plain name is taken for a list of one. */
function matcherOf(targetModules: LoraSettings['targetModules']): (name: string) => boolean {
  const names = typeof targetModules === 'string' ? [targetModules] : targetModules;
  const byEnd = (name: string): boolean => names.some((target) => name === target || name.endsWith(`.${target}`));
  if (typeof targetModules !== 'string' || isPlainName(targetModules)) return byEnd;
  return patternMatcher(targetModules);
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

/** The names in the lists of an adapter's targets by which no linear layer of the model is called, and no parameter of experts. */
export function namesWithoutTarget({ adapter, linears, stacks }: CausalLM): { modules: string[]; parameters: string[] } {
  const { targetModules = [], targetParameters = [] } = adapter?.settings ?? {};
  const unused = (names: readonly string[], known: Iterable<string>): string[] => {
    const all = [...known];
    return names.filter((name) => !all.some(matcherOf([name])));
  };
  return {
    modules: typeof targetModules === 'string' ? [] : unused(targetModules, linears.keys()),
    parameters: unused(targetParameters, stacks.keys()),
  };
}

export function isPlainName(targetModules: LoraSettings['targetModules']): boolean {
  return typeof targetModules === 'string' && /^[\w.]+$/.test(targetModules);
}
