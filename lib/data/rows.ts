/** Parses the rows of a dataset: recognizes their format by the first one and holds all others to it, with errors that name the row. */
import { UserError } from '../errors';
import { isDeeperThan, isObject } from '../json';
import { CHAT_COLUMNS, chatTemplateInputs } from './chat-columns';
import { describe, type RawRow } from './describe';
import type { ChatMessage, Example, ExampleOf, FileFormat } from './types';

const EXPECTED: Readonly<Record<FileFormat, string>> = {
  alpaca: '"instruction" and "output" (texts; "input" may be left out)',
  prompt_completion: '"prompt" and "completion" (both texts, or both lists of messages)',
  messages: '"messages" (a list of { "role", "content" })',
  sharegpt: '"conversations" (a list of { "from", "value" })',
  text: '"text"',
};

const NAMES: Readonly<Record<FileFormat, string>> = {
  alpaca: 'Alpaca',
  prompt_completion: 'prompt/completion',
  messages: 'chat messages',
  sharegpt: 'ShareGPT conversations',
  text: 'plain text',
};

/** Which columns of a format are consumed; others are kept as extras. */
const COLUMNS: Readonly<Record<FileFormat, readonly string[]>> = {
  alpaca: ['instruction', 'input', 'output'],
  prompt_completion: ['prompt', 'completion'],
  messages: ['messages'],
  sharegpt: ['conversations', 'system'],
  text: ['text'],
};

const ROLES: Readonly<Record<string, string>> = {
  human: 'user',
  user: 'user',
  gpt: 'assistant',
  chatgpt: 'assistant',
  assistant: 'assistant',
  model: 'assistant',
  system: 'system',
  tool: 'tool',
  function: 'tool',
  observation: 'tool',
};

export interface ParsedRows {
  readonly rows: Example[];
  readonly format: FileFormat;
  readonly notes: string[];
}

/**
 * Parses rows that came from a file or a table.
 * @param placeOf names row `index` (from 0) in an error: "data.json row 3"
 * @throws UserError at the first row that has no known format, another format than the first, or a field that is no text
 */
export function parseRows(values: readonly unknown[], placeOf: (index: number) => string): ParsedRows {
  if (values.length === 0) throw new UserError(`${placeOf(0).replace(/ (row|line) 1$/, '')} holds no rows; give at least one.`);
  const format = firstFormat(values[0], placeOf(0));
  const rows = values.map((value, index) => parseRow(value, format, placeOf(index)));
  return { rows, format, notes: emptyNotes(rows, placeOf) };
}

function firstFormat(value: unknown, place: string): FileFormat {
  const row = asRow(value, place, 'an object with named columns');
  // a column that is there but null says what was meant, if nothing else does
  const format = FORMATS.find((name) => hasColumns(row, name)) ?? FORMATS.find((name) => namesColumns(row, name));
  if (format) return format;
  const known = (Object.keys(EXPECTED) as FileFormat[]).map((name) => `${NAMES[name]}: ${EXPECTED[name]}`).join('; ');
  throw new UserError(`${place} has ${columnsOf(row)}, which is no known format; expected one of: ${known}.`);
}

function parseRow(value: unknown, format: FileFormat, place: string): Example {
  const row = asRow(value, place, `${NAMES[format]} columns: ${EXPECTED[format]}`);
  // a row may have more columns than its format needs, so another format wins only where this one's columns are missing
  const other = hasColumns(row, format) ? format : FORMATS.find((name) => hasColumns(row, name));
  if (other !== format && (other || !namesColumns(row, format))) {
    const found = other ? `${columnsOf(row)} (${NAMES[other]})` : columnsOf(row);
    throw new UserError(
      `${place} has ${found}, but the rows before it are ${NAMES[format]}: expected ${EXPECTED[format]}; correct the row or remove it.`,
    );
  }
  const parsed = PARSERS[format](row, place);
  if (!('messages' in parsed)) return { ...parsed, ...extrasOf(row, COLUMNS[format], place) };
  return { ...parsed, ...chatTemplateInputs(row, place), ...extrasOf(row, [...COLUMNS[format], ...CHAT_COLUMNS], place) };
}

function asRow(value: unknown, place: string, expected: string): RawRow {
  if (isObject(value)) return value;
  throw new UserError(`${place} is ${describe(value)}, but ${expected} was expected; correct the row or remove it.`);
}

/** In the order in which they are recognized. */
const FORMATS: readonly FileFormat[] = ['messages', 'sharegpt', 'prompt_completion', 'alpaca', 'text'];

/** Columns that a row of a format may lack. */
const OPTIONAL: readonly string[] = ['input', 'system'];

/** Whether a row has a format's columns. One that is null is missing: so pandas and Hugging Face's datasets write rows without it. */
function hasColumns(row: RawRow, format: FileFormat): boolean {
  return COLUMNS[format].every((column) => OPTIONAL.includes(column) || (row[column] !== undefined && row[column] !== null));
}

/** The same, where null counts. */
function namesColumns(row: RawRow, format: FileFormat): boolean {
  return COLUMNS[format].every((column) => OPTIONAL.includes(column) || row[column] !== undefined);
}

const PARSERS: { readonly [F in FileFormat]: (row: RawRow, place: string) => Example } = {
  alpaca: (row, place): ExampleOf['alpaca'] => ({
    instruction: text(row, 'instruction', place),
    // tables write a missing input as null
    input: row.input === undefined || row.input === null ? '' : text(row, 'input', place),
    output: text(row, 'output', place),
  }),
  prompt_completion: parsePromptCompletion,
  messages: (row, place) => ({ messages: messageList(row.messages, 'messages', place) }),
  sharegpt: (row, place) => {
    const messages = messageList(row.conversations, 'conversations', place);
    const system = typeof row.system === 'string' && row.system !== '' ? [{ role: 'system', content: row.system }] : [];
    return { messages: [...system, ...messages] };
  },
  text: (row, place) => ({ text: text(row, 'text', place) }),
};

function parsePromptCompletion(row: RawRow, place: string): Example {
  if (!Array.isArray(row.prompt) && !Array.isArray(row.completion)) {
    return { prompt: text(row, 'prompt', place), completion: text(row, 'completion', place) };
  }
  const prompt = messageList(row.prompt, 'prompt', place);
  return { messages: [...prompt, ...messageList(row.completion, 'completion', place)], promptLength: prompt.length };
}

function text(row: RawRow, column: string, place: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  throw new UserError(`${place}: "${column}" is ${describe(value)}, but a text was expected; correct the row or remove it.`);
}

function messageList(value: unknown, column: string, place: string): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(
      `${place}: "${column}" is ${describe(value)}, but a list of at least one message was expected; correct the row or remove it.`,
    );
  }
  return value.map((entry, index) => message(entry, `${place}: message ${index + 1} of "${column}"`));
}

function message(value: unknown, place: string): ChatMessage {
  if (typeof value !== 'object' || value === null) {
    throw new UserError(`${place} is ${describe(value)}, but { "role", "content" } or { "from", "value" } was expected; correct the row.`);
  }
  const { role, from, content, value: said, tool_calls: calls } = value as Record<string, unknown>;
  const speaker = role ?? from;
  const known = typeof speaker === 'string' && Object.hasOwn(ROLES, speaker.toLowerCase()) ? ROLES[speaker.toLowerCase()] : undefined;
  // a name that only the chat template knows (developer, ipython, ...) is passed on to it
  const accepted = known ?? (typeof role === 'string' && role !== '' ? role : undefined);
  if (accepted === undefined) {
    throw new UserError(
      `${place} is spoken by ${describe(speaker)}, but one of ${Object.keys(ROLES).join(', ')} was expected; correct the row.`,
    );
  }
  if (Array.isArray(calls) && calls.length > 0) {
    throw new UserError(`${place} calls a tool, which is not supported; write the call into its content, or remove the row.`);
  }
  return { role: accepted, content: contentText(content ?? said, place) };
}

/** Content is a text, or a list of parts of which only texts can be used. */
function contentText(content: unknown, place: string): string {
  if (typeof content === 'string') return content;
  if (Array.isArray(content) && content.every((part) => part?.type === 'text' && typeof part.text === 'string')) {
    return content.map((part) => part.text as string).join('');
  }
  throw new UserError(`${place} has as content ${describe(content)}, but a text was expected; correct the row or remove it.`);
}

/** Deeper values would exhaust the stack of what walks through them later. */
const DEEPEST_EXTRA = 500;

function extrasOf(row: RawRow, consumed: readonly string[], place: string): { extras?: Record<string, unknown> } {
  const extra = Object.entries(row).filter(([column]) => !consumed.includes(column));
  const deep = extra.find(([, value]) => isDeeperThan(DEEPEST_EXTRA, value));
  if (deep) throw new UserError(`${place}: "${deep[0]}" is nested more than ${DEEPEST_EXTRA} deep; flatten the column or remove it.`);
  return extra.length > 0 ? { extras: Object.fromEntries(extra) } : {};
}

/** What a row should say is empty: that is no error (the model learns to end at once), but rarely meant. */
function emptyNotes(rows: readonly Example[], placeOf: (index: number) => string): string[] {
  const empty = [...rows.keys()].filter((index) => completionOf(rows[index]).trim() === '');
  if (empty.length === 0) return [];
  const [which, learns] = empty.length === 1 ? ['1 row has', 'it'] : [`${empty.length} rows have`, 'them'];
  return [
    `${which} an empty completion (first: ${placeOf(empty[0])}); from ${learns} a model learns to answer nothing, so filter them out unless that is meant.`,
  ];
}

function completionOf(row: Example): string {
  if ('messages' in row) return row.messages[row.messages.length - 1].content;
  if ('prompt' in row) return row.completion;
  return 'instruction' in row ? row.output : row.text;
}

function columnsOf(row: RawRow): string {
  const names = Object.keys(row).map((name) => `"${name}"`);
  if (names.length === 0) return 'no columns';
  return `the column${names.length > 1 ? 's' : ''} ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', ...' : ''}`;
}
