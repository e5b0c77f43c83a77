/** What a trainer says of a model before it begins. */
import { type CausalLM, namesWithoutLayer } from '../model';

/** Training is without dropout; of a model or an adapter that TRL would train with some, that is worth knowing. */
export function dropoutNotes({ config, adapter }: CausalLM): string[] {
  const shares = Object.entries(config.dropout).map(([key, share]) => `${key} ${share}`);
  const ofAdapter = adapter?.settings.loraDropout ?? 0;
  return [
    ...(shares.length > 0
      ? [`By its config.json TRL would train this model with ${shares.join(', ')}; here training is without dropout.`]
      : []),
    ...(ofAdapter > 0 ? [`TRL would train the adapter with lora_dropout ${ofAdapter}; here training is without dropout.`] : []),
  ];
}

/** Names among the target modules that mean no layer are passed over, as in PEFT: what is meant for other models too is left there, but a slip is as well. */
export function targetNotes({ adapter }: CausalLM): string[] {
  const names = adapter ? namesWithoutLayer(adapter) : [];
  if (names.length === 0) return [];
  const subject = names.length === 1 ? `${names[0]}, which is no linear layer` : `${names.join(', ')}, which are no linear layers`;
  return [`The target modules of the adapter name ${subject} of this model and without effect.`];
}
