/**
 * LFM2-MoE (Liquid AI 2025): LFM2, but that behind the first layers experts are in the place of the MLP. A token's experts are those with the largest
 * sigmoids of the router's logits, to which a vector of the checkpoint may be added for choosing alone; what they count is the sigmoids.
 */
import { ConfigReader } from './config';
import { type ExpertsConfig, readExperts } from './experts';
import { checkLfm2LayerTypes, type Lfm2Config, readConvolvingConfig } from './lfm2';

export function readLfm2MoeConfig(reader: ConfigReader): Lfm2Config {
  const { raw, place } = reader;
  const config = readConvolvingConfig(new ConfigReader({ intermediate_size: 7168, ...raw }, place), 'lfm2_moe');
  const { numHiddenLayers } = config;
  return {
    ...config,
    raw,
    layerTypes: checkLfm2LayerTypes(reader, reader.get('layer_types'), numHiddenLayers),
    experts: readSigmoidExperts(reader, numHiddenLayers),
  };
}

function readSigmoidExperts(reader: ConfigReader, layers: number): ExpertsConfig {
  const dense = reader.notNegative('num_dense_layers', 2);
  if (!Number.isInteger(dense)) throw reader.wrong('num_dense_layers', dense, 'a whole number');
  // the class computes with silu whatever the configuration says
  const { raw, place } = reader;
  const counts = readExperts(new ConfigReader({ ...raw, hidden_act: 'silu' }, place), { key: 'num_experts', fallback: 32, perToken: 4 });
  return {
    ...counts,
    scores: 'sigmoid',
    normalized: reader.boolean('norm_topk_prob', true),
    scale: reader.positive('routed_scaling_factor', 1),
    biased: reader.boolean('use_expert_bias', true),
    intermediateSize: reader.count('moe_intermediate_size', 1792),
    layers: Array.from({ length: layers }, (_, layer) => layer >= dense),
    withoutRouterLoss: true,
  };
}
