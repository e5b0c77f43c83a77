/**
 * Models whose linear layers have their weights in 4 bits (engine/normal-float.ts), an eighth of the memory, for training an adapter beside
 * them: QLoRA. As in transformers with bitsandbytes, all linear layers but the output head; embeddings, norms and biases stay in float32.
 */
import { UserError } from '../errors';
import type { CausalLM } from './types';

export function isInFourBits({ linears }: Pick<CausalLM, 'linears'>): boolean {
  return [...linears.values()].some(({ weight }) => weight.inFourBits);
}

/**
 * Refuses what needs the weights themselves.
 * @param lack what the sentence says of the model
 * @throws UserError when the model's weights are in 4 bits
 */
export function refuseFourBits(model: CausalLM, lack: string, remedy = remedyFor(model)): void {
  if (!isInFourBits(model)) return;
  throw new UserError(`The model ${model.source} was loaded in 4 bits, so it ${lack}; ${remedy}.`);
}

/** @throws UserError when there is nothing to train: weights in 4 bits, and no adapter */
export function checkTrainable(model: CausalLM): void {
  if (model.adapter) return;
  refuseFourBits(
    model,
    'is not trained itself',
    'train an adapter beside it (peftConfig; in a recipe use_peft: true), or load it without loadIn4bit (load_in_4bit: false)',
  );
}

function remedyFor({ adapter }: CausalLM): string {
  // where no checkpoint has the base, the adapter is not saved alone
  return adapter?.base ? 'save its adapter, and load that folder without loadIn4bit' : 'load it without loadIn4bit';
}
