/**
 * Models whose linear layers have their weights in few bits (engine/compact-matrix.ts) for training an adapter beside them: in 4, an eighth of the
 * memory (QLoRA), or in 16, half of it. As in transformers with bitsandbytes, these are all linear layers but the output head; embeddings, norms and biases
 * stay in float32, but for what may be in 16 bits, too: experts, and the table in which a Gemma 4's layers look tokens up, a good part of its weights.
 */
import type { HalfDtype } from '../engine';
import { UserError } from '../errors';
import type { CausalLM } from './types';

type WithWeights = Pick<CausalLM, 'linears' | 'embeddings' | 'stacks'>;

/** The options of `loadModel` that made weights compact. */
export function compactOptions({ linears, embeddings, stacks }: WithWeights): { loadIn4bit?: true; dtype?: HalfDtype } {
  const matrices = [...linears.values(), ...embeddings, ...stacks.values()].flatMap(({ weight }) => weight.compact ?? []);
  const half = matrices.find((matrix) => matrix.bits === 16);
  return { ...(matrices.some(({ bits }) => bits === 4) && { loadIn4bit: true }), ...(half && { dtype: half.dtype }) };
}

/** What the weights are in: `4 bits`, `bfloat16`; undefined where all are in float32. */
export function compactName(model: WithWeights): string | undefined {
  const { loadIn4bit, dtype } = compactOptions(model);
  return loadIn4bit ? '4 bits' : dtype;
}

/** How to say that a model is to be loaded in float32; in brackets, how a recipe says it. */
export function withoutCompact(model: WithWeights): { option: string; inRecipe: string } {
  const { loadIn4bit, dtype } = compactOptions(model);
  if (loadIn4bit && dtype) return { option: 'loadIn4bit and dtype', inRecipe: 'load_in_4bit: false, dtype: float32' };
  return loadIn4bit ? { option: 'loadIn4bit', inRecipe: 'load_in_4bit: false' } : { option: 'dtype', inRecipe: 'dtype: float32' };
}

/**
 * Refuses what needs the weights themselves.
 * @param lack what the sentence says of the model
 * @throws UserError when the model's weights are compact
 */
export function refuseCompact(model: CausalLM, lack: string, remedy = remedyFor(model)): void {
  const name = compactName(model);
  if (name !== undefined) throw new UserError(`The model ${model.source} was loaded in ${name}, so it ${lack}; ${remedy}.`);
}

/** @throws UserError when there is nothing to train: compact weights, and no adapter */
export function checkTrainable(model: CausalLM): void {
  if (model.adapter) return;
  const { option, inRecipe } = withoutCompact(model);
  refuseCompact(
    model,
    'is not trained itself',
    `train an adapter beside it (peftConfig; in a recipe use_peft: true), or load it without ${option} (${inRecipe})`,
  );
}

function remedyFor(model: CausalLM): string {
  const { option } = withoutCompact(model);
  // where no checkpoint has the base, the adapter is not saved alone
  return model.adapter?.base ? `save its adapter, and load that folder without ${option}` : `load it without ${option}`;
}
