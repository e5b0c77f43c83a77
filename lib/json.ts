/** Reading JSON with errors that say line and column, which `JSON.parse` does not always know. */
import { UserError } from './errors';

/** Whether a value is what JSON calls an object: no list, and not null. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Parses JSON text.
 * @param place what the text is, as the error should name it: usually the file's path
 * @param firstLine number of the text's first line in that file (for JSONL)
 * @throws UserError with line and column of the first character that cannot belong to JSON
 */
export function parseJson(text: string, place: string, firstLine = 1): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const { offset, expected } = findJsonError(text);
    const before = text.slice(0, offset).split('\n');
    const line = firstLine + before.length - 1;
    const column = before[before.length - 1].length + 1;
    const found = offset >= text.length ? 'the text ends' : `found ${JSON.stringify(String.fromCodePoint(text.codePointAt(offset) ?? 0))}`;
    throw new UserError(
      `${place} is not valid JSON: line ${line}, column ${column}: expected ${expected}, but ${found}; correct it there.`,
    );
  }
}

interface JsonFault {
  offset: number;
  expected: string;
}

const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON forbids exactly these inside strings
const CHARACTERS = /[^"\\\u0000-\u001f]+/y;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;

/** Walks text that `JSON.parse` has refused and returns where and why; iterative, so that deep nesting cannot exhaust the stack. */
function findJsonError(text: string): JsonFault {
  let at = 0;
  const take = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at += match[0].length;
    return match !== null;
  };
  const open: Array<'}' | ']'> = [];
  let state: 'value' | 'first' | 'key' | 'after' = 'value';
  for (;;) {
    take(SPACE);
    const close = open[open.length - 1];
    const next = text[at];
    if (state === 'after') {
      if (close === undefined) return { offset: at, expected: 'nothing more' };
      if (next === close) open.pop();
      else if (next === ',') state = close === '}' ? 'key' : 'value';
      else return { offset: at, expected: `"," or "${close}"` };
      at++;
    } else if (state === 'first' && next === close) {
      open.pop();
      at++;
      state = 'after';
    } else if (state === 'key' || (state === 'first' && close === '}')) {
      if (next !== '"') return { offset: at, expected: 'a key in double quotes' };
      const fault = string();
      if (fault) return fault;
      take(SPACE);
      if (text[at] !== ':') return { offset: at, expected: '":"' };
      at++;
      state = 'value';
    } else if (next === '{' || next === '[') {
      open.push(next === '{' ? '}' : ']');
      at++;
      state = 'first';
    } else {
      const fault = scalar(next);
      if (fault) return fault;
      state = 'after';
    }
  }

  function string(): JsonFault | undefined {
    at++;
    // one pattern for all of a text would remember each of its choices, which a long one has no room for
    while (take(CHARACTERS) || take(ESCAPE));
    if (text[at] !== '"') return { offset: at, expected: text[at] === '\\' ? 'a valid escape' : 'the closing double quote of a text' };
    at++;
    return undefined;
  }

  function scalar(next: string | undefined): JsonFault | undefined {
    if (next === '"') return string();
    const word = ['true', 'false', 'null'].find((name) => text.startsWith(name, at));
    if (word) at += word.length;
    else if (!take(NUMBER)) return { offset: at, expected: 'a value' };
    return undefined;
  }
}

/** A value in a message: as JSON, cut where that is long; never an error, whatever the value is. */
export function showValue(value: unknown): string {
  try {
    if (typeof value === 'bigint') return `${value}n`;
    // JSON writes null for NaN and infinity
    const shown = typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
    return shown.length > 200 ? `${shown.slice(0, 200)}...` : shown;
  } catch {
    // it contains itself, or is nested deeper than the stack
    return Array.isArray(value) ? 'a list that is endless or too deep' : 'a value that is endless or too deep';
  }
}

/** Whether lists and objects are nested more than so deep in a value of JSON. */
export function isDeeperThan(depth: number, value: unknown): boolean {
  const isNest = (entry: unknown): entry is object => typeof entry === 'object' && entry !== null;
  let level = [value].filter(isNest);
  for (let at = 0; at < depth && level.length > 0; at++) level = level.flatMap((nest) => Object.values(nest).filter(isNest));
  return level.length > 0;
}

/** A value in a message: what it is, and itself where it is short. */
export function describe(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'function') return 'a function';
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value);
  return `${typeof value === 'string' ? 'the text' : `the ${typeof value}`} ${shown.length > 40 ? `${shown.slice(0, 40)}...` : shown}`;
}
