/** The shapes that are measured: sizes of real models, whose weights do not matter for speed and memory. */
import { readJson } from '../../lib/files';
import type { Product } from './jobs';

/** A multiple of 128 that holds the vocabulary of every tokenizer that is used; the sizes of real GPT-NeoX checkpoints. */
const VOCABULARY = 50304;

/** `config.json` of each shape, without the ids of special tokens. */
export const SHAPES = {
  'smollm2-135m': {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: VOCABULARY,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    hidden_act: 'silu',
    max_position_embeddings: 2048,
    rope_theta: 100000,
    rms_norm_eps: 1e-6,
    initializer_range: 0.02,
    tie_word_embeddings: true,
  },
  'pythia-410m': {
    architectures: ['GPTNeoXForCausalLM'],
    model_type: 'gpt_neox',
    vocab_size: VOCABULARY,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    hidden_act: 'gelu',
    max_position_embeddings: 2048,
    rotary_pct: 0.25,
    rotary_emb_base: 10000,
    layer_norm_eps: 1e-5,
    initializer_range: 0.02,
    use_parallel_residual: true,
    tie_word_embeddings: false,
  },
} as const;

export type ShapeName = keyof typeof SHAPES;

export const shapeNames = Object.keys(SHAPES) as ShapeName[];

export function isShapeName(name: string): name is ShapeName {
  return Object.hasOwn(SHAPES, name);
}

/** The sizes by which a checkpoint is recognized. */
interface ConfigSizes {
  model_type: string;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
}

/** Sizes in a checkpoint's config.json. Loading the model checks the file; this only looks. */
export function readSizes(configFile: string): ConfigSizes {
  const config = readJson(configFile) as Record<string, number | null | undefined> & ConfigSizes;
  // under OPT's, GPT-2's and GPT-Neo's names too
  const hidden_size = config.hidden_size ?? config.n_embd;
  const intermediate_size = config.intermediate_size ?? config.ffn_dim ?? config.n_inner ?? 4 * hidden_size;
  return { ...config, hidden_size, intermediate_size, num_hidden_layers: config.num_hidden_layers ?? config.n_layer ?? config.num_layers };
}

/** The shape that a checkpoint has, if it is one of ours. */
export function shapeOf(config: ConfigSizes): ShapeName | undefined {
  const keys = ['model_type', 'hidden_size', 'intermediate_size', 'num_hidden_layers'] as const;
  return shapeNames.find((name) => keys.every((key) => SHAPES[name][key] === config[key]));
}

/** Rows of a model-shaped product: about the tokens that the trainer computes at once. */
const TOKENS = 1024;

/** Products whose best speed is the machine's ceiling: two squares, and those of the models' widest layers. */
export function ceilingProducts(models: readonly ConfigSizes[]): Product[] {
  const squares: Product[] = [1024, 2048].map((size) => [size, size, size]);
  const shaped = models.flatMap(({ hidden_size: hidden, intermediate_size: wide }): Product[] => [
    [TOKENS, hidden, wide],
    [TOKENS, wide, hidden],
  ]);
  return [...squares, ...shaped];
}
