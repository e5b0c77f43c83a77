/** Parses the messages of a conversation: whatever a file calls the speakers, and with all fields that a chat template may read. */
import { UserError } from '../errors';
import { describe, isDeeperThan, isObject } from '../json';
import { DEEPEST } from './raw-row';
import type { ChatMessage } from './types';

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

/** @throws UserError when the column holds something else than messages */
export function messageList(value: unknown, column: string, place: string): ChatMessage[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new UserError(
      `${place}: "${column}" is ${describe(value)}, but a list of at least one message was expected; correct the row or remove it.`,
    );
  }
  return value.map((entry, index) => message(entry, `${place}: message ${index + 1} of "${column}"`));
}

/** Whether a model that learns this message learns to say nothing. */
export function saysNothing({ role: _, content, ...fields }: ChatMessage): boolean {
  return (content ?? '').trim() === '' && !callsTools(fields);
}

function message(value: unknown, place: string): ChatMessage {
  if (typeof value !== 'object' || value === null) {
    throw new UserError(`${place} is ${describe(value)}, but { "role", "content" } or { "from", "value" } was expected; correct the row.`);
  }
  const { role, from, content, value: said, ...others } = value as Record<string, unknown>;
  const speaker = role ?? from;
  const known = typeof speaker === 'string' && Object.hasOwn(ROLES, speaker.toLowerCase()) ? ROLES[speaker.toLowerCase()] : undefined;
  // a name that only the chat template knows (developer, ipython, ...) is passed on to it
  const accepted = known ?? (typeof role === 'string' && role !== '' ? role : undefined);
  if (accepted === undefined) {
    const found = speaker === undefined ? 'does not say by its role who speaks' : `is spoken by ${describe(speaker)}`;
    throw new UserError(`${place} ${found}, but one of ${Object.keys(ROLES).join(', ')} was expected; correct the row.`);
  }
  const fields = fieldsOf(others, place);
  const spoken = content ?? said ?? content;
  const silent = callsTools(fields) && (spoken ?? null) === null;
  return { role: accepted, content: silent ? null : contentText(spoken, place), ...fields };
}

/** What a message has besides: tables write what is missing as null, and a list without calls is none. */
function fieldsOf(others: Readonly<Record<string, unknown>>, place: string): Record<string, unknown> {
  const fields = Object.entries(others).filter(
    ([name, value]) => value !== undefined && value !== null && !(name === 'tool_calls' && Array.isArray(value) && value.length === 0),
  );
  for (const [name, value] of fields) {
    if (isDeeperThan(DEEPEST, value))
      throw new UserError(`${place}: "${name}" is nested more than ${DEEPEST} deep; flatten the field or remove it.`);
    if (name === 'tool_calls' && !(Array.isArray(value) && value.every(isObject)))
      throw new UserError(
        `${place} has as "tool_calls" ${describe(value)}${Array.isArray(value) ? ' with something else than objects' : ''}, but a list of calls (objects) was expected; correct the row or remove it.`,
      );
  }
  return Object.fromEntries(fields);
}

function callsTools(fields: Readonly<Record<string, unknown>>): boolean {
  return fields.tool_calls !== undefined || fields.function_call !== undefined;
}

/** Content is a text, or a list of parts of which only texts can be used. */
function contentText(content: unknown, place: string): string {
  if (typeof content === 'string') return content;
  if (Array.isArray(content) && content.every((part) => part?.type === 'text' && typeof part.text === 'string')) {
    return content.map((part) => part.text as string).join('');
  }
  throw new UserError(`${place} has as content ${describe(content)}, but a text was expected; correct the row or remove it.`);
}
