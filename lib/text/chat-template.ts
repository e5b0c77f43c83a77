/** Writing a conversation by its chat template, as transformers does, and where in the text the template's `{% generation %}` blocks lie. */
import type { OptionNames } from '../arguments';
import { messageOf, UserError } from '../errors';
import { checkCalls } from './call-values';
import { MENDING_FUNCTIONS } from './mended-templates';
import { strftime } from './strftime';
import { rewriteStripCalls } from './strip-calls';
import type { ChatMessage, ChatTemplateOptions } from './types';

/** Names of what a conversation is written with. */
export const CHAT_OPTIONS: OptionNames<ChatTemplateOptions> = {
  tools: true,
  chatTemplateKwargs: true,
  addGenerationPrompt: true,
  chatTemplate: true,
  now: true,
};

const THINKING = 'chatTemplateKwargs: { enable_thinking: ... }';

/** Variables of the template stand beside the options in transformers. */
export const CHAT_ELSEWHERE: Readonly<Record<string, string>> = { enable_thinking: THINKING, enableThinking: THINKING };

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

/** `{% generation %}` and `{% endgeneration %}`, as TRL and transformers look for them. */
const GENERATION = /\{%(-?)\s*(end)?generation\s*(-?)%\}/g;

/**
 * transformers makes of a generation block a call block of Jinja, and so is it done here: whitespace control and the scope of
 * variables are then those of any other block. The line's end behind the macro is dropped by `trim_blocks`.
 */
const GENERATION_MACRO = '{% macro __generation() %}{{ __generation_opens }}{{ caller() }}{{ __generation_closes }}{% endmacro %}\n';

/** @throws UserError when there is no template, or it refuses the messages */
export function writeChat(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
  return write(writer, messages, options, templateOf(writer, options), ['', '']);
}

/** As `writeChat`, with the stretches that the generation blocks wrote. */
export function writeMarkedChat(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): MarkedChat {
  const template = templateOf(writer, options);
  const text = write(writer, messages, options, template, ['', '']);
  const marks = template.startsWith(GENERATION_MACRO) ? unusedMarks(text) : undefined;
  if (!marks) return { text };
  const marked = readMarks(write(writer, messages, options, template, marks), marks);
  // a template that trims or measures what a block wrote writes another text with the marks in it
  return marked?.text === text ? marked : { text };
}

function templateOf({ backend, hasTemplate, directory }: ChatWriter, { chatTemplate, tools }: ChatTemplateOptions): string {
  if (chatTemplate === undefined && !hasTemplate) {
    throw new UserError(
      `The tokenizer of ${directory} has no chat template, so conversations cannot be written for it; name a file with a Jinja template as chatTemplatePath (on the command line --chat_template_path; functions take its text as chatTemplate), add "chat_template" to its tokenizer_config.json, or use a model that has been trained to chat.`,
    );
  }
  const template = chosenTemplate(
    () => backend.get_chat_template({ chat_template: chatTemplate ?? null, tools: tools ?? null }),
    directory,
  );
  return readTemplate(template);
}

/** Which one it is may be open, where a checkpoint has several. */
function chosenTemplate(choose: () => unknown, directory: string): string {
  try {
    return String(choose());
  } catch (error) {
    throw new UserError(`The chat template of ${directory} cannot be used: ${messageOf(error)}.`, { cause: error });
  }
}

/** Templates as the engine is given them, by what they were: one writes many conversations. */
const READ = new Map<string, string>();

function readTemplate(template: string): string {
  const known = READ.get(template) ?? prepareTemplate(template);
  READ.set(template, known);
  return known;
}

/** Jinja2 reads every kind of line end as \n. */
function prepareTemplate(template: string): string {
  // the engine's own strftime_now can neither be replaced nor told a time
  const text = rewriteStripCalls(template.replace(/\r\n?/g, '\n').replace(/\bstrftime_now\b/g, '__strftime_now'));
  const withCalls = text.replace(GENERATION, (_, left: string, end: string | undefined, right: string) =>
    end ? `{%${left} endcall ${right}%}` : `{%${left} call __generation() ${right}%}`,
  );
  return withCalls === text ? text : GENERATION_MACRO + withCalls;
}

function write(
  { backend, directory }: ChatWriter,
  messages: readonly ChatMessage[],
  { addGenerationPrompt = false, tools, chatTemplateKwargs, now }: ChatTemplateOptions,
  template: string,
  [opens, closes]: readonly [string, string],
): string {
  try {
    checkCalls(messages, template);
    const text = backend.apply_chat_template(messages, {
      ...chatTemplateKwargs,
      tools: tools ?? null,
      tokenize: false,
      add_generation_prompt: addGenerationPrompt,
      chat_template: template,
      __strftime_now: (format: unknown) => strftime(now ?? new Date(), String(format)),
      ...MENDING_FUNCTIONS,
      __generation_opens: opens,
      __generation_closes: closes,
    });
    return checkTexts(String(text), messages);
  } catch (error) {
    throw new UserError(
      `The chat template of ${directory} cannot write this conversation (roles ${messages.map((m) => m.role).join(', ')}): ${messageOf(error)}.`,
      { cause: error },
    );
  }
}

/** Where a template puts an object behind a text with `+`, Python refuses it. */
function checkTexts(text: string, messages: readonly ChatMessage[]): string {
  const mark = '[object Map]';
  if (!text.includes(mark) || JSON.stringify(messages).includes(mark)) return text;
  throw new Error('it puts an object where only a text can be; give the arguments of tool calls as JSON text');
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
