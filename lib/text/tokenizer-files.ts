/** Reads a tokenizer's files into the one form that the tokenizer is built from: `tokenizer.json` and a flat configuration. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { TOKENIZER_FILES } from '../data/hub';
import { UserError } from '../errors';
import { readBytes, readJson, readText } from '../files';
import { isObject } from '../json';
import { type AddedToken, flagsOf, NO_FLAGS, newIds } from './added-tokens';
import { asInRust } from './pre-tokenizer';
import { type OtherClass, otherClassOf, tokenizerClass } from './python-class';
import { type SpecialTokenSources, tokenContent } from './special-tokens';

type JsonObject = Record<string, unknown>;

/** The file of a chat template, which goes before one in tokenizer_config.json. */
export const CHAT_TEMPLATE = 'chat_template.jinja';

export interface TokenizerJson {
  model: { type?: string; vocab: Record<string, number> } & JsonObject;
  added_tokens: AddedToken[];
  post_processor: JsonObject | null;
  [key: string]: unknown;
}

export interface TokenizerFiles extends SpecialTokenSources {
  readonly tokenizerJson: TokenizerJson;
  readonly chatTemplate: unknown;
  /** Its class in transformers, where that cuts texts otherwise than tokenizer.json says. */
  readonly otherClass?: OtherClass;
  /** The files that belong to the tokenizer, by name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export interface ReadOptions {
  /**
   * Tokens that the configuration names but the vocabulary lacks: left out, since no embedding has a row for them, or added to it as
   * transformers does, for who will make such rows. Default `leave`.
   */
  missing?: 'leave' | 'add';
  /** The folder of the model, where that is another one: its configuration counts where the tokenizer's folder has none. */
  modelFolder?: string;
}

/** @throws UserError when the folder has no tokenizer, or one of its files is broken */
export function readTokenizerFiles(directory: string, { missing = 'leave', modelFolder = directory }: ReadOptions = {}): TokenizerFiles {
  const at = (name: string): string => path.join(directory, name);
  const read = (file: string): JsonObject => (existsSync(file) ? asObject(readJson(file), file) : {});
  const object = (name: string): JsonObject => read(at(name));
  const ofModel = (name: string): JsonObject => read(existsSync(at(name)) ? at(name) : path.join(modelFolder, name));
  const tokenizerConfig = object('tokenizer_config.json');
  const specialTokensMap = object('special_tokens_map.json');
  const config = ofModel('config.json');
  const file = at('tokenizer.json');
  const json = existsSync(file) ? asObject(readJson(file), file) : undefined;
  const tokenizerJson = json ? parseTokenizerJson(json, file) : fromVocabulary(directory, tokenizerConfig, specialTokensMap);
  addNamedTokens(tokenizerJson, tokenizerConfig, specialTokensMap);
  markSpecial(tokenizerJson, tokenizerConfig, specialTokensMap);
  if (missing === 'add') addMissingTokens(tokenizerJson, [tokenizerConfig, specialTokensMap]);
  settleSurroundings(tokenizerJson, tokenizerConfig, config.model_type, json !== undefined);
  const chatTemplate = existsSync(at(CHAT_TEMPLATE))
    ? readText(at(CHAT_TEMPLATE))
    : (tokenizerConfig.chat_template ?? object('chat_template.json').chat_template);
  return {
    tokenizerJson,
    tokenizerConfig,
    specialTokensMap,
    config,
    generationConfig: ofModel('generation_config.json'),
    chatTemplate,
    otherClass: json && otherClassOf(json, tokenizerConfig, config.model_type),
    files: new Map(TOKENIZER_FILES.filter((name) => existsSync(at(name))).map((name) => [name, readBytes(at(name))])),
  };
}

function asObject(value: unknown, file: string): JsonObject {
  if (isObject(value)) return value;
  throw new UserError(`${file} must hold a JSON object; download the file again.`);
}

function parseTokenizerJson(json: JsonObject, file: string): TokenizerJson {
  const model = json.model as { vocab?: unknown } | undefined;
  if (typeof model?.vocab !== 'object' || model.vocab === null) {
    throw new UserError(`${file} has no vocabulary (model.vocab), so it is not a tokenizer; download the file again.`);
  }
  return {
    normalizer: null,
    decoder: null,
    ...json,
    pre_tokenizer: asInRust(json.pre_tokenizer ?? null),
    model: model as TokenizerJson['model'],
    added_tokens: parseAddedTokens(json.added_tokens ?? [], file),
    post_processor: (json.post_processor as JsonObject | null | undefined) ?? null,
  };
}

function parseAddedTokens(value: unknown, file: string): AddedToken[] {
  if (!Array.isArray(value)) throw new UserError(`${file}: added_tokens must be a list; download the file again.`);
  return value.map((entry: Partial<AddedToken> | null, index) => {
    const { id, content } = entry ?? {};
    if (isTokenId(id) && typeof content === 'string') return { ...NO_FLAGS, ...entry, id, content };
    throw new UserError(
      `${file}: entry ${index + 1} of added_tokens is ${JSON.stringify(entry)}, but a token with "id" and "content" was expected; download the file again.`,
    );
  });
}

/** The special tokens that a configuration names, each as `KIND_token`. */
export const KINDS = ['bos', 'eos', 'unk', 'sep', 'pad', 'cls', 'mask'];

function isTokenId(id: unknown): id is number {
  return Number.isSafeInteger(id) && Number(id) >= 0;
}

/** The older form of GPT-2 and OPT: byte-level BPE as `vocab.json` and `merges.txt`. */
function fromVocabulary(directory: string, tokenizerConfig: JsonObject, specialTokensMap: JsonObject): TokenizerJson {
  const [vocabFile, mergesFile] = ['vocab.json', 'merges.txt'].map((name) => path.join(directory, name));
  if (!existsSync(vocabFile) || !existsSync(mergesFile)) {
    const spm = existsSync(path.join(directory, 'tokenizer.model'));
    throw new UserError(
      `${directory} has no tokenizer.json${spm ? ' (only the SentencePiece file tokenizer.model, which cannot be read here)' : ''}; save it with transformers' AutoTokenizer.save_pretrained, or copy the file from the model's repository.`,
    );
  }
  const vocab = asObject(readJson(vocabFile), vocabFile) as Record<string, number>;
  const merges = readText(mergesFile)
    .split(/\r?\n/)
    .filter((line, index) => line !== '' && !(index === 0 && line.startsWith('#version')));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: tokenizerConfig.add_prefix_space === true, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokensFile(path.join(directory, 'added_tokens.json'), [tokenizerConfig, specialTokensMap]),
    normalizer: null,
    pre_tokenizer: asInRust(byteLevel),
    post_processor: { ...byteLevel, trim_offsets: false },
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      vocab,
      merges,
    },
  };
}

/**
 * What the older form adds to its vocabulary: ids by token.
 * @param sources where special tokens are named
 */
function addedTokensFile(file: string, sources: readonly JsonObject[]): AddedToken[] {
  if (!existsSync(file)) return [];
  const named = new Set(sources.flatMap((source) => KINDS.map((kind) => tokenContent(source[`${kind}_token`]))));
  return Object.entries(asObject(readJson(file), file)).map(([content, id]) => {
    if (!isTokenId(id))
      throw new UserError(`${file}: the id of ${JSON.stringify(content)} is ${JSON.stringify(id)}; download the file again.`);
    const special = named.has(content);
    return { ...NO_FLAGS, special, normalized: !special, id, content };
  });
}

/**
 * Tokens that the configuration names but tokenizer.json does not list as added are added, as transformers does: only an
 * added token is found whole in a text. Named tokens that the vocabulary lacks are left out: no embedding has a row for them.
 */
function addNamedTokens(json: TokenizerJson, tokenizerConfig: JsonObject, specialTokensMap: JsonObject): void {
  const known = new Set(json.added_tokens.map((token) => token.content));
  const add = (token: AddedToken): void => {
    if (known.has(token.content)) return;
    known.add(token.content);
    json.added_tokens.push(token);
  };
  const flags = { ...NO_FLAGS, special: true };
  for (const [id, token] of Object.entries(decoderOf(tokenizerConfig))) {
    const content = tokenContent(token);
    if (content !== undefined && isTokenId(Number(id))) add({ ...NO_FLAGS, ...(token as Partial<AddedToken>), id: Number(id), content });
  }
  const vocab = json.model.vocab;
  if (Array.isArray(vocab)) return;
  for (const source of [tokenizerConfig, specialTokensMap]) {
    for (const kind of KINDS) {
      const value = source[`${kind}_token`];
      const content = tokenContent(value);
      if (content === undefined || !Object.hasOwn(vocab, content)) continue;
      const own = typeof value === 'object' ? (value as Partial<AddedToken>) : {};
      add({ ...flags, lstrip: own.lstrip ?? false, rstrip: own.rstrip ?? false, id: vocab[content], content });
    }
  }
}

/** What is known of added tokens by their ids, in files of older versions. */
function decoderOf({ added_tokens_decoder: decoder }: JsonObject): JsonObject {
  return isObject(decoder) ? decoder : {};
}

/**
 * Tokens with a part, be it one of their model alone, are special as in transformers, whatever tokenizer.json says of them. Mere lists of special
 * tokens change nothing of those that are there.
 */
function markSpecial(json: TokenizerJson, tokenizerConfig: JsonObject, specialTokensMap: JsonObject): void {
  const { extra_special_tokens: extra } = tokenizerConfig;
  const named = [tokenizerConfig, specialTokensMap].flatMap((source) => Object.entries(source).filter(([key]) => key.endsWith('_token')));
  const listed = Object.values(decoderOf(tokenizerConfig)).filter((token) => isObject(token) && token.special === true);
  const values = [...named.map(([, value]) => value), ...(isObject(extra) ? Object.values(extra) : []), ...listed];
  const special = new Set(values.map(tokenContent));
  for (const token of json.added_tokens) if (special.has(token.content)) token.special = true;
}

/** Adds the tokens that no file but the configuration has, in the order in which transformers does. All of them are special. */
function addMissingTokens(json: TokenizerJson, sources: readonly JsonObject[]): void {
  const ids = newIds(json);
  const ofKinds = KINDS.map((kind) => sources.map((source) => source[`${kind}_token`]).find((value) => tokenContent(value) !== undefined));
  const others = sources.flatMap((source) => [source.extra_special_tokens ?? source.additional_special_tokens ?? []].flat());
  for (const value of [...ofKinds, ...others]) {
    const content = tokenContent(value);
    if (content === undefined || json.added_tokens.some((token) => token.content === content)) continue;
    json.added_tokens.push({ ...NO_FLAGS, ...(isObject(value) && flagsOf(value)), special: true, id: ids.next(), content });
  }
}

/**
 * What is put around a text, as transformers 5.18 decides: tokenizer.json's own post-processor does, and the configuration's
 * `add_bos_token` and `add_eos_token` count only where there is no such file. Two classes of tokenizers build theirs anew.
 */
function settleSurroundings(json: TokenizerJson, tokenizerConfig: JsonObject, modelType: unknown, hasTokenizerJson: boolean): void {
  if (hasTokenizerJson) {
    const name = tokenizerClass(tokenizerConfig, modelType);
    if (name === 'GPTNeoXTokenizer') surround(json, tokenizerConfig, []);
    if (name === 'CodeLlamaTokenizer') surround(json, tokenizerConfig, ['bos']);
  } else if ('add_bos_token' in tokenizerConfig || 'add_eos_token' in tokenizerConfig) {
    surround(
      json,
      tokenizerConfig,
      (['bos', 'eos'] as const).filter((kind) => tokenizerConfig[`add_${kind}_token`] === true),
    );
  }
}

function surround(json: TokenizerJson, tokenizerConfig: JsonObject, kinds: ReadonlyArray<'bos' | 'eos'>): void {
  const wanted = (kind: 'bos' | 'eos'): AddedToken[] => {
    const content = kinds.includes(kind) ? tokenContent(tokenizerConfig[`${kind}_token`]) : undefined;
    return json.added_tokens.filter((token) => token.content === content);
  };
  const special = (token: AddedToken): JsonObject => ({ SpecialToken: { id: token.content, type_id: 0 } });
  const [bos, eos] = [wanted('bos'), wanted('eos')];
  const sequence = (id: string): JsonObject => ({ Sequence: { id, type_id: 0 } });
  json.post_processor = {
    type: 'TemplateProcessing',
    single: [...bos.map(special), sequence('A'), ...eos.map(special)],
    pair: [...bos.map(special), sequence('A'), ...eos.map(special), ...bos.map(special), sequence('B'), ...eos.map(special)],
    special_tokens: Object.fromEntries([...bos, ...eos].map((t) => [t.content, { id: t.content, ids: [t.id], tokens: [t.content] }])),
  };
}
