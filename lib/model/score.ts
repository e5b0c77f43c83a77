/** How likely a model finds given tokens. */
import * as tf from '@tensorflow/tfjs-core';
import { tokenLoss, varyingSizes } from '../engine';
import { UserError } from '../errors';
import { checkLength, checkTokenIds, disposeBatch, makeBatch } from './batch';
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
export async function tokenNll(model: CausalLM, ids: ArrayLike<number>): Promise<TokenScores> {
  if (ids.length < 2) throw new UserError(`A score needs at least 2 tokens, but the text has ${ids.length}; give a longer text.`);
  checkTokenIds(ids, model.config);
  checkLength(ids.length, model.config);
  const targets = ids.length - 1;
  varyingSizes({ tokens: ids.length, targets, segments: 1 });
  const batch = makeBatch([ids]);
  const [nll, argmax] = tf.tidy(() => {
    const hidden = model.hiddenStates(batch);
    const predicting = tf.slice(hidden, [0, 0], [targets, hidden.shape[1]]) as tf.Tensor2D;
    const loss = tokenLoss(predicting, model.outputHead, tf.slice(batch.ids, 1, targets) as tf.Tensor1D);
    return [loss.nll, loss.argmax];
  });
  try {
    return { nll: Float32Array.from(await nll.data()), argmax: Int32Array.from(await argmax.data()) };
  } finally {
    tf.dispose([nll, argmax]);
    disposeBatch(batch);
  }
}
