/**
 * Checkpoints of models that read pictures too: of those the language model is taken, which is a model by itself. What reads pictures, and heads that
 * guess several tokens ahead, are left aside.
 */
import { UserError } from '../errors';
import { ConfigReader } from './config';
import type { SafetensorsFile, TensorEntry } from './safetensors';

/** How a checkpoint holds a language model among other parts. */
interface Multimodal {
  /** Class of the language model in transformers, by its `model_type`. */
  readonly names: Readonly<Record<string, string>>;
  /** How names of its tensors begin, and how they begin in a checkpoint of the language model alone. */
  readonly prefixes: ReadonlyArray<readonly [within: string, alone: string]>;
  /** What its configuration has where it does not say. */
  readonly defaults: Readonly<Record<string, unknown>>;
  /** The same of keys that stand beside that configuration, and count before those in it. */
  readonly defaultsBeside?: Readonly<Record<string, unknown>>;
}

const HEAD = 'lm_head.';

const QWEN35: Multimodal = {
  names: { qwen3_5_text: 'Qwen3_5ForCausalLM' },
  prefixes: [
    ['model.language_model.', 'model.'],
    [HEAD, HEAD],
  ],
  defaults: { model_type: 'qwen3_5_text' },
};

/** As in LLaVA, and as some programs write them. */
const LLAVA: Multimodal['prefixes'] = [
  ['language_model.model.', 'model.'],
  [`language_model.${HEAD}`, HEAD],
  ['model.language_model.', 'model.'],
  [HEAD, HEAD],
];

const GEMMA3: Multimodal = {
  names: { gemma3_text: 'Gemma3ForCausalLM' },
  prefixes: LLAVA,
  defaults: { model_type: 'gemma3_text', vocab_size: 262208, num_attention_heads: 8, tie_word_embeddings: true },
};

const GEMMA4: Multimodal = {
  names: { gemma4_text: 'Gemma4ForCausalLM' },
  prefixes: LLAVA,
  defaults: { model_type: 'gemma4_text', vocab_size: 262144, num_attention_heads: 8 },
};

/** Gemma 4 12B. */
const GEMMA4_UNIFIED: Multimodal = {
  ...GEMMA4,
  names: { gemma4_unified_text: 'Gemma4UnifiedForCausalLM' },
  defaults: { ...GEMMA4.defaults, model_type: 'gemma4_unified_text' },
};

/** Ministral 3 and Mistral Small 3.1. */
const MISTRAL3: Multimodal = {
  names: { ministral3: 'Ministral3ForCausalLM', mistral: 'MistralForCausalLM' },
  prefixes: LLAVA,
  defaults: { model_type: 'mistral' },
  // a head of its own that the weights hold counts all the same
  defaultsBeside: { tie_word_embeddings: true },
};

/** By class in transformers. */
const MULTIMODAL: Readonly<Record<string, Multimodal>> = {
  Qwen3_5ForConditionalGeneration: QWEN35,
  Gemma3ForConditionalGeneration: GEMMA3,
  Gemma4ForConditionalGeneration: GEMMA4,
  Gemma4UnifiedForConditionalGeneration: GEMMA4_UNIFIED,
  Mistral3ForConditionalGeneration: MISTRAL3,
};

/** Their names. */
export const multimodalArchitectures: readonly string[] = Object.keys(MULTIMODAL);

/** Keys that count for the language model, although they may stand beside its configuration. */
const SHARED_KEYS = ['tie_word_embeddings', 'eos_token_id', 'bos_token_id', 'pad_token_id', 'dtype', 'torch_dtype', 'transformers_version'];

function multimodalOf(reader: ConfigReader): Multimodal | undefined {
  const [name] = [reader.get('architectures')].flat();
  return typeof name === 'string' && Object.hasOwn(MULTIMODAL, name) ? MULTIMODAL[name] : undefined;
}

/**
 * The configuration of the language model; one of a language model is returned as it is.
 * @throws UserError when it has none
 */
export function languageModelOf(reader: ConfigReader): ConfigReader {
  const multimodal = multimodalOf(reader);
  if (!multimodal) return reader;
  const own = reader.object('text_config');
  if (!own) throw new UserError(`${reader.place}: "text_config" is missing; expected the configuration of the language model.`);
  const shared = SHARED_KEYS.filter((key) => reader.get(key) !== undefined).map((key) => [key, reader.get(key)]);
  const { names, defaults, defaultsBeside } = multimodal;
  const raw: Record<string, unknown> = { ...defaults, ...own.raw, ...defaultsBeside, ...Object.fromEntries(shared) };
  const name = Object.hasOwn(names, String(raw.model_type)) ? names[String(raw.model_type)] : undefined;
  if (name === undefined) throw own.wrong('model_type', raw.model_type, `one of ${Object.keys(names).join(', ')}`);
  return new ConfigReader({ ...raw, architectures: [name] }, own.place);
}

/**
 * A file as if it held the language model alone.
 * @param reader the configuration of all parts, or of the language model, whose weights may still have their names among other parts (transformers
 *   saves Qwen3.5's so)
 */
export function ofLanguageModel(file: SafetensorsFile, reader: ConfigReader): SafetensorsFile {
  const multimodal = multimodalOf(reader) ?? (holdsOthersNames(file, QWEN35) ? QWEN35 : undefined);
  if (!multimodal) return file;
  const names = new Map<string, string>();
  const tensors = new Map<string, TensorEntry>();
  for (const [name, entry] of file.tensors) {
    const prefix = multimodal.prefixes.find(([within]) => name.startsWith(within));
    if (!prefix) continue;
    const alone = prefix[1] + name.slice(prefix[0].length);
    names.set(alone, name);
    tensors.set(alone, entry);
  }
  const within = (name: string): string => names.get(name) ?? name;
  const readBits: SafetensorsFile['readBits'] = (name, onBytes) => file.readBits?.(within(name), onBytes);
  return { ...file, tensors, read: (name, onBytes) => file.read(within(name), onBytes), readBits };
}

function holdsOthersNames({ tensors }: SafetensorsFile, { prefixes: [[within]] }: Multimodal): boolean {
  return [...tensors.keys()].some((name) => name.startsWith(within));
}
