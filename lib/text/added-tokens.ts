/** Tokens that are added to a vocabulary: found whole in a text, and with ids behind those of the vocabulary itself. */
import type { TokenizerJson } from './tokenizer-files';

/** How a token is found in a text. */
export interface TokenFlags {
  /** Whether it is left out of what a model says. */
  special: boolean;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
}

/** An entry of `added_tokens` in tokenizer.json. */
export interface AddedToken extends TokenFlags {
  id: number;
  content: string;
}

/** Wherever it stands, with nothing around it. */
export const NO_FLAGS: TokenFlags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false };

/** Those of the flags that an object has. */
export function flagsOf(value: Readonly<Record<string, unknown>>): Partial<TokenFlags> {
  return Object.fromEntries(Object.entries(value).filter(([key, flag]) => Object.hasOwn(NO_FLAGS, key) && typeof flag === 'boolean'));
}

/** Ids for tokens that are added one after the other, as the tokenizers library in Rust gives them. */
export function newIds({ model, added_tokens: added }: TokenizerJson): { next(): number } {
  const vocab: unknown = model.vocab;
  // sought once an id is asked for: a vocabulary may be large
  const first = (): number => {
    const own = Array.isArray(vocab) ? vocab.length : largest(Object.values(model.vocab)) + 1;
    return Math.max(own, largest(added.map((token) => token.id)) + 1);
  };
  let id: number | undefined;
  return {
    next: () => {
      id = id === undefined ? first() : id + 1;
      return id;
    },
  };
}

/** Matrices of whole blocks of so many rows are what GPUs multiply fastest; TRL's `resize_to_multiple_of`. */
const BLOCK = 64;

/**
 * The tokens by which a vocabulary grows that takes over those of another tokenizer, as with TRL's `clone_chat_template`: all added tokens of
 * the other that it lacks, then `<extra_id_0>`, `<extra_id_1>` and so on up to a multiple of 64, one for each row of an embedding of that size.
 * @param json of the vocabulary that grows; is not changed
 * @param theirs in the order of their ids
 */
export function tokensToAdd(json: TokenizerJson, idOf: (token: string) => number | undefined, theirs: readonly AddedToken[]): AddedToken[] {
  const ids = newIds(json);
  const lacking = theirs.filter(({ content }) => idOf(content) === undefined).map((token) => ({ ...token, id: ids.next() }));
  const known = new Set([...json.added_tokens, ...lacking].map(({ content }) => content));
  const fillers: AddedToken[] = [];
  let next = ids.next();
  for (let i = 0; next % BLOCK !== 0; i++) {
    const content = `<extra_id_${i}>`;
    if (known.has(content)) continue;
    const own = idOf(content);
    fillers.push({ ...NO_FLAGS, normalized: true, id: own ?? next, content });
    if (own === undefined) next = ids.next();
  }
  return [...lacking, ...fillers];
}

/** Math.max over a list of any length. */
function largest(numbers: readonly number[]): number {
  return numbers.reduce((most, n) => Math.max(most, n), -1);
}
