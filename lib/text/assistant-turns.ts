/**
 * Which stretches of a conversation's text an assistant said, where the chat template has no `{% generation %}` blocks to tell.
 * The conversation is written once more with marks inside its contents, so that each of them is found again wherever and in
 * whatever form the template writes it. What the template puts before and behind is read off a conversation of one question.
 */
import { UserError } from '../errors';
import { type ChatWriter, type Span, unusedMarks, writeChat } from './chat-template';
import { stripText } from './jinja/strip';
import type { ChatMessage, ChatTemplateOptions } from './types';

/** Which contents carry marks: a template may look at the beginning of a question, or whether an answer is empty. */
interface Marking {
  readonly questions: boolean;
  readonly blanks: boolean;
}

/** Where a marked content is in the text, as far as the template wrote its marks. */
interface Place {
  /** Its first character that is no space. */
  start?: number;
  /** The first place behind a closing tag: templates drop what comes before, such as an earlier turn's reasoning. */
  inner?: number;
  /** Behind its last character that is no space. */
  end?: number;
}

/** What a template writes around an answer. */
interface Frame {
  /** What `add_generation_prompt` adds; may be empty. */
  readonly opening: string;
  /** What follows a question before an answer, be it the last one or not. */
  readonly lead: string;
  /** From the answer to where another turn begins. */
  readonly closing: string;
}

/** A conversation as it was written, and what is known of the places in it. */
interface Written {
  readonly messages: readonly ChatMessage[];
  readonly text: string;
  readonly places: readonly Place[];
  readonly frame: Frame;
}

/**
 * The assistant's turns in `text`, which the template wrote of the messages without a generation prompt: each from behind its
 * opening to the end of what closes it. The number of renderings does not depend on that of turns.
 * @throws UserError when the template changes contents so that they cannot be found again
 */
export function assistantTurns(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions, text: string): Span[] {
  const turns = findTurns(writer, messages, options, text);
  if (turns) return turns.filter(({ start, end }) => start < end);
  throw new UserError(
    `${notFound(writer, messages)}, so assistant_only_loss does not know what to learn; name a template that has {% generation %} blocks as chat_template_path, or set assistant_only_loss to false.`,
  );
}

/**
 * The last of the assistant's turns, as `assistantTurns` finds it; nothing where there is none.
 * @throws UserError when the template changes contents so that they cannot be found again
 */
export function lastAssistantTurn(
  writer: ChatWriter,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions,
  text: string,
): Span[] {
  const turns = findTurns(writer, messages, options, text);
  if (turns) return turns.slice(-1).filter(({ start, end }) => start < end);
  throw new UserError(
    `${notFound(writer, messages)}, so completion_only_loss does not know what to learn; write the row with "prompt" and "completion", or set completion_only_loss to false.`,
  );
}

function notFound({ directory }: ChatWriter, messages: readonly ChatMessage[]): string {
  const content = contentOf(messages[0]);
  const begins = JSON.stringify(content.length > 40 ? `${content.slice(0, 40)}...` : content);
  return `What the assistant says in the conversation that begins with ${begins} cannot be told from the rest of what the chat template of ${directory} writes`;
}

/** Nothing where the border of a turn is not certain; turns may be empty. */
function findTurns(writer: ChatWriter, messages: readonly ChatMessage[], options: ChatTemplateOptions, text: string): Span[] | undefined {
  const answers = messages.filter(isAnswer);
  if (answers.length === 0) return [];
  const marks = unusedMarks(text + messages.map(contentOf).join(''));
  const write: Write = (part, opened = false) => writeChat(writer, part, { ...options, addGenerationPrompt: opened });
  const frame = marks && frameOf(writer, options, write, marks);
  if (!frame) return undefined;
  for (const marking of markings(answers.some(isBlank))) {
    const places = findPlaces(messages, text, marking, marks, write);
    const turns = places && readTurns({ messages, text, places, frame });
    if (turns) return turns;
  }
  return undefined;
}

type Write = (messages: readonly ChatMessage[], opened?: boolean) => string;
type Marks = readonly [string, string];

function isAnswer({ role }: ChatMessage): boolean {
  return role === 'assistant';
}

function isBlank(message: ChatMessage): boolean {
  return stripText(contentOf(message)) === '';
}

/** A message that does nothing but call tools has none. */
function contentOf({ content }: ChatMessage): string {
  return content ?? '';
}

/** What to try in turn: first what tells most. */
function markings(blankAnswers: boolean): Marking[] {
  const choices = blankAnswers ? [true, false] : [true];
  return [true, false].flatMap((questions) => choices.map((blanks) => ({ questions, blanks })));
}

/** What was found for the last conversation: those of a dataset are mostly written by the same template with the same variables. */
const latestFrames = new WeakMap<ChatWriter, { readonly key: string; readonly frame: Frame | undefined }>();

function frameOf(
  writer: ChatWriter,
  { chatTemplate, tools, chatTemplateKwargs, assistantOnly }: ChatTemplateOptions,
  write: Write,
  marks: Marks,
): Frame | undefined {
  const key = JSON.stringify([marks, chatTemplate, tools, chatTemplateKwargs, assistantOnly]);
  const known = latestFrames.get(writer);
  if (known?.key === key) return known.frame;
  const frame = readFrame(write, marks);
  latestFrames.set(writer, { key, frame });
  return frame;
}

/** Nothing where the template refuses two questions with their answers, or does not write them. */
function readFrame(write: Write, [question, answer]: Marks): Frame | undefined {
  const asked: ChatMessage[] = [{ role: 'user', content: question }];
  const round: ChatMessage[] = [...asked, { role: 'assistant', content: answer }];
  const answered = [...round, ...round];
  const attempt = (messages: readonly ChatMessage[], opened: boolean): string | undefined => {
    try {
      return write(messages, opened);
    } catch {
      return undefined;
    }
  };
  const [before, first, last] = attempt(answered, false)?.split(question) ?? [];
  if (!first?.includes(answer) || !last?.includes(answer)) return undefined;
  const [lead, tail] = last.split(answer);
  const behind = (text: string | undefined, mark: string): string | undefined => text?.slice(text.lastIndexOf(mark) + 1);
  const opened = behind(attempt(asked, true), question) ?? '';
  const unopened = behind(attempt(asked, false), question) ?? '';
  const opening = opened.slice(sharedLength(unopened, opened, 0));
  // a template may write another end where the conversation ends
  const next = behind(attempt(answered, true), answer);
  const turn = first.slice(first.indexOf(answer) + 1);
  const closing = !opened.startsWith(unopened)
    ? turn.slice(0, turn.length - sharedEnd(before, turn))
    : next?.endsWith(opening)
      ? next.slice(0, next.length - opening.length)
      : tail;
  return { opening, lead: lead.slice(0, sharedLength(lead, first, 0)), closing };
}

/** The conversation written with marks; nothing where the text is another one with them. */
function findPlaces(messages: readonly ChatMessage[], text: string, marking: Marking, marks: Marks, write: Write): Place[] | undefined {
  const marked = messages.map((message, index) => {
    const wanted = isAnswer(message) ? marking.blanks || !isBlank(message) : marking.questions && !isBlank(message);
    return wanted ? { ...message, content: markContent(message, index, marks) } : message;
  });
  try {
    return readPlaces(write(marked), text, messages.length, marks);
  } catch (error) {
    // a template that refuses what only the marks brought
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** Closing tags, such as that of the reasoning, and the space behind them. */
const CLOSING_TAGS = /(?:<\/[^<>\s]*>|\[\/[^[\]\s]*\])\s*(?=\S)/g;

/** A mark is the message's number between two of the same character; spaces at both ends may be trimmed and stay outside. */
function markContent(message: ChatMessage, index: number, [starts, ends]: Marks): string {
  const content = contentOf(message);
  const [start, end] = [`${starts}${index}${starts}`, `${ends}${index}${ends}`];
  if (isBlank(message)) return start + end + content;
  const body = stripText(content);
  const from = content.indexOf(body);
  const inside = isAnswer(message) ? body.replace(CLOSING_TAGS, `$&${starts}${index}-${starts}`) : body;
  return content.slice(0, from) + start + inside + end + content.slice(from + body.length);
}

/** Nothing where the marked text without its marks is not the plain one, or a content was written twice. */
function readPlaces(marked: string, plain: string, count: number, [starts, ends]: Marks): Place[] | undefined {
  const places = Array.from({ length: count }, (): Place => ({}));
  const pieces: string[] = [];
  let [at, from] = [0, 0];
  for (const match of marked.matchAll(new RegExp(`([${starts}${ends}])(\\d+)(-?)\\1`, 'g'))) {
    pieces.push(marked.slice(from, match.index));
    at += match.index - from;
    from = match.index + match[0].length;
    const place = places[Number(match[2])];
    const kind = match[1] === ends ? 'end' : match[3] ? 'inner' : 'start';
    if (kind !== 'inner' && place[kind] !== undefined) return undefined;
    place[kind] ??= at;
  }
  pieces.push(marked.slice(from));
  return pieces.join('') === plain ? places : undefined;
}

/** Nothing where the border of a turn is not certain. */
function readTurns(written: Written): Span[] | undefined {
  const { messages, places, frame } = written;
  // what stands unmarked before an answer must not look like the opening of one
  const openings = [frame.opening.trim(), frame.lead.trim()].filter((opening) => opening !== '');
  const hidden = messages.filter((message, index) => !isAnswer(message) && places[index].end === undefined);
  if (hidden.some((message) => openings.some((opening) => contentOf(message).includes(opening)))) return undefined;
  const fences = messages.flatMap((message, i) => (isAnswer(message) ? [] : (places[i].end ?? []))).sort((a, b) => a - b);
  const turns: Span[] = [];
  let [cursor, fence] = [0, 0];
  for (const index of messages.keys()) {
    if (!isAnswer(messages[index])) continue;
    const first = firstMark(places[index]) ?? places[index - 1]?.end ?? 0;
    for (; fences[fence] <= first; fence++) cursor = Math.max(cursor, fences[fence]);
    const start = startOf(written, index, cursor);
    const end = start === undefined ? undefined : endOf(written, index, start);
    if (start === undefined || end === undefined || end < start) return undefined;
    turns.push({ start, end });
    cursor = end;
  }
  return turns;
}

function firstMark({ start, inner, end }: Place): number | undefined {
  return start ?? inner ?? end;
}

/** Where the answer begins, between `from` and its first mark. */
function startOf({ messages, text, places, frame }: Written, index: number, from: number): number | undefined {
  const { start } = places[index];
  const limit = firstMark(places[index]) ?? text.length;
  const behind = (opening: string): number | undefined => {
    if (opening.trim() === '') return undefined;
    // an answer without its first mark may have words before the other ones that look like an opening, too
    const at = start === undefined ? text.indexOf(opening, from) : text.lastIndexOf(opening, start - opening.length);
    return at >= from && at + opening.length <= limit ? at + opening.length : undefined;
  };
  const opened = behind(frame.opening);
  if (opened !== undefined) return opened;
  if (start === undefined) return behind(frame.lead);
  return start < from ? undefined : start - sharedSpace(contentOf(messages[index]), text.slice(from, start));
}

/** How much of the space that a content begins with was written. */
function sharedSpace(content: string, before: string): number {
  const space = content.slice(0, content.length - stripText(content, 'l').length);
  let length = 0;
  while (length < space.length && length < before.length && space.at(-1 - length) === before.at(-1 - length)) length++;
  return length;
}

/** Where the answer ends, with what closes it. */
function endOf({ messages, text, places, frame }: Written, index: number, start: number): number | undefined {
  const { end } = places[index];
  const content = contentOf(messages[index]);
  const last = index === messages.length - 1;
  if (last && (end !== undefined || isBlank(messages[index]))) return text.length;
  // calls of tools and the like may stand between the content and what closes the answer
  if (end !== undefined && !saysMore(messages[index]))
    return end + closingLength(content.slice(stripText(content, 'r').length), frame.closing, text, end);
  // of an empty answer, the opening was found
  if (end === undefined && !isBlank(messages[index])) return undefined;
  if (frame.closing === '') return end ?? start;
  const at = text.indexOf(frame.closing, end ?? start);
  const next = places.slice(index + 1).find((place) => firstMark(place) !== undefined);
  return at < 0 || at > ((next && firstMark(next)) ?? text.length) ? undefined : at + frame.closing.length;
}

/** Whether a message has more than its role and content. */
function saysMore(message: ChatMessage): boolean {
  return Object.keys(message).length > 2;
}

/** How far the text from `at` on is the answer's own space, of which some may have been trimmed, and the closing. */
function closingLength(space: string, closing: string, text: string, at: number): number {
  let written = 0;
  while (written < space.length && space[written] === text[at + written]) written++;
  for (let length = written; length >= 0; length--) {
    if (text.startsWith(closing, at + length)) return length + closing.length;
  }
  return written + sharedLength(closing, text, at + written);
}

/** A tag, a word, or any other character. */
const PIECES = /<[^<>\s]*>|\[[^[\]\s]*\]|[\p{L}\p{N}_]+|[\s\S]/gu;

/** How much of the ends of two texts is the same; tags and words only whole. */
function sharedEnd(one: string, other: string): number {
  const [a, b] = [one, other].map((text) => (text.match(PIECES) ?? []).reverse());
  const differ = a.findIndex((piece, index) => piece !== b[index]);
  return a.slice(0, differ < 0 ? a.length : differ).join('').length;
}

/** How much of the beginning of `expected` is in the text at a place; tags and words only whole. */
function sharedLength(expected: string, text: string, at: number): number {
  const piece = new RegExp(PIECES.source, 'uy');
  piece.lastIndex = at;
  let length = 0;
  for (const [wanted] of expected.matchAll(PIECES)) {
    if (piece.exec(text)?.[0] !== wanted) break;
    length += wanted.length;
  }
  return length;
}
