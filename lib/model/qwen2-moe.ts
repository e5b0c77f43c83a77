/**
 * Qwen2-MoE (Qwen team 2024; Qwen1.5-MoE, Qwen2-57B-A14B): Qwen2 with experts in the place of the MLP, and beside them one that all tokens go through
 * (shared-expert.ts).
 */
import { ConfigReader, readTypedWindows } from './config';
import { type LlamaConfig, readLlamaConfig } from './llama';
import { readQwenExperts } from './qwen3';

const DEFAULTS = { max_position_embeddings: 32768, num_key_value_heads: 16, intermediate_size: 5632 };
const EXPERTS = { key: 'num_experts', fallback: 60, perToken: 4, intermediateSize: 1408 };

export function readQwen2MoeConfig(reader: ConfigReader): LlamaConfig {
  const common = readLlamaConfig(new ConfigReader({ ...DEFAULTS, ...reader.raw }, reader.place));
  const { numHiddenLayers } = common;
  return {
    ...common,
    family: 'qwen2_moe',
    raw: reader.raw,
    qkvBias: reader.boolean('qkv_bias', true),
    windows: readWindows(reader, numHiddenLayers),
    experts: {
      ...readQwenExperts(reader, numHiddenLayers, EXPERTS),
      sharedSize: reader.count('shared_expert_intermediate_size', 5632),
    },
  };
}

/** Every other layer up to one of them has a window, unlike in Qwen2, where those from one on have it. */
function readWindows(reader: ConfigReader, layers: number): LlamaConfig['windows'] {
  const slides = reader.boolean('use_sliding_window', false);
  const end = reader.get('max_window_layers') === 0 ? 0 : reader.count('max_window_layers', 28);
  const window = (): number => {
    if (slides) return reader.count('sliding_window', 4096);
    throw reader.wrong('layer_types', reader.raw.layer_types, '"full_attention" alone, as use_sliding_window is false');
  };
  return readTypedWindows(reader, layers, (layer) => slides && layer % 2 === 0 && layer < end, window);
}
