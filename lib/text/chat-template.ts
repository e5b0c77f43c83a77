/** Writing a conversation by its chat template, as transformers does. */
import { messageOf, UserError } from '../errors';
import type { ChatMessage, ChatTemplateOptions } from './types';

/** The part of transformers.js' tokenizer that writes conversations. */
export interface ChatBackend {
  /** The template itself: a checkpoint may have several, by name. */
  get_chat_template(options: { chat_template: string | null; tools: readonly unknown[] | null }): unknown;
  apply_chat_template(messages: readonly ChatMessage[], options: Record<string, unknown>): unknown;
}

/** What writes the conversations of one tokenizer. */
export interface ChatWriter {
  readonly backend: ChatBackend;
  readonly hasTemplate: boolean;
  /** The tokenizer's folder, for messages. */
  readonly directory: string;
}

/** @throws UserError when there is no template, or it refuses the messages */
export function writeChat(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
  return write(writer, messages, options, templateOf(writer, options));
}

function templateOf({ backend, hasTemplate, directory }: ChatWriter, { chatTemplate }: ChatTemplateOptions): string {
  if (chatTemplate === undefined && !hasTemplate) {
    throw new UserError(
      `The tokenizer of ${directory} has no chat template, so conversations cannot be written for it; give one as chatTemplate, or use a model that has been trained to chat.`,
    );
  }
  const template = chosenTemplate(() => backend.get_chat_template({ chat_template: chatTemplate ?? null, tools: null }), directory);
  // Jinja2 reads every kind of line end as \n
  return template.replace(/\r\n?/g, '\n');
}

/** Which one it is may be open, where a checkpoint has several. */
function chosenTemplate(choose: () => unknown, directory: string): string {
  try {
    return String(choose());
  } catch (error) {
    throw new UserError(`The chat template of ${directory} cannot be used: ${messageOf(error)}.`, { cause: error });
  }
}

function write(
  { backend, directory }: ChatWriter,
  messages: readonly ChatMessage[],
  { addGenerationPrompt = false }: ChatTemplateOptions,
  template: string,
): string {
  try {
    const text = backend.apply_chat_template(messages, {
      tokenize: false,
      add_generation_prompt: addGenerationPrompt,
      chat_template: template,
    });
    return String(text);
  } catch (error) {
    throw new UserError(
      `The chat template of ${directory} cannot write this conversation (roles ${messages.map((m) => m.role).join(', ')}): ${messageOf(error)}.`,
      { cause: error },
    );
  }
}
