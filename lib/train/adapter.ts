/** The adapter of a run, with what TRL's trainer makes of its settings where tokens came with a chat template. */
import { addAdapter, type CausalLM, isTrainableTokens, type LoraConfig, peftKeys } from '../model';
import { checkTrainable, compactOptions } from '../model/compact-weights';
import { isListOfNames } from '../model/lora-targets';
import { HEAD, isMeant, lastPart, moduleOf } from '../model/names';

/**
 * Gives a model the adapter that a run trains, if it is to have one.
 * @returns what to say of it
 * @throws UserError as `addAdapter`, and when there is nothing to train without one
 */
export function startAdapter(model: CausalLM, config: LoraConfig | undefined, seed: number): string[] {
  if (!config) {
    checkTrainable(model);
    return [];
  }
  const settings = trainAddedTokens(config, model);
  addAdapter(model, settings, { seed });
  const parts = [
    ...(settings.trainableTokenIndices === config.trainableTokenIndices
      ? []
      : [`the rows of the ${model.tokenizer.addedIds?.length} new tokens`]),
    ...(settings.modulesToSave === config.modulesToSave ? [] : [`${HEAD} whole`]),
  ];
  return parts.length === 0 ? [] : [`The adapter trains ${parts.join(', and ')}, as in TRL.`];
}

/**
 * The settings with which a model learns the tokens that came with its chat template: their rows of the embedding, and the whole of an output
 * head of its own. A head that is the embedding has the rows with it; TRL 1.13 asks for that head as a module to save there, too, which PEFT
 * 0.21 cannot compute.
 */
function trainAddedTokens(
  config: LoraConfig,
  { tokenizer: { addedIds }, embeddings, config: { tieWordEmbeddings: tied } }: CausalLM,
): LoraConfig {
  const { trainableTokenIndices: given, modulesToSave = [] } = config;
  // what is wrong with them is said where all settings are looked at
  const isOdd = (given !== undefined && !isTrainableTokens(given)) || !isListOfNames(modulesToSave);
  if (!addedIds?.length || isOdd) return config;
  const table = moduleOf(embeddings[0].weight.name);
  const name = lastPart(table);
  const byModule = (Array.isArray(given) ? { [name]: given } : { ...given }) as Record<string, readonly number[]>;
  const key = Object.keys(byModule).find((module) => table.endsWith(module)) ?? name;
  const isWhole = isMeant(table, modulesToSave);
  const hasHead = tied || isMeant(HEAD, modulesToSave);
  return {
    ...config,
    ...(!isWhole && { trainableTokenIndices: { ...byModule, [key]: [...new Set([...(byModule[key] ?? []), ...addedIds])] } }),
    ...(!hasHead && { modulesToSave: [...modulesToSave, HEAD] }),
  };
}

/** What a run's settings say of its adapter, and of the weights that it is trained beside, under their names in files. */
export function keysOfAdapter(model: CausalLM): Record<string, unknown> {
  const { adapter } = model;
  const { loadIn4bit, dtype } = compactOptions(model);
  return {
    ...(adapter && { peft_config: peftKeys(adapter.settings) }),
    ...(loadIn4bit && { load_in_4bit: true }),
    ...(dtype && { dtype }),
  };
}
