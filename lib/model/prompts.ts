/** What texts are generated and scored from, looked at for those who write JavaScript. */
import { named, shown } from '../arguments';
import { UserError } from '../errors';
import { isObject } from '../json';
import type { ChatMessage } from '../text';

/** A prompt as text, as the messages of a conversation, which the model's chat template writes, or as token ids. */
export type Prompt = string | readonly ChatMessage[] | readonly number[];

const isIds = (value: unknown): boolean =>
  ArrayBuffer.isView(value) || (Array.isArray(value) && value.every((id) => typeof id === 'number'));

/** Whether a value is a list of messages. */
export const isConversation = (value: unknown): value is readonly ChatMessage[] =>
  Array.isArray(value) && value.length > 0 && value.every((message) => isObject(message) && typeof message.role === 'string');

/** @throws UserError for what is no prompt, such as a list of them or a row */
export function checkOnePrompt(of: string, prompt: unknown): void {
  if (Array.isArray(prompt) && prompt.some((part) => typeof part === 'string'))
    throw new UserError(`${of} continues one prompt, but is given a list of texts; give one of them, or call generate for all.`);
  checkPrompt('The prompt', of, prompt);
}

/** @throws UserError for what is neither a text, a conversation nor a list of prompts, such as token ids */
export function checkTextOrPrompts(of: string, prompts: unknown): void {
  if (typeof prompts === 'string' || isConversation(prompts)) return;
  if (isIds(prompts) && (prompts as unknown[]).length > 0)
    throw new UserError(`The prompt of ${of} is a list of token ids, but a text was expected; call generateBatch(model, [ids]).`);
  if (!Array.isArray(prompts)) throw noPrompt('The prompt', of, prompts, 'a text or messages, or a list of them');
  checkEach(of, prompts);
}

/** @throws UserError for what is no list of prompts, such as a single one */
export function checkPrompts(of: string, prompts: unknown): void {
  if (isIds(prompts) && (prompts as unknown[]).length > 0)
    throw new UserError(`The prompts of ${of} are token ids, as one prompt is; give a list of prompts, such as [ids].`);
  if (isConversation(prompts))
    throw new UserError(`The prompts of ${of} are messages, as one prompt is; give a list of prompts, such as [messages].`);
  if (!Array.isArray(prompts)) throw new UserError(`The prompts of ${of} are ${shown(prompts)}; give a list, such as [${named(prompts)}].`);
  checkEach(of, prompts);
}

/** @throws UserError for what is no list of token ids, such as their text */
export function checkIds(of: string, ids: unknown): void {
  if (Array.isArray(ids) ? isIds(ids) : isObject(ids) && typeof ids.length === 'number') return;
  throw new UserError(`The ids of ${of} are ${shown(ids)}; give a list of numbers, as model.tokenizer.encode(${named(ids)}) returns it.`);
}

function checkEach(of: string, prompts: readonly unknown[]): void {
  for (const [index, prompt] of prompts.entries()) checkPrompt(`Prompt ${index + 1}`, of, prompt);
}

function checkPrompt(name: string, of: string, prompt: unknown): void {
  if (typeof prompt !== 'string' && !isConversation(prompt) && !isIds(prompt))
    throw noPrompt(name, of, prompt, 'a text, messages or token ids');
}

function noPrompt(name: string, of: string, prompt: unknown, expected: string): UserError {
  return new UserError(`${name} of ${of} is ${shown(prompt)}; give ${expected}${remedyFor(prompt)}.`);
}

function remedyFor(prompt: unknown): string {
  if (!isObject(prompt) || 'then' in prompt) return '';
  if ('role' in prompt) return '; a single message is [{ role, content }]';
  return '; of a row formatExample(row, model.tokenizer).prompt is one';
}
