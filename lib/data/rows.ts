/** Parses the rows of a dataset: recognizes their format by the first one and holds all others to it, with errors that name the row. */
import { UserError } from '../errors';
import { describe, isDeeperThan, isObject } from '../json';
import { orNearest } from '../nearest';
import { CHAT_COLUMNS, chatTemplateInputs } from './chat-columns';
import { messageList, saysNothing } from './messages';
import { DEEPEST, type RawRow } from './raw-row';
import type { Example, ExampleOf, FileFormat } from './types';
import { checkWellFormed } from './well-formed';

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
  messages: ['messages', 'promptLength'],
  sharegpt: ['conversations', 'system'],
  text: ['text'],
};

export interface ParsedRows {
  readonly rows: Example[];
  readonly format: FileFormat;
  readonly notes: string[];
}

/**
 * Parses rows that came from a file or a table.
 * @param placeOf names row `index` (from 0) in an error: "data.json row 3"
 * @param textField the column that holds plain text, where it has another name than `text`
 * @throws UserError at the first row that has no known format, another format than the first, or a field that is no text or has half of a character
 */
export function parseRows(given: readonly unknown[], placeOf: (index: number) => string, textField = 'text'): ParsedRows {
  const values = textField === 'text' ? given : given.map((value) => withText(value, textField));
  if (values.length === 0) throw new UserError(`${placeOf(0).replace(/ (row|line) 1$/, '')} holds no rows; give at least one.`);
  if (textField !== 'text') checkTextField(given, placeOf(0), textField);
  const format = firstFormat(values[0], placeOf(0), textField);
  const rows = values.map((value, index) => parseRow(value, format, placeOf(index)));
  return { rows, format, notes: emptyNotes(rows, placeOf) };
}

/** A row whose plain text is in another column, under the usual name; a column of that name makes way, as it is not what was asked for. */
function withText(value: unknown, column: string): unknown {
  if (!isObject(value)) return value;
  const { [column]: found, text: _, ...others } = value;
  return found === undefined ? others : { ...others, text: found };
}

/** Rows of other kinds have no use for it. @throws UserError when no row has the column that was named */
function checkTextField(values: readonly unknown[], place: string, column: string): void {
  const [first] = values;
  if (!isObject(first) || values.some((value) => isObject(value) && column in value)) return;
  if (FORMATS.some((name) => name !== 'text' && hasColumns(first, name))) return;
  const remedy = orNearest(column, Object.keys(first), 'name one of them as textField (dataset_text_field), or leave it out');
  throw new UserError(`${place} has ${columnsOf(first)}, but no "${column}" to take texts from; ${remedy}.`);
}

function firstFormat(value: unknown, place: string, textField: string): FileFormat {
  const row = asRow(value, place, 'an object with named columns');
  // a column that is there but null says what was meant, if nothing else does
  const format = FORMATS.find((name) => hasColumns(row, name)) ?? FORMATS.find((name) => namesColumns(row, name));
  if (format) return format;
  const expected = { ...EXPECTED, text: JSON.stringify(textField) };
  const known = (Object.keys(EXPECTED) as FileFormat[]).map((name) => `${NAMES[name]}: ${expected[name]}`).join('; ');
  throw new UserError(
    `${place} has ${columnsOf(row)}, which is no known format; expected one of: ${known}. Where columns have other names, rename them (a column of plain text may be named by textField or dataset_text_field), or the option map of loadDataset makes such rows.`,
  );
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
  const consumed = 'messages' in parsed ? [...COLUMNS[format], ...CHAT_COLUMNS] : COLUMNS[format];
  checkWellFormed(row, consumed, place);
  return { ...parsed, ...('messages' in parsed && chatTemplateInputs(row, place)), ...extrasOf(row, consumed, place) };
}

function asRow(value: unknown, place: string, expected: string): RawRow {
  if (isObject(value)) {
    const { extras, ...columns } = value;
    // of a row that was read before
    return isObject(extras) ? { ...extras, ...columns } : value;
  }
  throw new UserError(`${place} is ${describe(value)}, but ${expected} was expected; correct the row or remove it.`);
}

/** In the order in which they are recognized. */
const FORMATS: readonly FileFormat[] = ['messages', 'sharegpt', 'prompt_completion', 'alpaca', 'text'];

/** Columns that a row of a format may lack. */
const OPTIONAL: readonly string[] = ['input', 'system', 'promptLength'];

/** Whether a row has a format's columns. One that is null is missing: so pandas and Hugging Face's datasets write rows without it. */
function hasColumns(row: RawRow, format: FileFormat): boolean {
  return COLUMNS[format].every((column) => OPTIONAL.includes(column) || (row[column] !== undefined && row[column] !== null));
}

/** The same, where null counts, and undefined in a row that a program has made. */
function namesColumns(row: RawRow, format: FileFormat): boolean {
  return COLUMNS[format].every((column) => OPTIONAL.includes(column) || column in row);
}

const PARSERS: { readonly [F in FileFormat]: (row: RawRow, place: string) => Example } = {
  alpaca: (row, place): ExampleOf['alpaca'] => ({
    instruction: text(row, 'instruction', place),
    // tables write a missing input as null
    input: row.input === undefined || row.input === null ? '' : text(row, 'input', place),
    output: text(row, 'output', place),
  }),
  prompt_completion: parsePromptCompletion,
  messages: (row, place) => {
    const messages = messageList(row.messages, 'messages', place);
    return { messages, ...promptLengthOf(row, messages.length, place) };
  },
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

/** How a row that was read before says where its completion begins. */
function promptLengthOf({ promptLength }: RawRow, messages: number, place: string): { promptLength?: number } {
  if (promptLength === undefined || promptLength === null) return {};
  if (Number.isInteger(promptLength) && Number(promptLength) >= 0 && Number(promptLength) < messages)
    return { promptLength: Number(promptLength) };
  throw new UserError(
    `${place}: "promptLength" is ${describe(promptLength)}, but a whole number from 0 to ${messages - 1} was expected; correct the row or leave it out.`,
  );
}

function text(row: RawRow, column: string, place: string): string {
  const value = row[column];
  if (typeof value === 'string') return value;
  // no file says undefined, but a function that makes rows by the name of a column that is not there
  const [found, remedy] =
    value === undefined ? ['undefined', 'take it from a column that the row has'] : [describe(value), 'correct the row or remove it'];
  throw new UserError(`${place}: "${column}" is ${found}, but a text was expected; ${remedy}.`);
}

function extrasOf(row: RawRow, consumed: readonly string[], place: string): { extras?: Record<string, unknown> } {
  const extra = Object.entries(row).filter(([column]) => !consumed.includes(column));
  const deep = extra.find(([, value]) => isDeeperThan(DEEPEST, value));
  if (deep) throw new UserError(`${place}: "${deep[0]}" is nested more than ${DEEPEST} deep; flatten the column or remove it.`);
  return extra.length > 0 ? { extras: Object.fromEntries(extra) } : {};
}

/** What a row should say is empty: that is no error (the model learns to end at once), but rarely meant. */
function emptyNotes(rows: readonly Example[], placeOf: (index: number) => string): string[] {
  const empty = [...rows.keys()].filter((index) => learnsNothing(rows[index]));
  if (empty.length === 0) return [];
  const [which, learns] = empty.length === 1 ? ['1 row has', 'it'] : [`${empty.length} rows have`, 'them'];
  return [
    `${which} an empty completion (first: ${placeOf(empty[0])}); from ${learns} a model learns to answer nothing, so filter ${learns} out unless that is meant.`,
  ];
}

function learnsNothing(row: Example): boolean {
  if ('messages' in row) return saysNothing(row.messages[row.messages.length - 1]);
  const said = 'prompt' in row ? row.completion : 'instruction' in row ? row.output : row.text;
  return said.trim() === '';
}

function columnsOf(row: RawRow): string {
  const names = Object.keys(row).map((name) => `"${name}"`);
  if (names.length === 0) return 'no columns';
  return `the column${names.length > 1 ? 's' : ''} ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', ...' : ''}`;
}
