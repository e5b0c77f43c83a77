/** OLMoE (Muennighoff et al. 2024): Llama with OLMo 2's attention, and experts in the place of the MLP. */
import { ConfigReader } from './config';
import type { Origin } from './decoder';
import { keyOfCount, readExperts } from './experts';
import type { ParameterList } from './layers';
import { Attention, type Olmo2Config, readOlmo2Config } from './olmo2';
import { PreNormBlock, type PreNormConfig } from './pre-norm-block';
import { RotaryDecoder } from './rotary-decoder';

export type OlmoeConfig = Olmo2Config & PreNormConfig;

export function readOlmoeConfig(reader: ConfigReader): OlmoeConfig {
  const common = readOlmo2Config(new ConfigReader({ max_position_embeddings: 4096, ...reader.raw }, reader.place));
  if (reader.get('clip_qkv') !== undefined)
    throw reader.wrong(
      'clip_qkv',
      reader.raw.clip_qkv,
      'null: queries, keys and values are not clipped here, and none of the published models clips them',
    );
  return {
    ...common,
    family: 'olmoe',
    raw: reader.raw,
    experts: {
      ...readExperts(reader, { key: keyOfCount(reader), fallback: 64, perToken: 8 }),
      normalized: reader.boolean('norm_topk_prob', false),
      intermediateSize: common.intermediateSize,
      layers: new Array<boolean>(common.numHiddenLayers).fill(true),
    },
  };
}

class Block extends PreNormBlock<OlmoeConfig> {
  constructor(config: OlmoeConfig, layer: number, parameters: ParameterList) {
    super(config, layer, parameters, Attention);
  }
}

export class Olmoe extends RotaryDecoder<OlmoeConfig> {
  constructor(config: OlmoeConfig, origin: Origin) {
    super(config, origin, Block);
  }
}
