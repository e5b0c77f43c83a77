/** `tunebook evaluate`: how well a model predicts the completions of a dataset. */
import { loadDataset } from '../data';
import { perplexity } from '../evaluate';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { evaluateFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook evaluate';

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), evaluateFlags, COMMAND);
  const dataset = await loadDataset(flags.data, { split: flags.split });
  const model = await loadModelOn(flags);
  for (const note of [...dataset.notes, ...model.tokenizer.notes]) output.note(note);
  const found = await perplexity(model, dataset, {
    maxLength: flags.max_length,
    completionOnlyLoss: flags.completion_only_loss,
    assistantOnlyLoss: flags.assistant_only_loss,
    tokensPerMicroBatch: flags.tokens_per_micro_batch,
  });
  const { loss, perplexity: exponential, meanTokenAccuracy, numTokens, numTargets, entropy } = found;
  return {
    json: {
      loss,
      perplexity: exponential,
      mean_token_accuracy: meanTokenAccuracy,
      entropy,
      num_tokens: numTokens,
      num_target_tokens: numTargets,
      num_examples: dataset.length,
    },
    text: [
      `loss                 ${loss.toFixed(4)}`,
      `perplexity           ${exponential.toFixed(3)}`,
      `mean token accuracy  ${(100 * meanTokenAccuracy).toFixed(2)}%`,
      `tokens               ${numTokens} in ${dataset.length} examples, ${numTargets} of them scored`,
    ].join('\n'),
  };
}
