/** `tunebook generate`: continues a text, written out as it comes. */
import { UserError } from '../errors';
import { generateBatch, type Prompt } from '../model';
import { alpacaPrompt } from '../text';
import { loadModelOn } from './device';
import { type FlagValues, readFlags, splitWords } from './flags';
import type { Output } from './output';
import { generateFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook generate';

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), generateFlags, COMMAND);
  if ((flags.prompt.length === 0) === (flags.input_ids === null)) {
    throw new UserError(`${COMMAND} needs either --prompt PROMPT or --input_ids 1,2,3; give exactly one of the two.`);
  }
  if (flags.input_ids && flags.template !== 'none')
    throw new UserError(
      `--template ${flags.template} has no effect on --input_ids, which are taken as they are; leave it out, or give a --prompt.`,
    );
  noteUnusedDrawing(flags, output);
  const model = await loadModelOn(flags);
  const prompts = flags.input_ids ? [flags.input_ids] : flags.prompt.map((prompt) => wrap(prompt, flags.template));
  const alone = prompts.length === 1;
  const results = await generateBatch(model, prompts, {
    maxNewTokens: flags.max_new_tokens ?? undefined,
    temperature: flags.temperature,
    topK: flags.top_k ?? undefined,
    topP: flags.top_p ?? undefined,
    repetitionPenalty: flags.repetition_penalty,
    stop: flags.stop,
    seed: flags.seed ?? undefined,
    ignoreEos: flags.ignore_eos,
    onToken: (piece) => alone && output.stream(piece),
  });
  if (alone) {
    output.stream('\n');
    return { json: { ...(flags.input_ids ? { input_ids: flags.input_ids } : { prompt: flags.prompt[0] }), ...results[0] }, text: '' };
  }
  const answers = results.map((result, i) => ({ prompt: flags.prompt[i], ...result }));
  return { json: { results: answers }, text: answers.map(({ prompt, text }) => `${prompt}\n${text}`).join('\n\n') };
}

/** Says where a flag is for drawing tokens, and none are drawn. */
export function noteUnusedDrawing(
  flags: Pick<FlagValues<typeof generateFlags>, 'temperature' | 'top_p' | 'top_k' | 'seed'>,
  output: Output,
): void {
  const unused = (['top_p', 'top_k', 'seed'] as const).find((key) => flags[key] !== null);
  if (flags.temperature === 0 && unused)
    output.note(`--${unused} has no effect: with temperature 0 the most likely token is taken; give --temperature 0.8 or so to draw.`);
}

/** Puts a template around a prompt. */
function wrap(prompt: string, template: string): Prompt {
  if (template === 'none') return prompt;
  return template === 'alpaca' ? alpacaPrompt({ instruction: prompt }) : [{ role: 'user', content: prompt }];
}
