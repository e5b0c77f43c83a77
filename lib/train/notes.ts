/** What a trainer says of a model before it begins. */
import type { CausalLM } from '../model';

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
