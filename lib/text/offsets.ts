/**
 * Which tokens of a text a stretch of it is in. transformers.js gives no offsets, so that the ids are laid along the text by
 * what each of them stands for; the text is never tokenized in pieces, which would give other ids.
 */
import { byteOf } from './byte-pieces';
import type { Span } from './chat-template';
import type { TokenizerJson } from './tokenizer-files';

/** What the tokens of a vocabulary stand for; texts are strings of bytes (UTF-8, a character for each byte). */
export interface Surfaces {
  /** Nothing for an id that the vocabulary lacks, or whose token stands for no bytes. */
  of(id: number): Surface | undefined;
  /** Whether a space is put before every stretch between added tokens. */
  readonly prependsSpace: boolean;
  /** SentencePiece's vocabularies write a space as U+2581. */
  readonly underlines: boolean;
}

interface Surface {
  readonly bytes: string;
  /** An added token, which is found whole in a text; it may take the whitespace around it. */
  readonly added?: { readonly lstrip: boolean; readonly rstrip: boolean };
  /** The token for what the vocabulary lacks: it may stand for anything. */
  readonly unknown?: boolean;
}

/** Reads from a tokenizer.json how its tokens are written. */
export function makeSurfaces(json: TokenizerJson, tokenOf: (id: number) => string | undefined): Surfaces {
  const has = (part: unknown, type: string): boolean => JSON.stringify(part ?? null).includes(`"type":"${type}"`);
  const byteLevel = has(json.decoder, 'ByteLevel') || has(json.pre_tokenizer, 'ByteLevel');
  const written = (text: string): string => bytesOf(byteLevel ? text : withSpaces(text));
  const added = new Map(json.added_tokens.map((token) => [token.id, token]));
  const { unk_token: unkToken, unk_id: unkId } = json.model;
  const of = (id: number): Surface | undefined => {
    const [own, token] = [added.get(id), tokenOf(id)];
    if (id === unkId || (token !== undefined && token === unkToken)) return { bytes: '', unknown: true };
    if (own) return { bytes: written(own.content), added: own };
    const bytes = token === undefined ? undefined : byteLevel ? bytesOfByteLevel(token) : bytesOfPiece(token);
    return bytes === undefined ? undefined : { bytes };
  };
  return { of, prependsSpace: has(json.normalizer, 'Prepend'), underlines: !byteLevel };
}

/**
 * 1 for every token from the one with the first character of a span to the first one with its last character: the rule
 * of transformers' `return_assistant_tokens_mask`. Nothing where the tokens cannot be laid along the text.
 */
export function maskSpans(ids: readonly number[], text: string, spans: readonly Span[], surfaces: Surfaces): Uint8Array | undefined {
  const underlined = (part: string): string => (surfaces.underlines ? withSpaces(part) : part);
  // a tokenizer may put characters into a normal form first
  for (const form of [undefined, 'NFC', 'NFKC']) {
    const read = (part: string): string => (form === undefined ? underlined(part) : underlined(part).normalize(form));
    const whole = read(text);
    const places = layAlong(ids, bytesOf(whole), surfaces);
    if (!places) continue;
    const mask = new Uint8Array(ids.length);
    for (const { start, end } of spans) {
      const first = tokenAt(places, characterFrom(whole, read(text.slice(0, start)).length));
      if (first < 0) break;
      const last = tokenAt(places, characterBefore(whole, read(text.slice(0, end)).length));
      mask.fill(1, first, last < 0 ? mask.length : last + 1);
    }
    return mask;
  }
  return undefined;
}

/**
 * As `maskSpans`, where the tokens cannot be laid along the text: by how many tokens the text has up to a border. Not exact where
 * the text up to there has other tokens than the whole begins with.
 */
export function maskBeginnings(
  ids: number[],
  text: string,
  spans: readonly Span[],
  encode: (text: string) => number[],
): { ids: number[]; assistant: Uint8Array; exact: boolean } {
  const assistant = new Uint8Array(ids.length);
  let exact = true;
  const tokensUntil = (border: number): number => {
    const beginning = encode(text.slice(0, border));
    exact &&= beginning.every((id, index) => ids[index] === id);
    return beginning.length;
  };
  for (const { start, end } of spans) assistant.fill(1, tokensUntil(start), tokensUntil(end));
  return { ids, assistant, exact };
}

/** The bytes of each token in the text's. */
function layAlong(ids: readonly number[], bytes: string, surfaces: Surfaces): Span[] | undefined {
  const places: Span[] = [];
  let at = 0;
  let afterAdded = true;
  for (const [index, id] of ids.entries()) {
    const surface = surfaces.of(id);
    if (!surface) return undefined;
    const start = at;
    if (surface.added?.lstrip) at = skipSpace(bytes, at);
    const length = surface.unknown
      ? unknownLength(bytes, at, surfaces.of(ids[index + 1]))
      : lengthOf(surface.bytes, bytes, at, afterAdded && surfaces.prependsSpace && !surface.added);
    if (length === undefined) return undefined;
    at += length;
    if (surface.added?.rstrip) at = skipSpace(bytes, at);
    // a space that the tokenizer put there, alone in its token, counts as a part of the character behind it
    places.push({ start, end: at > start ? at : at + characterLength(bytes, at) });
    afterAdded = surface.added !== undefined;
  }
  return at === bytes.length ? places : undefined;
}

/** How many bytes a token takes from `at` on: a space at its beginning may be one that the tokenizer put there. */
function lengthOf(token: string, bytes: string, at: number, prepended: boolean): number | undefined {
  const whole = bytes.startsWith(token, at) ? token.length : undefined;
  const rest = token.startsWith(' ') && bytes.startsWith(token.slice(1), at) ? token.length - 1 : undefined;
  return prepended ? (rest ?? whole) : (whole ?? rest);
}

/** The unknown token takes everything up to what the next token stands for, or one character where that is unknown, too. */
function unknownLength(bytes: string, at: number, next: Surface | undefined): number | undefined {
  if (!next) return bytes.length - at;
  const character = characterLength(bytes, at);
  if (next.unknown) return character;
  const found = bytes.indexOf(next.bytes, at + character);
  return found < 0 ? undefined : found - at;
}

function characterLength(bytes: string, at: number): number {
  return /^[^\x80-\xbf]?[\x80-\xbf]*/.exec(bytes.slice(at, at + 4))?.[0].length ?? 0;
}

/** What `trim` takes for whitespace, in UTF-8. */
function skipSpace(bytes: string, at: number): number {
  const space = /(?:[ \t-\r]|\xc2\xa0|\xe1\x9a\x80|\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xe2\x81\x9f|\xe3\x80\x80|\xef\xbb\xbf)*/y;
  space.lastIndex = at;
  return at + (space.exec(bytes)?.[0].length ?? 0);
}

/** The first token that has a byte of the character; -1 where there is none. */
function tokenAt(places: readonly Span[], character: Span): number {
  return places.findIndex(({ start, end }) => end > character.start && start < character.end);
}

/** The bytes of the character that begins at an index of a text. */
function characterFrom(text: string, index: number): Span {
  const start = Buffer.byteLength(text.slice(0, index));
  return { start, end: start + Buffer.byteLength(String.fromCodePoint(text.codePointAt(index) ?? 0)) };
}

/** The bytes of the character that ends at an index of a text. */
function characterBefore(text: string, index: number): Span {
  const before = Array.from(text.slice(Math.max(0, index - 2), index)).at(-1) ?? '';
  const end = Buffer.byteLength(text.slice(0, index));
  return { start: end - Buffer.byteLength(before), end };
}

function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1');
}

function withSpaces(piece: string): string {
  return piece.replaceAll('\u2581', ' ');
}

/** A piece of a SentencePiece vocabulary: a space is U+2581, a byte <0x0A>. */
function bytesOfPiece(piece: string): string {
  const byte = byteOf(piece);
  return byte === undefined ? bytesOf(withSpaces(piece)) : String.fromCharCode(byte);
}

/** Byte-level vocabularies write bytes that are no visible character as those from U+0100 on (GPT-2's `bytes_to_unicode`). */
const BYTE_OF = new Map<string, string>();
for (let byte = 0, moved = 0x100; byte < 256; byte++) {
  const visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  BYTE_OF.set(String.fromCharCode(visible ? byte : moved++), String.fromCharCode(byte));
}

function bytesOfByteLevel(token: string): string | undefined {
  const bytes = Array.from(token, (character) => BYTE_OF.get(character));
  return bytes.includes(undefined) ? undefined : bytes.join('');
}
