/** The columns that a conversation's chat template reads beside the messages, under TRL's names and those of rows that were read before. */
import { messageOf, UserError } from '../errors';
import { describe, isObject } from '../json';
import type { RawRow } from './raw-row';
import type { ChatTemplateInputs } from './types';

export const CHAT_COLUMNS: readonly string[] = ['tools', 'chat_template_kwargs', 'chatTemplateKwargs'];

/** Variables that are settled elsewhere, and what settles them; the others are how transformers' `apply_chat_template` is called. */
const SETTLED: Readonly<Record<string, string>> = {
  messages: 'they are the row itself',
  tools: 'give them as the column "tools"',
  chat_template: 'give it as chat_template_path',
  ...Object.fromEntries(
    [
      ...['conversation', 'add_generation_prompt', 'continue_final_message', 'tokenize', 'tokenizer_kwargs', 'padding', 'truncation'],
      ...['max_length', 'return_tensor', 'return_tensors', 'return_dict', 'return_assistant_tokens_mask'],
    ].map((name) => [name, 'training sets it']),
  ),
};

/**
 * Reads `tools` (a list of JSON schemas, or its JSON text) and `chat_template_kwargs` (an object) of a row.
 * @throws UserError when one of them is something else
 */
export function chatTemplateInputs(row: RawRow, place: string): ChatTemplateInputs {
  const [tools, kwargs] = [toolList(row.tools, place), templateKwargs(row.chat_template_kwargs ?? row.chatTemplateKwargs, place)];
  return { ...(tools && { tools }), ...(kwargs && { chatTemplateKwargs: kwargs }) };
}

function toolList(value: unknown, place: string): ChatTemplateInputs['tools'] {
  const given = typeof value === 'string' ? fromJson(value, place) : value;
  // tables write what is missing as null
  if (given === undefined || given === null) return undefined;
  if (!Array.isArray(given)) {
    throw new UserError(
      `${place}: "tools" is ${describe(given)}, but a list of JSON schemas was expected; correct the row or leave it out.`,
    );
  }
  const wrong = given.findIndex((tool) => !isObject(tool));
  if (wrong < 0) return given;
  throw new UserError(
    `${place}: tool ${wrong + 1} of "tools" is ${describe(given[wrong])}, but a JSON schema (an object) was expected; correct the row or leave it out.`,
  );
}

function fromJson(text: string, place: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${place}: "tools" is ${describe(text)}, which is not valid JSON (${messageOf(error)}); give a list of JSON schemas or leave it out.`,
      { cause: error },
    );
  }
}

function templateKwargs(value: unknown, place: string): ChatTemplateInputs['chatTemplateKwargs'] {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) {
    throw new UserError(
      `${place}: "chat_template_kwargs" is ${describe(value)}, but an object with variables of the chat template was expected; correct the row or leave it out.`,
    );
  }
  const settled = Object.keys(value).find((name) => Object.hasOwn(SETTLED, name));
  if (settled === undefined) return value;
  throw new UserError(`${place}: "chat_template_kwargs" must not have ${settled} (${SETTLED[settled]}); remove it there.`);
}
