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
export function refuseFourBits(model: CausalLM, lack: string): void {
  if (!isInFourBits(model)) return;
  const remedy = model.adapter ? 'save its adapter, and load that folder without loadIn4bit' : 'load it without loadIn4bit';
  throw new UserError(`The model ${model.source} was loaded in 4 bits, so it ${lack}; ${remedy}.`);
}
