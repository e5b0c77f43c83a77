/** From the tokens of a tokenizer to their ids, and back. */
import type { Vocabulary } from './special-tokens';
import type { TokenizerFiles } from './tokenizer-files';

/** The tokens of a tokenizer, added ones included. */
export interface FullVocabulary extends Vocabulary {
  /** One more than the largest id. */
  readonly size: number;
}

export function makeVocabulary({ tokenizerJson: { model, added_tokens } }: TokenizerFiles): FullVocabulary {
  const vocab: unknown = model.vocab;
  // a Unigram vocabulary is a list of [token, score]
  const ids: Readonly<Record<string, number>> = Array.isArray(vocab)
    ? Object.fromEntries(vocab.map((entry, id): [string, number] => [entry[0], id]))
    : model.vocab;
  const added = new Map(added_tokens.map(({ content, id }) => [content, id]));
  const tokens: string[] = [];
  // pairs of hundreds of thousands of tokens and ids would take longer than the rest
  for (const token of Object.keys(ids)) tokens[ids[token]] = token;
  for (const [token, id] of added) tokens[id] = token;
  const idOf = (token: string): number | undefined => added.get(token) ?? (Object.hasOwn(ids, token) ? ids[token] : undefined);
  return { idOf, tokenOf: (id) => tokens[id], size: tokens.length };
}
