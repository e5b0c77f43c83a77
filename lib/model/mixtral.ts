/** Mixtral (Jiang et al. 2024, "Mixtral of Experts"): Mistral with experts in the place of the MLP, whose weights sum up to 1 for each token. */
import { ConfigReader } from './config';
import { keyOfCount, readExperts } from './experts';
import { type LlamaConfig, readLlamaConfig } from './llama';
import { readRope, ropePositionLimit } from './rope';

const DEFAULTS = { intermediate_size: 14336, num_key_value_heads: 8, max_position_embeddings: 131072, rms_norm_eps: 1e-5, eos_token_id: 2 };

export function readMixtralConfig(reader: ConfigReader): LlamaConfig {
  const common = readLlamaConfig(new ConfigReader({ ...DEFAULTS, ...reader.raw }, reader.place));
  const { numHiddenLayers, intermediateSize, headDim, maxPositionEmbeddings } = common;
  const rope = readRope(reader, headDim, maxPositionEmbeddings, { theta: 1e6 });
  const noise = reader.notNegative('router_jitter_noise', 0);
  if (noise > 0) throw reader.wrong('router_jitter_noise', noise, '0, as what experts read is not multiplied by chance here');
  const window = reader.get('sliding_window') === undefined ? undefined : reader.count('sliding_window');
  return {
    ...common,
    family: 'mixtral',
    raw: reader.raw,
    rope,
    positionLimit: ropePositionLimit(rope),
    windows: new Array<number | undefined>(numHiddenLayers).fill(window),
    experts: {
      ...readExperts(reader, { key: keyOfCount(reader), fallback: 8, perToken: 2 }),
      normalized: true,
      intermediateSize,
      layers: new Array<boolean>(numHiddenLayers).fill(true),
    },
  };
}
