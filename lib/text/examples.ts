/**
 * From an example to token ids and the mask of the tokens that carry loss. The steps are those of TRL's SFTTrainer
 * (trl/trainer/sft_trainer.py, `_prepare_dataset`): EOS is appended to the completion; the prompt and the whole are
 * tokenized each on its own; tokens of the whole beyond the prompt's count are the completion; the end is cut at `maxLength`.
 */
import { checkExample, checkOptions, checkTokenizer, checkWholeNumber, type OptionNames, shown } from '../arguments';
import { type ChatMessage, type Example, formatOf, type MessagesExample } from '../data/types';
import { UserError } from '../errors';
import { alpacaPrompt } from './alpaca';
import type { ChatTemplateOptions, PromptTemplate, TokenizedExample, TokenizeOptions, Tokenizer } from './types';

/** An example as text: what the model is given and what it should say. Plain text has an empty prompt. */
export interface FormattedExample {
  prompt: string;
  completion: string;
}

type FormatOptions = Pick<TokenizeOptions, 'template' | 'chatTemplate'>;

const FORMAT_OPTIONS: OptionNames<FormatOptions> = { template: true, chatTemplate: true };

const TOKENIZE_OPTIONS: OptionNames<TokenizeOptions> = {
  ...FORMAT_OPTIONS,
  maxLength: true,
  completionOnlyLoss: true,
  assistantOnlyLoss: true,
};

/**
 * Writes an example as prompt and completion, without EOS: by `template` where one is given, else Alpaca rows by the Alpaca
 * prompt, conversations by the chat template (the last assistant turn is the completion), other rows as they are.
 * The prompt is what to give `generate`.
 * @throws UserError when it is no row, there is no such option, a conversation comes without a tokenizer, its tokenizer has no chat template or it has no assistant turn, or
 *   the template returns something else than two texts
 */
export function formatExample(example: Example, tokenizer?: Tokenizer, options: FormatOptions = {}): FormattedExample {
  checkOptions('formatExample', options, FORMAT_OPTIONS);
  checkExample('formatExample', example, options.template);
  if (tokenizer !== undefined && tokenizer !== null) checkTokenizer('formatExample', tokenizer);
  return format(example, tokenizer, options);
}

function format(example: Example, tokenizer: Tokenizer | undefined, { template, chatTemplate }: FormatOptions): FormattedExample {
  if (template) return applyTemplate(template, example);
  if ('messages' in example) {
    if (!tokenizer) throw new UserError('A conversation is written by the chat template of a tokenizer; give formatExample the tokenizer.');
    const split = promptLength(example);
    const chat = chatOptions(example, chatTemplate);
    const prompt = tokenizer.applyChatTemplate(example.messages.slice(0, split), { ...chat, addGenerationPrompt: true });
    const said = example.promptLength === undefined ? example.messages.slice(0, split + 1) : example.messages;
    const whole = tokenizer.applyChatTemplate(said, chat);
    return { prompt, completion: whole.startsWith(prompt) ? whole.slice(prompt.length) : answerOf(said.slice(split)) };
  }
  if ('prompt' in example) return { prompt: example.prompt, completion: example.completion };
  if ('instruction' in example) return { prompt: alpacaPrompt(example), completion: example.output };
  return { prompt: '', completion: example.text };
}

/**
 * Turns an example into token ids and the mask of those that carry loss.
 * @throws UserError as `formatExample` does, for options of its own, and when only assistant turns are to be learned and the example is no conversation, or its
 *   template hides what they are
 */
export function tokenizeExample(example: Example, tokenizer: Tokenizer, options: TokenizeOptions = {}): TokenizedExample {
  checkOptions('tokenizeExample', options, TOKENIZE_OPTIONS);
  checkExample('tokenizeExample', example, options.template);
  checkTokenizer('tokenizeExample', tokenizer);
  const maxLength = options.maxLength ?? undefined;
  checkWholeNumber('maxLength', maxLength);
  checkConversation(example, options, 'The example');
  return finish(tokenize(example, tokenizer, options), maxLength);
}

/**
 * Says which row has nothing left to learn, why (`maxLength` cut the whole completion away, or there was none), and what helps.
 * @param place `dataset.placeOf(index)`
 * @param positionLimit tokens that the model can read, beyond which there is nothing to raise
 */
export function explainNoTarget(tokenized: TokenizedExample, place: string, positionLimit = Number.POSITIVE_INFINITY): string {
  const { length } = tokenized.inputIds;
  const most = Number.isFinite(positionLimit) ? ` (the model reads up to ${positionLimit})` : '';
  const remedy = length < positionLimit ? `raise max_length${most}, or ` : `the model reads at most ${positionLimit}, so `;
  if (!tokenized.truncated && tokenized.boundaryMismatch) {
    return `${place}: the prompt alone is written with as many tokens as the whole, as where the chat template opens reasoning that the answer does not have, so nothing is left to learn; write the answer as the template opens it, or remove the row.`;
  }
  return tokenized.truncated
    ? `${place}: the prompt alone fills max_length ${length} (the example has ${tokenized.fullLength} tokens), so its completion is cut away entirely and nothing is left to learn; ${remedy}shorten or remove the row.`
    : `${place}: no token of this example carries loss, so there is nothing to learn; remove the row or give it a completion.`;
}

/** @throws UserError when only assistant turns are to be learned, but the example, found at `place`, is no conversation */
export function checkConversation(
  example: Example,
  { assistantOnlyLoss, template }: Pick<TokenizeOptions, 'assistantOnlyLoss' | 'template'>,
  place: string,
): void {
  if (!assistantOnlyLoss || (!template && 'messages' in example)) return;
  const what = template ? 'is written by a template as prompt and completion' : `is of format ${formatOf(example)}`;
  throw new UserError(
    `${place} ${what}, but assistant_only_loss is true, which learns the assistant turns of conversations; set it to false${template ? ', leave the template out' : ''}, or give conversations (rows with "messages").`,
  );
}

interface Draft {
  ids: number[];
  mask: Uint8Array;
  boundaryMismatch: boolean;
}

function tokenize(example: Example, tokenizer: Tokenizer, options: TokenizeOptions): Draft {
  const kind = options.template ? 'prompt_completion' : formatOf(example);
  if (kind === 'messages') return tokenizeMessages(example as MessagesExample, tokenizer, options);
  const { prompt, completion } = format(example, tokenizer, options);
  const text = completion.endsWith(tokenizer.eosToken) ? completion : completion + tokenizer.eosToken;
  const ids = tokenizer.encode(prompt + text, { addSpecialTokens: true });
  if (kind === 'text' || options.completionOnlyLoss === false)
    return { ids, mask: new Uint8Array(ids.length).fill(1), boundaryMismatch: false };
  return maskPrompt(tokenizer.encode(prompt, { addSpecialTokens: true }), ids);
}

function maskPrompt(promptIds: readonly number[], ids: number[]): Draft {
  const mask = new Uint8Array(ids.length).fill(1, promptIds.length);
  return { ids, mask, boundaryMismatch: promptIds.some((id, i) => ids[i] !== id) };
}

function tokenizeMessages(example: MessagesExample, tokenizer: Tokenizer, options: TokenizeOptions): Draft {
  const { assistantOnlyLoss = false, chatTemplate } = options;
  const chat = { ...chatOptions(example, chatTemplate), assistantOnly: assistantOnlyLoss };
  const encodePart = (part: readonly ChatMessage[], addGenerationPrompt: boolean): number[] =>
    tokenizer.encode(tokenizer.applyChatTemplate(part, { ...chat, addGenerationPrompt }));
  const completionOnly = options.completionOnlyLoss ?? example.promptLength !== undefined;
  const maskCompletion = (ids: number[]): Draft => maskPrompt(encodePart(example.messages.slice(0, promptLength(example)), true), ids);
  const maskTurns = (turns: 'all' | 'last'): Draft => {
    const { ids, assistant, exact } = tokenizer.encodeChat(example.messages, { ...chat, turns });
    return { ids, mask: assistant, boundaryMismatch: !exact };
  };
  if (!assistantOnlyLoss) {
    const ids = encodePart(example.messages, false);
    if (!completionOnly) return { ids, mask: new Uint8Array(ids.length).fill(1), boundaryMismatch: false };
    const counted = maskCompletion(ids);
    // where TRL knows a completion it counts tokens like this; a last turn may not begin there, or not end where all does
    const ends = example.messages.at(-1)?.role === 'assistant';
    return example.promptLength !== undefined || (ends && !counted.boundaryMismatch) ? counted : maskTurns('last');
  }
  const turns = maskTurns('all');
  // a conversation has a completion of its own only where the row says so
  return completionOnly && example.promptLength !== undefined ? both(turns, maskCompletion(turns.ids)) : turns;
}

/** What the chat template is given for all parts of a conversation. */
function chatOptions({ tools, chatTemplateKwargs }: MessagesExample, chatTemplate: string | undefined): ChatTemplateOptions {
  return { chatTemplate, tools, chatTemplateKwargs };
}

/** The tokens that two masks of the same example have in common. */
function both(one: Draft, other: Draft): Draft {
  return {
    ids: one.ids,
    mask: one.mask.map((bit, index) => bit & other.mask[index]),
    boundaryMismatch: one.boundaryMismatch || other.boundaryMismatch,
  };
}

function finish({ ids, mask, boundaryMismatch }: Draft, maxLength = Number.POSITIVE_INFINITY): TokenizedExample {
  const length = Math.min(ids.length, maxLength);
  return {
    inputIds: Int32Array.from(ids.slice(0, length)),
    lossMask: mask.slice(0, length),
    truncated: length < ids.length,
    fullLength: ids.length,
    boundaryMismatch,
  };
}

/**
 * How many messages of a conversation are its prompt.
 * @throws UserError when it has no assistant turn to learn
 */
export function promptLength({ messages, promptLength }: MessagesExample): number {
  if (promptLength !== undefined) return promptLength;
  const last = messages.findLastIndex((message) => message.role === 'assistant');
  if (last < 0) throw new UserError('A conversation without an assistant turn has no completion to learn; add one or remove the row.');
  return last;
}

function answerOf(messages: readonly ChatMessage[]): string {
  return messages.map((message) => message.content ?? '').join('\n');
}

function applyTemplate(template: PromptTemplate, example: Example): FormattedExample {
  if (typeof template !== 'function')
    throw new UserError(
      `The template is ${shown(template)}; give a function, such as (row) => ({ prompt: row.question, completion: row.answer }). Without one Alpaca rows are written in Alpaca's form, and conversations by the chat template.`,
    );
  const made = template(example);
  if (typeof made?.prompt === 'string' && typeof made.completion === 'string') return made;
  throw new UserError(`The template returned ${JSON.stringify(made) ?? 'nothing'}, but { prompt: text, completion: text } was expected.`);
}
