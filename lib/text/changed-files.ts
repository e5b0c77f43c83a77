/** A tokenizer's files with something else in them, as they are loaded and saved from then on. */
import { isObject } from '../json';
import type { AddedToken } from './added-tokens';
import { withPlainClass } from './python-class';
import { tokenContent } from './special-tokens';
import { CHAT_TEMPLATE, KINDS, type TokenizerFiles } from './tokenizer-files';

type JsonObject = Record<string, unknown>;

const TOKENIZER = 'tokenizer.json';
const CONFIG = 'tokenizer_config.json';

/** The same files, in which another token ends a text. */
export function withEos(given: TokenizerFiles, token: string): TokenizerFiles {
  const tokenizerConfig = { ...given.tokenizerConfig, eos_token: token };
  const specialTokensMap = 'eos_token' in given.specialTokensMap ? { ...given.specialTokensMap, eos_token: token } : given.specialTokensMap;
  const files = new Map([...given.files, [CONFIG, writtenJson(tokenizerConfig)]]);
  if (files.has('special_tokens_map.json')) files.set('special_tokens_map.json', writtenJson(specialTokensMap));
  return { ...given, tokenizerConfig, specialTokensMap, files };
}

/** The same files, which transformers 5 reads as they are. @param has whether the vocabulary has a token */
export function asTheyAre(given: TokenizerFiles, has: (token: string) => boolean): TokenizerFiles {
  if (given.otherClass === undefined) return given;
  const tokenizerConfig = withPlainClass(given.tokenizerConfig, given.otherClass, has);
  return { ...given, tokenizerConfig, files: new Map([...given.files, [CONFIG, writtenJson(tokenizerConfig)]]) };
}

/** The same files, with another chat template. */
export function withChatTemplate(given: TokenizerFiles, template: string): TokenizerFiles {
  return { ...given, chatTemplate: template, files: new Map([...given.files, [CHAT_TEMPLATE, Buffer.from(template)]]) };
}

/**
 * The same files, with more added tokens. They are written where transformers looks for them: in tokenizer.json and in `added_tokens_decoder` of
 * tokenizer_config.json, if it is there; for the older form of vocab.json and merges.txt, in the latter alone.
 */
export function withTokens(given: TokenizerFiles, tokens: readonly AddedToken[]): TokenizerFiles {
  const added = [...given.tokenizerJson.added_tokens, ...tokens].sort((a, b) => a.id - b.id);
  const tokenizerJson = { ...given.tokenizerJson, added_tokens: added };
  const files = new Map(given.files);
  const bytes = files.get(TOKENIZER);
  const written = bytes && parsed(bytes);
  if (written && holdsAll(written, added)) return { ...given, tokenizerJson };
  if (written) files.set(TOKENIZER, writtenJson({ ...written, added_tokens: added }));
  const { added_tokens_decoder: decoder } = given.tokenizerConfig;
  if (written && !isObject(decoder)) return { ...given, tokenizerJson, files };
  const entries = added.map(({ id, ...token }): [string, unknown] => [String(id), token]);
  // transformers does not look into special_tokens_map.json where there is such a decoder
  const named = KINDS.map((kind) => `${kind}_token`).map((key): [string, unknown] => [key, given.specialTokensMap[key]]);
  const tokenizerConfig = {
    ...Object.fromEntries(named.filter(([, value]) => tokenContent(value) !== undefined)),
    ...given.tokenizerConfig,
    added_tokens_decoder: { ...Object.fromEntries(entries), ...(isObject(decoder) && decoder) },
  };
  files.set(CONFIG, writtenJson(tokenizerConfig));
  return { ...given, tokenizerJson, tokenizerConfig, files };
}

export function writtenJson(json: Readonly<JsonObject>): Uint8Array {
  // Python reads what has an exponent as a float, also where it was a whole number: the length of texts without a bound, 1e30
  const text = JSON.stringify(json, null, 2).replace(
    /^( *(?:"[^"]*": )?)(\d[\d.]*e\+\d+)(?=,?$)/gm,
    (_, key: string, number: string) => `${key}${BigInt(Number(number))}`,
  );
  return Buffer.from(`${text}\n`);
}

function holdsAll({ added_tokens: added }: JsonObject, tokens: readonly AddedToken[]): boolean {
  const contents = new Set(Array.isArray(added) ? added.map((token) => tokenContent(token)) : []);
  return tokens.every(({ content }) => contents.has(content));
}

/** What was read as a JSON object before. */
function parsed(bytes: Uint8Array): JsonObject {
  return JSON.parse(
    Buffer.from(bytes)
      .toString('utf8')
      .replace(/^\ufeff/, ''),
  ) as JsonObject;
}
