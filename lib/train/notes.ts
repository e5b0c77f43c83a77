/** What a trainer says of a model before it begins. */
import { type CausalLM, namesWithoutLayer } from '../model';

/** No layer is skipped; where TRL would, that is worth knowing. */
export function dropoutNotes({ config }: CausalLM): string[] {
  if (config.layerdrop === 0) return [];
  return [`By its config.json TRL would train this model with layerdrop ${config.layerdrop}; here training is without.`];
}

/** Names among the target modules that mean no layer are passed over, as in PEFT: what is meant for other models too is left there, but a slip is as well. */
export function targetNotes(model: CausalLM): string[] {
  const names = namesWithoutLayer(model);
  if (names.length === 0) return [];
  const subject = names.length === 1 ? `${names[0]}, which is no linear layer` : `${names.join(', ')}, which are no linear layers`;
  return [`The target modules of the adapter name ${subject} of this model and without effect.`];
}
