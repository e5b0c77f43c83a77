/** How likely a model finds given tokens. */
import * as tf from '@tensorflow/tfjs-core';
import { checkModel } from '../arguments';
import { tokenLoss, varyingSizes } from '../engine';
import { UserError } from '../errors';
import { checkLength, checkTokenIds, disposeBatch, makeBatch } from './batch';
import { areFinite, notFinite } from './not-finite';
import { checkIds } from './prompts';
import type { CausalLM } from './types';

/** What a model thinks of a sequence. */
export interface TokenScores {
  /** Negative log-likelihood in nats, one for each token after the first: entry i is that of token i + 1 given those before it. */
  nll: Float32Array;
  /** The likeliest token after each token: entry i is the model's guess of token i + 1; the last one goes beyond the sequence. */
  argmax: Int32Array;
}

/**
 * How surprised the model is by each token of a text, given the tokens before it.
 * @param ids at least 2 tokens
 * @returns `nll`: −ln p(token i + 1 | tokens 0 to i) at entry i, in nats, so for n tokens n − 1 values, whose mean is the text's loss
 *   and exp(mean) its perplexity; and `argmax`, the likeliest token after each token
 * @throws UserError when there are fewer, an id is outside the vocabulary, the sequence is longer than the model can read, or
 *   the model computes NaN
 */
export async function tokenNll(model: CausalLM, ids: ArrayLike<number>): Promise<TokenScores> {
  checkModel('tokenNll', model);
  checkIds('tokenNll', ids);
  if (ids.length < 2) throw new UserError(`A score needs at least 2 tokens, but the text has ${ids.length}; give a longer text.`);
  checkTokenIds(ids, model.config);
  checkLength(ids.length, model.config);
  const { length } = ids;
  varyingSizes({ tokens: length, targets: length });
  const batch = makeBatch([ids]);
  let [nll, argmax]: tf.Tensor[] = [];
  try {
    [nll, argmax] = tf.tidy(() => {
      // the last place has no token to predict; any will do, as its loss is not used
      const next = tf.concat([tf.slice(batch.ids, 1, length - 1), tf.slice(batch.ids, 0, 1)]) as tf.Tensor1D;
      const { outputHead, outputBias, config } = model;
      const loss = tokenLoss(model.hiddenStates(batch), outputHead, next, config.finalLogitSoftcapping, outputBias);
      return [loss.nll, loss.argmax];
    });
    const losses = Float32Array.from(await nll.data());
    if (!areFinite(losses)) throw notFinite(model);
    return { nll: losses.subarray(0, length - 1), argmax: Int32Array.from(await argmax.data()) };
  } finally {
    tf.dispose([nll, argmax]);
    disposeBatch(batch);
  }
}
