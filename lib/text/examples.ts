import type { Example, TokenizedExample, TokenizeOptions, Tokenizer } from './types';

/** Turns an example into token ids and the mask of those that carry loss, as TRL does. */
export function tokenizeExample(_example: Example, _tokenizer: Tokenizer, _options: TokenizeOptions = {}): TokenizedExample {
  throw new Error('not there yet');
}
