/** From the tokens of a tokenizer to their ids, and back. */
import type { Vocabulary } from './special-tokens';
import type { TokenizerFiles } from './tokenizer-files';

/** The tokens of a tokenizer, added ones included. */
export interface FullVocabulary extends Vocabulary {
  /** One more than the largest id. */
  readonly size: number;
}

export function makeVocabulary({ tokenizerJson }: TokenizerFiles): FullVocabulary {
  const vocab: unknown = tokenizerJson.model.vocab;
  // a Unigram vocabulary is a list of [token, score]
  const entries = Array.isArray(vocab)
    ? vocab.map((entry, id): [string, number] => [entry[0], id])
    : Object.entries(tokenizerJson.model.vocab);
  const ids = new Map<string, number>(entries);
  for (const token of tokenizerJson.added_tokens) ids.set(token.content, token.id);
  const tokens: string[] = [];
  for (const [token, id] of ids) tokens[id] = token;
  return { idOf: (token) => ids.get(token), tokenOf: (id) => tokens[id], size: tokens.length };
}
