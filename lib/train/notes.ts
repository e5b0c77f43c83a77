/** What a trainer says of a model before it begins. */
import { type CausalLM, namesWithoutLayer } from '../model';

/** Of attention's weights, and of whole layers, nothing is dropped; where TRL would, that is worth knowing. */
export function dropoutNotes({ config }: CausalLM): string[] {
  const shares = Object.entries(config.otherDropout).map(([key, share]) => `${key} ${share}`);
  if (shares.length === 0) return [];
  return [`By its config.json TRL would train this model with ${shares.join(', ')}; here training is without.`];
}

/** Names among the target modules that mean no layer are passed over, as in PEFT: what is meant for other models too is left there, but a slip is as well. */
export function targetNotes(model: CausalLM): string[] {
  const names = namesWithoutLayer(model);
  if (names.length === 0) return [];
  const subject = names.length === 1 ? `${names[0]}, which is no linear layer` : `${names.join(', ')}, which are no linear layers`;
  return [`The target modules of the adapter name ${subject} of this model and without effect.`];
}
