/** Writing a conversation by its chat template, as transformers does, and where in the text the template's `{% generation %}` blocks lie. */
import type { OptionNames } from '../arguments';
import { messageOf, UserError } from '../errors';
import { readTemplate, type Template } from './jinja';
import { hasGenerationBlocks, trainingTemplate } from './training-templates';
import type { ChatMessage, ChatTemplateOptions } from './types';

/** Names of what a conversation is written with. */
export const CHAT_OPTIONS: OptionNames<ChatTemplateOptions> = {
  tools: true,
  chatTemplateKwargs: true,
  addGenerationPrompt: true,
  chatTemplate: true,
  assistantOnly: true,
  now: true,
};

const THINKING = 'chatTemplateKwargs: { enable_thinking: ... }';

/** Variables of the template stand beside the options in transformers. */
export const CHAT_ELSEWHERE: Readonly<Record<string, string>> = { enable_thinking: THINKING, enableThinking: THINKING };

/** The part of transformers.js' tokenizer that knows its templates. */
export interface ChatBackend {
  /** The template itself: a checkpoint may have several, by name. */
  get_chat_template(options: { chat_template: string | null; tools: readonly unknown[] | null }): unknown;
}

/** What writes the conversations of one tokenizer. */
export interface ChatWriter {
  readonly backend: ChatBackend;
  readonly hasTemplate: boolean;
  /** `eos_token` and the like: names that a template may write. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** The tokenizer's folder, for messages. */
  readonly directory: string;
}

/** A stretch of a text, from `start` to before `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** A conversation as text, and what its template's generation blocks wrote; no spans where it has none, or where they cannot be told. */
export interface MarkedChat {
  readonly text: string;
  readonly generated?: readonly Span[];
}

const NO_MARKS = ['', ''] as const;

/** @throws UserError when there is no template, or it refuses the messages */
export function writeChat(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
  return write(writer, messages, options, templateOf(writer, options), NO_MARKS);
}

/** As `writeChat`, with the stretches that the generation blocks wrote. */
export function writeMarkedChat(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): MarkedChat {
  const template = templateOf(writer, options);
  const text = write(writer, messages, options, template, NO_MARKS);
  const marks = hasGenerationBlocks(template) ? unusedMarks(text) : undefined;
  if (!marks) return { text };
  const marked = readMarks(write(writer, messages, options, template, marks), marks);
  // a template that trims or measures what a block wrote writes another text with the marks in it
  return marked?.text === text ? marked : { text };
}

function templateOf({ backend, hasTemplate, directory }: ChatWriter, { chatTemplate, tools, assistantOnly }: ChatTemplateOptions): string {
  if (chatTemplate === undefined && !hasTemplate) {
    throw new UserError(
      `The tokenizer of ${directory} has no chat template, so conversations cannot be written for it; name a file with a Jinja template as chatTemplatePath (on the command line --chat_template_path; functions take its text as chatTemplate), add "chat_template" to its tokenizer_config.json, or use a model that has been trained to chat.`,
    );
  }
  const choose = (): unknown => backend.get_chat_template({ chat_template: chatTemplate ?? null, tools: tools ?? null });
  const template = chosenTemplate(choose, directory);
  return assistantOnly ? trainingTemplate(template) : template;
}

/** Which one it is may be open, where a checkpoint has several. */
function chosenTemplate(choose: () => unknown, directory: string): string {
  try {
    return String(choose());
  } catch (error) {
    throw cannotBeUsed(directory, error);
  }
}

function cannotBeUsed(directory: string, error: unknown): UserError {
  return new UserError(`The chat template of ${directory} cannot be used: ${messageOf(error)}.`, { cause: error });
}

/** Templates that were read, by their text: one writes many conversations. */
const READ = new Map<string, Template>();

function readOnce(template: string, directory: string): Template {
  const known = READ.get(template);
  if (known) return known;
  try {
    const read = readTemplate(template);
    READ.set(template, read);
    return read;
  } catch (error) {
    throw cannotBeUsed(directory, error);
  }
}

function write(
  { specialTokens, directory }: ChatWriter,
  messages: readonly ChatMessage[],
  { addGenerationPrompt = false, tools, chatTemplateKwargs, now }: ChatTemplateOptions,
  template: string,
  marks: readonly [string, string],
): string {
  const render = readOnce(template, directory);
  const given = { tools: tools ?? null, documents: null, add_generation_prompt: addGenerationPrompt };
  const attempt = (said: readonly ChatMessage[]): string =>
    render({ messages: said, ...given, ...specialTokens, ...chatTemplateKwargs }, { now, marks });
  try {
    return attempt(messages);
  } catch (error) {
    const roles = messages.map(({ role }) => role).join(', ');
    const said = messageOf(error);
    // a template ends its sentence, or does not
    const why = remedyFor(messages, attempt) || (/[.!?]$/.test(said) ? '' : '.');
    throw new UserError(`The chat template of ${directory} cannot write this conversation (roles ${roles}): ${said}${why}`, {
      cause: error,
    });
  }
}

/** Some templates, such as Gemma's first ones, have no place for a system message, and say so in their own ways. */
function remedyFor(messages: readonly ChatMessage[], attempt: (said: readonly ChatMessage[]) => string): string {
  const others = messages.filter(({ role }) => role !== 'system');
  if (others.length === messages.length || others.length === 0) return '';
  try {
    attempt(others);
    return '; without the system message it can, so leave that out, or put its words into the first question.';
  } catch {
    return '';
  }
}

/** Two characters for private use that the text itself does not have. */
export function unusedMarks(text: string): readonly [string, string] | undefined {
  const free: string[] = [];
  for (let code = 0xe000; code <= 0xf8ff && free.length < 2; code++) {
    const mark = String.fromCharCode(code);
    if (!text.includes(mark)) free.push(mark);
  }
  return free.length === 2 ? [free[0], free[1]] : undefined;
}

/** Takes the marks out; nothing where they do not come in pairs. */
function readMarks(marked: string, [opens, closes]: readonly [string, string]): MarkedChat | undefined {
  const generated: Span[] = [];
  const open: number[] = [];
  let text = '';
  for (const piece of marked.split(new RegExp(`([${opens}${closes}])`))) {
    if (piece === opens) open.push(text.length);
    else if (piece !== closes) text += piece;
    else {
      const start = open.pop();
      if (start === undefined) return undefined;
      generated.push({ start, end: text.length });
    }
  }
  return open.length === 0 ? { text, generated } : undefined;
}
