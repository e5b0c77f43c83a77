/**
 * Granite 4.0 (IBM 2025) where it is dense: Granite, but that the two factors of the gated MLP are one matrix, and queries and keys may not turn
 * with their positions. Models of the same class with layers of Mamba, or with experts, are refused.
 */
import { UserError } from '../errors';
import { ConfigReader } from './config';
import { type GraniteConfig, readGraniteConfig } from './granite';

export function readGraniteMoeHybridConfig(reader: ConfigReader): GraniteConfig {
  const intermediate_size = reader.count('shared_intermediate_size', 1024);
  const config = readGraniteConfig(new ConfigReader({ ...reader.raw, intermediate_size, mlp_bias: false }, reader.place));
  checkDense(reader, config.numHiddenLayers);
  const turns = reader.get('position_embedding_type') === 'rope';
  // keys of the parts that the model does not have: transformers refuses their numbers where they are written without a point, as 0 for 0.0
  const { time_step_limit: _limit, router_aux_loss_coef: _coefficient, ...raw } = reader.raw;
  return { ...config, family: 'granitemoehybrid', raw, rotaryLayers: config.rotaryLayers.map(() => turns) };
}

/** @throws UserError when the model is more than attention and MLPs, by what is in it */
function checkDense(reader: ConfigReader, layers: number): void {
  const experts = reader.raw.num_local_experts === 0 ? 0 : reader.count('num_local_experts', 8);
  const types = reader.get('layer_types') ?? reader.get('layers_block_type') ?? new Array<string>(layers).fill('mamba');
  if (!Array.isArray(types) || types.length !== layers) throw reader.wrong('layer_types', types, `a kind for each of the ${layers} layers`);
  const found = [
    ...(types.every((type) => type === 'attention' || type === 'full_attention') ? [] : ['layers of Mamba']),
    ...(experts === 0 ? [] : [`${experts} experts`]),
  ];
  if (found.length > 0)
    throw new UserError(
      `${reader.place}: the model has ${found.join(' and ')}, which are not supported; of the architecture GraniteMoeHybridForCausalLM ` +
        'those are whose layers are all attention, without experts, such as Granite 4.0 350M and 1B.',
    );
}
