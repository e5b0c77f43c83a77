/**
 * The class by which transformers opens a tokenizer. Some of them build anew how a text is cut, whatever tokenizer.json says, so that transformers 5
 * makes other tokens of some texts than their models were trained on (https://github.com/huggingface/transformers/issues/45488). Here
 * tokenizer.json counts, and what is saved names the class that reads it as it is.
 */
import { isObject } from '../json';

type JsonObject = Readonly<Record<string, unknown>>;

/** The class that has no ways of its own, by the name that all versions of transformers know. */
const PLAIN = 'PreTrainedTokenizerFast';

/** Models of which AutoTokenizer does not believe the class that their files name: it takes the plain one, or always the same. */
const NOT_BELIEVED = new Set([
  'ernie4_5',
  'glm',
  'glm4',
  'gpt_bigcode',
  'granite',
  'granitemoe',
  'granitemoehybrid',
  'ministral3',
  'mistral',
  'mixtral',
  'olmo2',
  'olmo3',
  'phi3',
  'qwen2',
  'stablelm',
]);

/** The class of a model whose files name none. */
const CLASSES: Readonly<Record<string, string>> = {
  ...{ gpt2: 'GPT2Tokenizer', gpt_neo: 'GPT2Tokenizer', opt: 'GPT2Tokenizer', phi: 'GPT2Tokenizer', starcoder2: 'GPT2Tokenizer' },
  ...{ gptj: 'GPT2Tokenizer', codegen: 'GPT2Tokenizer' },
  ...{ gpt_neox: 'GPTNeoXTokenizer', olmo: 'GPTNeoXTokenizer', olmoe: 'GPTNeoXTokenizer' },
};

/** The class that AutoTokenizer of transformers 5.18 takes, as far as the files decide; by its name without "Fast". */
export function tokenizerClass({ tokenizer_class: named }: JsonObject, modelType: unknown): string | undefined {
  if (typeof modelType !== 'string') return typeof named === 'string' ? withoutFast(named) : undefined;
  if (NOT_BELIEVED.has(modelType)) return undefined;
  return typeof named === 'string' ? withoutFast(named) : CLASSES[modelType];
}

const withoutFast = (name: string): string => name.replace(/Fast$/, '');

/** A class that cuts texts otherwise than a tokenizer.json says. */
export interface OtherClass {
  readonly name: string;
  /** Whether transformers takes it beside the model's files; of a tokenizer alone, as with an adapter, it always does. */
  readonly taken: boolean;
}

/** The class of a tokenizer, where that cuts texts otherwise than its tokenizer.json says. */
export function otherClassOf(json: JsonObject, tokenizerConfig: JsonObject, modelType: unknown): OtherClass | undefined {
  const taken = tokenizerClass(tokenizerConfig, modelType);
  const name = taken ?? tokenizerClass(tokenizerConfig, undefined);
  const isOwn = name === undefined ? undefined : WAYS[name];
  return name === undefined || isOwn === undefined || isOwn(json, tokenizerConfig) ? undefined : { name, taken: taken !== undefined };
}

/** Of classes that build it anew: whether that is what a tokenizer.json says. */
const WAYS: Readonly<Record<string, (json: JsonObject, tokenizerConfig: JsonObject) => boolean>> = {
  GPT2Tokenizer: ({ model, normalizer, pre_tokenizer: cut }, { add_prefix_space: prefix }) =>
    isNothing(normalizer) &&
    isObject(cut) &&
    cut.type === 'ByteLevel' &&
    cut.use_regex !== false &&
    (cut.add_prefix_space === true) === (prefix === true) &&
    !(isObject(model) && model.ignore_merges === true),
  LlamaTokenizer: (json, { add_prefix_space: prefix, legacy }) =>
    isMetaspace(json, prefix === false ? 'never' : legacy === true ? 'always' : 'first'),
  CodeLlamaTokenizer: (json, { add_prefix_space: prefix }) => isMetaspace(json, prefix === false ? 'never' : 'first'),
};

function isNothing(normalizer: unknown): boolean {
  return !isObject(normalizer) || (Array.isArray(normalizer.normalizers) && normalizer.normalizers.length === 0);
}

function isMetaspace({ normalizer, pre_tokenizer: cut }: JsonObject, scheme: string): boolean {
  return isNothing(normalizer) && isObject(cut) && cut.type === 'Metaspace' && cut.split === false && cut.prepend_scheme === scheme;
}

/**
 * The same configuration for the class that reads tokenizer.json as it is. What the other one would add of itself is written down: what a model is
 * given, on which side it is padded, and the tokens with a part.
 * @param has whether the vocabulary has a token
 */
export function withPlainClass(tokenizerConfig: JsonObject, other: OtherClass, has: (token: string) => boolean): JsonObject {
  return {
    model_input_names: ['input_ids', 'attention_mask'],
    ...(other.taken && (other.name === 'GPT2Tokenizer' ? tokensOf(GPT2, has) : { padding_side: 'left', ...tokensOf(LLAMA, has) })),
    ...tokenizerConfig,
    tokenizer_class: PLAIN,
  };
}

const GPT2 = { bos_token: '<|endoftext|>', eos_token: '<|endoftext|>', unk_token: '<|endoftext|>' };
const LLAMA = { bos_token: '<s>', eos_token: '</s>', unk_token: '<unk>' };

function tokensOf(ofClass: Readonly<Record<string, string>>, has: (token: string) => boolean): JsonObject {
  return Object.fromEntries(Object.entries(ofClass).filter(([, token]) => has(token)));
}
