/** A tokenizer as llama.cpp reads it: a list of tokens, their kinds and merges, and the name of the rule by which it cuts texts into words. */
import { UserError } from '../errors';
import { isObject, parseJson } from '../json';
import type { AddedToken, Tokenizer } from '../text';
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
    dropout?: number | null;
    continuing_subword_prefix?: string | null;
    end_of_word_suffix?: string | null;
  };
  added_tokens: AddedToken[];
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
  const { chat_template, add_prefix_space } = read(files, 'tokenizer_config.json');
  // transformers.js gets other words for the same; without the file it is GPT-2's kind
  const own = tokenizer.files.has('tokenizer.json') ? read(tokenizer.files, 'tokenizer.json').pre_tokenizer : undefined;
  json.pre_tokenizer = tokenizer.files.has('tokenizer.json') ? own : { type: 'ByteLevel', add_prefix_space };
  checkModel(json, refuse);
  const byTokens = json.model.byte_fallback ? sentencePieces(json, rows, refuse) : byteLevel(json, refuse);
  const template = templateOf(chat_template);
  return {
    ...byTokens,
    ...tokensOf(json, rows, refuse),
    ...specialIds(json, tokenizer),
    ...surroundings(tokenizer, refuse),
    ...(template !== undefined && { 'tokenizer.chat_template': text(template) }),
  };
}

function checkModel({ model, added_tokens: added }: TokenizerJson, refuse: Refuse): void {
  if (model.type !== 'BPE') throw refuse(`is of the type ${model.type ?? 'that it does not say'}`);
  if (model.dropout || model.continuing_subword_prefix || model.end_of_word_suffix)
    throw refuse('drops merges by chance, or marks the pieces of a word');
  const stripping = added.find(({ lstrip, rstrip, single_word }) => lstrip || rstrip || single_word);
  if (stripping) throw refuse(`takes spaces along with the token ${JSON.stringify(stripping.content)}, or finds it in whole words alone`);
}

/** Of several templates the one for conversations. */
function templateOf(given: unknown): string | undefined {
  if (typeof given === 'string') return given;
  const found = Array.isArray(given) ? given.find((entry) => isObject(entry) && entry.name === 'default')?.template : undefined;
  return typeof found === 'string' ? found : undefined;
}

/** The tokens with a part of their own. Of the ids that end a text llama.cpp has room for three. */
function specialIds(json: TokenizerJson, { bosId, eosId, padId, stopIds }: Tokenizer): GgufKeys {
  const unknown = idOf(json, json.model.unk_token ?? undefined);
  const ids = { bos: bosId, eos: eosId, padding: padId, unknown, eot: stopIds[1], eom: stopIds[2] };
  const known = Object.entries(ids).filter((entry): entry is [string, number] => entry[1] !== undefined);
  return Object.fromEntries(known.map(([kind, id]): [string, GgufValue] => [`tokenizer.ggml.${kind}_token_id`, whole(id)]));
}

/** Whether a text gets tokens around it. */
function surroundings(tokenizer: Tokenizer, refuse: Refuse): GgufKeys {
  const { bosId, eosId } = tokenizer;
  const sample = someText(tokenizer);
  const [alone, around] = [tokenizer.encode(sample), tokenizer.encode(sample, { addSpecialTokens: true })];
  const first = around.findIndex((_, i) => alone.every((id, j) => around[i + j] === id));
  const [before, behind] = [around.slice(0, first), around.slice(first + alone.length)];
  const isOne = (ids: readonly number[], id?: number): boolean => ids.length === 0 || (ids.length === 1 && ids[0] === id);
  if (first < 0 || !isOne(before, bosId) || !isOne(behind, eosId)) throw refuse('puts other tokens around a text than BOS and EOS');
  return { 'tokenizer.ggml.add_bos_token': bool(before.length > 0), 'tokenizer.ggml.add_eos_token': bool(behind.length > 0) };
}

/** One that becomes at least a token. */
function someText({ decode, encode, vocabSize }: Tokenizer): string {
  for (let id = 0; id < vocabSize; id++) {
    const text = decode([id]);
    if (encode(text).length > 0) return text;
  }
  return '';
}

function read(files: ReadonlyMap<string, Uint8Array>, name: string): Record<string, unknown> {
  const json = parseJson(new TextDecoder().decode(files.get(name)), name);
  return isObject(json) ? json : {};
}

function idOf({ model, added_tokens: added }: TokenizerJson, token: string | undefined): number | undefined {
  if (token === undefined) return undefined;
  return added.find(({ content }) => content === token)?.id ?? model.vocab[token];
}

/** Tokens and their kinds, by id. Those that the embedding has no row for are left out. */
function tokensOf({ model, added_tokens: added, normalizer }: TokenizerJson, rows: number, refuse: Refuse): GgufKeys {
  const tokens = new Array<string | undefined>(rows).fill(undefined);
  const kinds = new Array<number>(rows).fill(KINDS.unused);
  const put = (id: number, token: string, kind: number): void => {
    if (id >= rows) return;
    tokens[id] = token;
    kinds[id] = kind;
  };
  const isBytes = model.byte_fallback === true;
  for (const [token, id] of Object.entries(model.vocab)) put(id, token, isBytes && BYTE.test(token) ? KINDS.byte : KINDS.normal);
  const hasPrefix = stepsOf(normalizer, 'normalizers').some(isPrefix);
  const rewrites = (content: string): boolean => isBytes && (hasPrefix || content.includes(' '));
  for (const { id, content, special, normalized } of added) {
    // what fills a vocabulary up is in no text
    const fills = FILLER.test(content);
    if (normalized && !special && !fills && rewrites(content))
      throw refuse(`finds the token ${JSON.stringify(content)} in texts as they are normalized`);
    const unknown = isBytes && content === model.unk_token;
    put(id, content, unknown ? KINDS.unknown : fills ? KINDS.unused : special ? KINDS.control : KINDS.userDefined);
  }
  return { 'tokenizer.ggml.tokens': texts(named(tokens, refuse)), 'tokenizer.ggml.token_type': wholes(kinds) };
}

/** What TRL fills up a vocabulary with when it clones a template. */
const FILLER = /^<extra_id_\d+>$/;

/** With names for rows that have no token. llama.cpp finds tokens by their text, so no two may have the same. */
function named(tokens: ReadonlyArray<string | undefined>, refuse: Refuse): string[] {
  const taken = new Set(tokens);
  const filled = tokens.map((token, id) => {
    if (token !== undefined) return token;
    let name = `[PAD${id}]`;
    while (taken.has(name)) name = `[${name}]`;
    return name;
  });
  const seen = new Set<string>();
  for (const token of filled) {
    if (seen.has(token)) throw refuse(`has two ids for the token ${JSON.stringify(token)}`);
    seen.add(token);
  }
  return filled;
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
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+":
    'qwen35',
  ' ?[^(\\s|[.,!?…。，、।۔،])]+': 'bloom',
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
  const other = steps.find((step) => !isPrefix(step) && !isUnderline(step));
  if (other) throw refuse(`normalizes texts by ${other.type} in a way of its own`);
  const cut = stepsOf(json.pre_tokenizer, 'pretokenizers').find((step) => !isSpaceSplit(step));
  if (cut) throw refuse(`cuts texts by ${cut.type}; if transformers 5 saved it, take the tokenizer.json that the model was published with`);
  if (!steps.some(isUnderline)) throw refuse('leaves spaces as they are');
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
    'tokenizer.ggml.add_space_prefix': bool(steps.some(isPrefix)),
  };
}

/** SentencePiece's space. */
const UNDERLINE = '\u2581';

const isPrefix = ({ type, prepend }: Step): boolean => type === 'Prepend' && prepend === UNDERLINE;

const isUnderline = ({ type, pattern, content }: Step): boolean =>
  type === 'Replace' && isObject(pattern) && pattern.String === ' ' && content === UNDERLINE;

/** Of texts in which no space is left it makes no pieces (Gemma's). */
const isSpaceSplit = ({ type, pattern }: Step): boolean => type === 'Split' && isObject(pattern) && pattern.String === ' ';

/** Whether a token is one character again and again: such ones are made of each other alone. */
const isRun = (token: string): boolean => new Set(token).size === 1;
