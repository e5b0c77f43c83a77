/** A tokenizer as llama.cpp reads it: a list of tokens, their kinds and merges, and the name of the rule by which it cuts texts into words. */
import { UserError } from '../errors';
import { isObject, parseJson } from '../json';
import type { Tokenizer } from '../text';
import { bool, floats, type GgufKeys, type GgufValue, text, texts, whole, wholes } from './gguf-keys';

/** Kinds of tokens (`llama_token_type`). */
const KINDS = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

interface TokenizerJson {
  model: {
    type?: string;
    vocab: Record<string, number>;
    merges?: Array<string | [string, string]>;
    byte_fallback?: boolean;
    ignore_merges?: boolean;
    unk_token?: string | null;
  };
  added_tokens: Array<{ id: number; content: string; special: boolean }>;
  pre_tokenizer: unknown;
  normalizer: unknown;
}

type Refuse = (what: string) => UserError;

/**
 * The keys of a tokenizer.
 * @param rows of the embedding; those that no token has get one that is never used
 * @throws UserError when llama.cpp would make other tokens of a text
 */
export function ggufVocabulary(tokenizer: Tokenizer, rows: number): GgufKeys {
  const refuse: Refuse = (what) =>
    new UserError(
      `The tokenizer of ${tokenizer.directory} ${what}, for which llama.cpp has no rule; export it for transformers.js instead (exportModel).`,
    );
  const files = tokenizer.filesForTransformersJs();
  const json = read(files, 'tokenizer.json') as unknown as TokenizerJson;
  // transformers.js gets other words for the same; without the file it is GPT-2's kind
  json.pre_tokenizer = tokenizer.files.has('tokenizer.json')
    ? read(tokenizer.files, 'tokenizer.json').pre_tokenizer
    : { type: 'ByteLevel' };
  const { chat_template: template } = read(files, 'tokenizer_config.json');
  if (json.model.type !== 'BPE') throw refuse(`is of the type ${json.model.type ?? 'that it does not say'}`);
  const byTokens = json.model.byte_fallback ? sentencePieces(json, rows, refuse) : byteLevel(json, refuse);
  const unknown = json.model.unk_token ?? undefined;
  const ids = {
    bos: tokenizer.bosId,
    eos: tokenizer.eosId,
    padding: tokenizer.padId,
    unknown: idOf(json, unknown),
    eot: tokenizer.stopIds[1],
  };
  const named = Object.entries(ids).filter((entry): entry is [string, number] => entry[1] !== undefined);
  const around = tokenizer.encode('', { addSpecialTokens: true });
  return {
    ...byTokens,
    ...tokensOf(json, rows, unknown),
    ...Object.fromEntries(named.map(([kind, id]): [string, GgufValue] => [`tokenizer.ggml.${kind}_token_id`, whole(id)])),
    'tokenizer.ggml.add_bos_token': bool(tokenizer.bosId !== undefined && around[0] === tokenizer.bosId),
    'tokenizer.ggml.add_eos_token': bool(around.length > 1 && around.at(-1) === tokenizer.eosId),
    ...(typeof template === 'string' && { 'tokenizer.chat_template': text(template) }),
  };
}

function read(files: ReadonlyMap<string, Uint8Array>, name: string): Record<string, unknown> {
  const json = parseJson(new TextDecoder().decode(files.get(name)), name);
  return isObject(json) ? json : {};
}

function idOf({ model, added_tokens: added }: TokenizerJson, token: string | undefined): number | undefined {
  if (token === undefined) return undefined;
  return added.find(({ content }) => content === token)?.id ?? model.vocab[token];
}

/** Tokens and their kinds, by id. */
function tokensOf({ model, added_tokens: added }: TokenizerJson, rows: number, unknown: string | undefined): GgufKeys {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`);
  const kinds = new Array<number>(rows).fill(KINDS.unused);
  for (const [token, id] of Object.entries(model.vocab)) {
    tokens[id] = token;
    kinds[id] = model.byte_fallback && BYTE.test(token) ? KINDS.byte : KINDS.normal;
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    kinds[id] = special ? KINDS.control : KINDS.userDefined;
    if (content === unknown && model.byte_fallback) kinds[id] = KINDS.unknown;
  }
  return { 'tokenizer.ggml.tokens': texts(tokens), 'tokenizer.ggml.token_type': wholes(kinds) };
}

const BYTE = /^<0x[0-9A-F]{2}>$/;

/** A step of the way from a text to words. */
interface Step {
  type: string;
  [key: string]: unknown;
}

/** Pre-tokenizers and normalizers are a step or a sequence of them. */
function stepsOf(value: unknown, list: 'pretokenizers' | 'normalizers'): Step[] {
  if (!isObject(value)) return [];
  const inside = value[list];
  return value.type === 'Sequence' && Array.isArray(inside) ? inside.flatMap((step) => stepsOf(step, list)) : [value as unknown as Step];
}

/** BPE on bytes, as GPT-2's and most since. */
function byteLevel(json: TokenizerJson, refuse: Refuse): GgufKeys {
  const normalizer = stepsOf(json.normalizer, 'normalizers').find(({ type }) => type !== 'NFC');
  if (normalizer) throw refuse(`normalizes texts by ${normalizer.type}`);
  return {
    'tokenizer.ggml.model': text('gpt2'),
    'tokenizer.ggml.pre': text(ruleOf(json, refuse)),
    'tokenizer.ggml.merges': texts((json.model.merges ?? []).map((merge) => (Array.isArray(merge) ? merge.join(' ') : merge))),
  };
}

/** Expressions by which tokenizers cut a text into words, and llama.cpp's names of them. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    'llama-bpe',
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    'qwen2',
};

function ruleOf(json: TokenizerJson, refuse: Refuse): string {
  const steps = stepsOf(json.pre_tokenizer, 'pretokenizers');
  const last = steps.at(-1);
  if (last?.type !== 'ByteLevel') throw refuse('cuts texts into words without ByteLevel');
  if (last.add_prefix_space === true) throw refuse('puts a space before a text');
  const rule = nameOf(steps.slice(0, -1), last.use_regex !== false);
  if (rule === undefined) throw refuse(`cuts texts into words by ${steps.map(({ type }) => type).join(' and ')} in a way of its own`);
  if ((rule === 'llama-bpe') !== (json.model.ignore_merges ?? false))
    throw refuse('looks up whole words in another way than its kind does');
  return rule;
}

/** @param usesRegex whether GPT-2's own expression comes last */
function nameOf(steps: readonly Step[], usesRegex: boolean): string | undefined {
  const [first, ...others] = steps;
  if (others.length > 0) return undefined;
  if (first === undefined) return usesRegex ? 'gpt-2' : undefined;
  if (first.type === 'Digits') return first.individual_digits === true && usesRegex ? 'smollm' : undefined;
  const { pattern, behavior, invert } = first;
  if (first.type !== 'Split' || usesRegex || behavior !== 'Isolated' || invert === true || !isObject(pattern)) return undefined;
  return EXPRESSIONS[String(pattern.Regex)];
}

/**
 * BPE on characters with bytes for what has none, as SentencePiece's of Llama 2 and Gemma. llama.cpp has no list of merges: of all neighbours that
 * make a token it joins those whose token has the highest score. So a token's score is the place of its merges in the list, which have to be together.
 */
function sentencePieces(json: TokenizerJson, rows: number, refuse: Refuse): GgufKeys {
  const { vocab, merges = [] } = json.model;
  const steps = stepsOf(json.normalizer, 'normalizers');
  const other = steps.find(({ type }) => type !== 'Prepend' && type !== 'Replace');
  if (other || !steps.some(({ type }) => type === 'Replace')) throw refuse(`normalizes texts by ${other?.type ?? 'nothing'}`);
  const ranks = new Map<string, number>();
  let last = '';
  for (const merge of merges) {
    const token = (Array.isArray(merge) ? merge : merge.split(' ')).join('');
    if (token !== last && ranks.has(token) && !isRun(token)) throw refuse(`merges ${JSON.stringify(token)} at several places of its order`);
    if (!ranks.has(token)) ranks.set(token, ranks.size);
    last = token;
  }
  const scores = new Array<number>(rows).fill(-ranks.size);
  for (const [token, rank] of ranks) scores[vocab[token]] = -rank;
  return {
    'tokenizer.ggml.model': text('llama'),
    'tokenizer.ggml.pre': text('default'),
    'tokenizer.ggml.scores': floats(scores),
    'tokenizer.ggml.add_space_prefix': bool(steps.some(({ type }) => type === 'Prepend')),
  };
}

/** Whether a token is one character again and again: such ones are made of each other alone. */
const isRun = (token: string): boolean => new Set(token).size === 1;
