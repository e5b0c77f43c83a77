/** `tunebook generate`: continues a text, written out as it comes. */
import { generateBatch } from '../model';
import { alpacaPrompt, type Tokenizer } from '../text';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { generateFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook generate';

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), generateFlags, COMMAND);
  const model = await loadModelOn(flags);
  const { tokenizer } = model;
  const prompts = flags.prompt.map((prompt) =>
    flags.template === 'chat'
      ? chatPrompt(prompt, tokenizer)
      : flags.template === 'alpaca'
        ? alpacaPrompt({ instruction: prompt })
        : prompt,
  );
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
    return { json: { prompt: flags.prompt[0], ...results[0] }, text: '' };
  }
  const answers = results.map((result, i) => ({ prompt: flags.prompt[i], ...result }));
  return { json: { results: answers }, text: answers.map(({ prompt, text }) => `${prompt}\n${text}`).join('\n\n') };
}

/** A user turn in the model's own chat format; encoding adds no second BOS where the template has written one. */
function chatPrompt(content: string, tokenizer: Tokenizer): number[] {
  return tokenizer.encode(tokenizer.applyChatTemplate([{ role: 'user', content }], { addGenerationPrompt: true }));
}
