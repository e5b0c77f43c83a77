/** How well a model predicts texts it is shown: loss, perplexity, token accuracy. */
import { checkExamples, checkModel, checkOptions, checkWholeNumber, type OptionNames, refusePath } from '../arguments';
import { currentDevice } from '../engine';
import type { CausalLM } from '../model';
import { notFinite } from '../model/not-finite';
import { countingLine } from '../train/counting-line';
import { scoreItems } from '../train/evaluation';
import { countTokens, type Examples, type PrepareOptions, prepareExamples } from '../train/examples';

export interface PerplexityOptions
  extends Pick<PrepareOptions, 'maxLength' | 'completionOnlyLoss' | 'assistantOnlyLoss' | 'template' | 'chatTemplate'> {
  /** Tokens computed at once; bounds memory, changes no result. Default 1280, as in training. */
  tokensPerMicroBatch?: number;
}

const OPTIONS: OptionNames<PerplexityOptions> = {
  maxLength: true,
  completionOnlyLoss: true,
  assistantOnlyLoss: true,
  template: true,
  chatTemplate: true,
  tokensPerMicroBatch: true,
};

export interface PerplexityResult {
  /** Mean negative log-likelihood of the target tokens, in nats. */
  loss: number;
  /** exp(loss). */
  perplexity: number;
  /** Share of target tokens that were the likeliest. */
  meanTokenAccuracy: number;
  /** Mean entropy of the predicted distributions, in nats. */
  entropy: number;
  /** All tokens read. */
  numTokens: number;
  /** Tokens that the loss is the mean of. */
  numTargets: number;
}

/**
 * Loss and perplexity over a dataset, or over plain texts. Where rows have a prompt, only their completions count
 * (`completionOnlyLoss: false` counts all). Unlike a trainer's `eval_loss`, which TRL averages over batches, the mean is
 * over tokens.
 * @throws UserError when an option is out of range, there is nothing to score, an example is longer than the model can read, or the model computes NaN
 */
export async function perplexity(
  model: CausalLM,
  data: Examples | readonly string[] | string,
  options: PerplexityOptions = {},
): Promise<PerplexityResult> {
  checkModel('perplexity', model);
  checkOptions('perplexity', options, OPTIONS);
  const { tokensPerMicroBatch, maxLength = null, ...rest } = options;
  checkWholeNumber('tokensPerMicroBatch', tokensPerMicroBatch);
  checkWholeNumber('maxLength', maxLength ?? undefined);
  await currentDevice();
  const { items } = prepareExamples(asExamples(data), model.tokenizer, {
    ...rest,
    maxLength,
    positionLimit: model.config.positionLimit,
    vocabSize: model.config.vocabSize,
  });
  const tell = countingLine(items.length, 'examples scored');
  const onProgress = (share: number): void => tell(Math.floor(share * items.length));
  // each example by itself: where positions stretch (dynamic RoPE), none stretches those of another
  const batches = await scoreItems(model, items, { batchSize: 1, tokensPerMicroBatch, onProgress });
  const total = (pick: 'targets' | 'loss' | 'correct' | 'entropy') => batches.reduce((sum, batch) => sum + batch[pick], 0);
  const numTargets = total('targets');
  const loss = total('loss') / numTargets;
  if (!Number.isFinite(loss)) throw notFinite(model);
  return {
    loss,
    perplexity: Math.exp(loss),
    meanTokenAccuracy: total('correct') / numTargets,
    entropy: total('entropy') / numTargets,
    numTokens: items.reduce((sum, item) => sum + countTokens(item), 0),
    numTargets,
  };
}

function asExamples(data: Examples | readonly string[] | string): Examples {
  if (typeof data === 'string') {
    refusePath('perplexity', data);
    return [{ text: data }];
  }
  checkExamples('perplexity', 'data', data);
  const [first] = data;
  return typeof first === 'string' ? (data as readonly string[]).map((text) => ({ text })) : (data as Examples);
}
