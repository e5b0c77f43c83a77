/** Values in the calls of tools that a chat template would write otherwise here than in Python. */
import { isObject } from '../json';
import type { ChatMessage } from './types';

/** The filter where it may get something else than a text. */
const STRING_FILTER = /[\w)\]]\s*\|\s*string\s*[|)%}~-]/;

/**
 * Refuses what the template engine does not write as Python does: true, false and lists that go through the filter `string`, and
 * null where it neither has JSON nor asks for it.
 * @throws Error that says which value it is, and how to write it
 */
export function checkCalls(messages: readonly ChatMessage[], template: string): void {
  if (!template.includes('tool_calls')) return;
  const calls = messages.flatMap(({ tool_calls }) => (Array.isArray(tool_calls) ? tool_calls.filter(isObject) : []));
  for (const call of calls) {
    const { name, arguments: given } = isObject(call.function) ? call.function : call;
    const entries = isObject(given) ? Object.entries(given) : [];
    const odd = entries.find(([, value]) => isOdd(value, template));
    if (!odd) continue;
    const [key, value] = odd;
    throw new Error(
      `the argument ${JSON.stringify(key)} of a call of ${JSON.stringify(name)} is ${Array.isArray(value) ? 'a list' : value === null || typeof value === 'boolean' ? String(value) : 'an object with null in it'}, which this template writes in Python's words; give it as a text ("True", "None", "[1, 2]")`,
    );
  }
}

function isOdd(value: unknown, template: string): boolean {
  if (!/\btojson\b|\bis none\b/.test(template)) return hasNull(value);
  if (!STRING_FILTER.test(template)) return false;
  // templates that tell lists from texts write them as JSON
  return typeof value === 'boolean' || value === null || (Array.isArray(value) && !template.includes('is sequence'));
}

function hasNull(value: unknown): boolean {
  return value === null || (typeof value === 'object' && Object.values(value as object).some(hasNull));
}
