/**
 * Granite 4.0 (IBM 2025): Granite, but that the two factors of the gated MLP are one matrix, that queries and keys may not turn
 * with their positions, and that in some layers Mamba 2 may be in the place of attention. Where there are experts, the MLP is what all tokens go
 * through beside them.
 */
import { ConfigReader } from './config';
import { type GraniteConfig, readGraniteConfig, readGraniteExperts } from './granite';
import { readMamba2Config } from './mamba2';

export function readGraniteMoeHybridConfig(reader: ConfigReader): GraniteConfig {
  const intermediate_size = reader.count('shared_intermediate_size', 1024);
  const config = readGraniteConfig(new ConfigReader({ ...reader.raw, intermediate_size, mlp_bias: false }, reader.place));
  const hasExperts = reader.raw.num_local_experts !== 0;
  const layers = readMambaLayers(reader, config.numHiddenLayers);
  const turns = reader.get('position_embedding_type') === 'rope';
  const keepsState = layers.includes(true);
  const width = reader.count('mamba_expand', 2) * config.hiddenSize;
  return {
    ...config,
    family: 'granitemoehybrid',
    raw: reader.raw,
    experts: hasExperts ? readGraniteExperts(reader, { ...config, intermediateSize: reader.count('intermediate_size', 11008) }) : undefined,
    keepsState,
    rotaryLayers: config.rotaryLayers.map(() => turns),
    mamba: keepsState ? { ...readMamba2Config(reader, { width, outBias: 'mamba_proj_bias' }), layers } : undefined,
  };
}

const MAMBA = ['mamba', 'linear_attention'];
const ATTENTION = ['attention', 'full_attention'];

/** Of each layer whether it is one of Mamba 2, as all are where the configuration does not say. */
function readMambaLayers(reader: ConfigReader, layers: number): boolean[] {
  const types = reader.get('layer_types') ?? reader.get('layers_block_type') ?? new Array<string>(layers).fill('mamba');
  const isKnown = (type: unknown): type is string => typeof type === 'string' && [...MAMBA, ...ATTENTION].includes(type);
  if (!Array.isArray(types) || types.length !== layers || !types.every(isKnown))
    throw reader.wrong('layer_types', types, `"attention" or "mamba" for each of the ${layers} layers`);
  return types.map((type) => MAMBA.includes(type));
}
