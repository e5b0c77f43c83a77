/** What a trainer says of a model before it begins. */
import { type CausalLM, namesWithoutTarget } from '../model';

/** No layer is skipped; where TRL would, that is worth knowing. */
export function dropoutNotes({ config }: CausalLM): string[] {
  if (config.layerdrop === 0) return [];
  return [`By its config.json TRL would train this model with layerdrop ${config.layerdrop}; here training is without.`];
}

/** Names among the target modules that mean no layer are passed over, as in PEFT: what is meant for other models too is left there, but a slip is as well. */
export function targetNotes(model: CausalLM): string[] {
  const { modules, parameters } = namesWithoutTarget(model);
  const noteOf = (targets: string, names: readonly string[], kind: string): string[] => {
    if (names.length === 0) return [];
    const subject = names.length === 1 ? `${names[0]}, which is no ${kind}` : `${names.join(', ')}, which are no ${kind}s`;
    return [`The target ${targets} of the adapter name ${subject} of this model and without effect.`];
  };
  return [...noteOf('modules', modules, 'linear layer'), ...noteOf('parameters', parameters, 'parameter of experts')];
}
