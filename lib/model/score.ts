/** How likely a model finds given tokens. */
import type { CausalLM } from './types';

/** What a model thinks of a sequence; one number for each token after the first. */
export interface TokenScores {
  /** Negative log-likelihood in nats: entry i is that of token i + 1 given the tokens before it. */
  nll: Float32Array;
  /** The likeliest token at each of these places. */
  argmax: Int32Array;
}

/**
 * Scores a sequence under teacher forcing.
 * @param ids at least 2 tokens
 * @throws UserError when there are fewer, an id is outside the vocabulary, or the sequence is longer than the model can read
 */
export async function tokenNll(_model: CausalLM, _ids: ArrayLike<number>): Promise<TokenScores> {
  throw new Error('not yet');
}
