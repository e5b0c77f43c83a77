/** `tunebook score`: how likely a model finds a text, token by token. */
import { UserError } from '../errors';
import { tokenNll } from '../model';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { scoreFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook score';

export async function run(words: readonly string[], _output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), scoreFlags, COMMAND);
  if ((flags.text === null) === (flags.input_ids === null)) {
    throw new UserError(`${COMMAND} needs either --text TEXT or --input_ids 1,2,3; give exactly one of the two.`);
  }
  const model = await loadModelOn(flags);
  const ids = flags.input_ids ?? model.tokenizer.encode(flags.text ?? '', { addSpecialTokens: true });
  const scores = await tokenNll(model, ids);
  const nll = Array.from(scores.nll);
  const argmax = Array.from(scores.argmax);
  const loss = nll.reduce((sum, value) => sum + value, 0) / nll.length;
  const perplexity = Math.exp(loss);
  const show = (id: number): string => JSON.stringify(model.tokenizer.tokenText(id));
  const lines = nll.map(
    (value, i) =>
      `${value.toFixed(4).padStart(9)}  ${show(ids[i + 1])}${argmax[i] === ids[i + 1] ? '' : `  (likeliest: ${show(argmax[i])})`}`,
  );
  return {
    json: { loss, perplexity, num_tokens: ids.length, input_ids: [...ids], token_nll: nll, argmax },
    text: [`loss ${loss.toFixed(4)}, perplexity ${perplexity.toFixed(3)}, ${ids.length} tokens`, '     loss  token', ...lines].join('\n'),
  };
}
