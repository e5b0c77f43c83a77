/** The methods that texts, lists and objects have in a template: Python's, but those that would change a list or object. */
import { formatBraces, pad } from './format';
import { stripText, WHITE_SPACE } from './strip';
import { Callable, equals, Facade, iterate, kindOf, type Named, Namespace, sizeOf, tupleOf, type Value, View } from './values';

/** What a value has under a name, other than the fields of an object. */
export function attributeOf(value: Value, name: string): Value | undefined {
  if (value instanceof Namespace) return value.fields.get(name);
  if (value instanceof Facade) return value.attribute(name);
  if (typeof value === 'string') return bound(TEXT, value, name);
  if (Array.isArray(value)) return CHANGING_LISTS.has(name) ? forbidden(name) : bound(LIST, value, name);
  if (value instanceof Map) return CHANGING_OBJECTS.has(name) ? forbidden(name) : bound(OBJECT, value, name);
  return undefined;
}

type Method<T> = (value: T, args: readonly Value[], named: Named) => Value;
type Methods<T> = Readonly<Record<string, Method<T>>>;

function bound<T>(methods: Methods<T>, value: T, name: string): Callable | undefined {
  if (!Object.hasOwn(methods, name)) return undefined;
  return new Callable((args, named) => methods[name](value, args, named));
}

const CHANGING_LISTS = new Set(['append', 'clear', 'extend', 'insert', 'pop', 'remove', 'reverse', 'sort']);
const CHANGING_OBJECTS = new Set(['clear', 'pop', 'popitem', 'setdefault', 'update']);

/** transformers lets no template change what it is given. */
function forbidden(name: string): Callable {
  return new Callable(() => {
    throw new Error(`a template must not change lists and objects, as "${name}" does`);
  });
}

function textArgument(value: Value | undefined, method: string): string {
  if (typeof value === 'string') return value;
  throw new Error(`${method}() is given ${value === undefined ? 'nothing' : kindOf(value)}, but a text was expected`);
}

const strip =
  (side: 'l' | 'r' | ''): Method<string> =>
  (text, [characters = null]) =>
    characters === null ? stripText(text, side) : stripText(text, side, textArgument(characters, `${side}strip`));

const begins =
  (method: 'startsWith' | 'endsWith'): Method<string> =>
  (text, [parts]) =>
    (Array.isArray(parts) ? parts : [parts]).some((part) => text[method](textArgument(part, method.toLowerCase())));

const splits =
  (fromRight: boolean): Method<string> =>
  (text, args, named) => {
    const separator = args[0] ?? named.get('sep') ?? null;
    const most = Number(args[1] ?? named.get('maxsplit') ?? -1);
    const pieces = separator === null ? wordsOf(text, most, fromRight) : text.split(nonEmpty(separator));
    if (separator === null || most < 0 || pieces.length <= most + 1) return pieces;
    const kept = fromRight ? pieces.length - most : most;
    const [head, tail] = [pieces.slice(0, kept), pieces.slice(kept)];
    return fromRight ? [head.join(separator as string), ...tail] : [...head, tail.join(separator as string)];
  };

function nonEmpty(separator: Value): string {
  if (textArgument(separator, 'split') === '') throw new Error('split() is given an empty separator');
  return separator as string;
}

const WORD = new RegExp(`[^${WHITE_SPACE}]+`, 'g');

/** What is between white space; behind (or before) as many pieces as may be, the rest as it is. */
function wordsOf(text: string, most: number, fromRight: boolean): string[] {
  const found = [...text.matchAll(WORD)];
  const words = found.map(([word]) => word);
  if (most < 0 || words.length <= most) return words;
  if (!fromRight) return [...words.slice(0, most), text.slice(found[most].index)];
  const kept = found.length - most;
  return [text.slice(0, found[kept - 1].index + words[kept - 1].length), ...words.slice(kept)];
}

const partitions =
  (last: boolean): Method<string> =>
  (text, [separator]) => {
    const mark = nonEmpty(separator);
    const at = last ? text.lastIndexOf(mark) : text.indexOf(mark);
    if (at < 0) return tupleOf(last ? ['', '', text] : [text, '', '']);
    return tupleOf([text.slice(0, at), mark, text.slice(at + mark.length)]);
  };

/** Places are counted in characters. */
const finds =
  (last: boolean, needed: boolean): Method<string> =>
  (text, [part, start, end]) => {
    const letters = [...text];
    const from = place(start, 0, letters.length);
    const within = letters.slice(from, place(end, letters.length, letters.length)).join('');
    const at = last ? within.lastIndexOf(textArgument(part, 'find')) : within.indexOf(textArgument(part, 'find'));
    if (at < 0 && needed) throw new Error(`index() does not find ${JSON.stringify(part)}`);
    return at < 0 ? -1 : from + sizeOf(within.slice(0, at));
  };

function place(given: Value | undefined, missing: number, length: number): number {
  if (typeof given !== 'number') return missing;
  return Math.max(0, given < 0 ? given + length : given);
}

/** As the filter of this name does. @param count at most as many; all where it is below 0 */
export function replaceText(text: string, old: string, by: string, count: number): string {
  if (count < 0) return old === '' ? ['', ...text, ''].join(by) : text.replaceAll(old, () => by);
  const pieces = old === '' ? ['', ...text, ''] : text.split(old);
  const kept = Math.min(count, pieces.length - 1);
  return [...pieces.slice(0, kept), pieces.slice(kept).join(old)].join(by);
}

/** The first letter large, the others small. */
export function capitalize(text: string): string {
  const [first = '', ...others] = text;
  return first.toUpperCase() + others.join('').toLowerCase();
}

const LINE_END = '\n\r\v\f\u001c\u001d\u001e\u0085\u2028\u2029';
const LINE = new RegExp(`[^${LINE_END}]*(?:\\r\\n|[${LINE_END}])|[^${LINE_END}]+$`, 'g');
const AT_END = new RegExp(`(?:\\r\\n|[${LINE_END}])$`);

/** Python's `splitlines`. */
export function linesOf(text: string, keepEnds = false): string[] {
  const lines = text.match(LINE) ?? [];
  return keepEnds ? lines : lines.map((line) => line.replace(AT_END, ''));
}

const every =
  (pattern: RegExp): Method<string> =>
  (text) =>
    pattern.test(text);

const pads =
  (side: string): Method<string> =>
  (text, [width, fill = ' ']) =>
    pad(text, Number(width), side, textArgument(fill, 'just'));

const TEXT: Methods<string> = {
  upper: (text) => text.toUpperCase(),
  lower: (text) => text.toLowerCase(),
  casefold: (text) => text.toLowerCase(),
  capitalize,
  title: (text) => text.replace(/\p{L}+/gu, capitalize),
  swapcase: (text) => [...text].map((letter) => (letter === letter.toUpperCase() ? letter.toLowerCase() : letter.toUpperCase())).join(''),
  strip: strip(''),
  lstrip: strip('l'),
  rstrip: strip('r'),
  startswith: begins('startsWith'),
  endswith: begins('endsWith'),
  split: splits(false),
  rsplit: splits(true),
  splitlines: (text, [keep = false]) => linesOf(text, keep === true),
  partition: partitions(false),
  rpartition: partitions(true),
  replace: (text, [old, by, count], named) =>
    replaceText(text, textArgument(old, 'replace'), textArgument(by, 'replace'), Number(count ?? named.get('count') ?? -1)),
  join: (text, [list]) => Array.from(iterate(list), (item) => textArgument(item, 'join')).join(text),
  find: finds(false, false),
  rfind: finds(true, false),
  index: finds(false, true),
  rindex: finds(true, true),
  count: (text, [part]) => text.split(textArgument(part, 'count')).length - 1,
  format: (text, args, named) => formatBraces(text, args, named),
  removeprefix: (text, [part]) => (text.startsWith(textArgument(part, 'removeprefix')) ? text.slice(textArgument(part, '').length) : text),
  removesuffix: (text, [part]) =>
    part !== '' && text.endsWith(textArgument(part, 'removesuffix')) ? text.slice(0, -textArgument(part, '').length) : text,
  isdigit: every(/^\p{Nd}+$/u),
  isdecimal: every(/^\p{Nd}+$/u),
  isnumeric: every(/^\p{N}+$/u),
  isalpha: every(/^\p{L}+$/u),
  isalnum: every(/^[\p{L}\p{N}]+$/u),
  isspace: (text) => text !== '' && stripText(text) === '',
  isupper: (text) => text !== text.toLowerCase() && text === text.toUpperCase(),
  islower: (text) => text !== text.toUpperCase() && text === text.toLowerCase(),
  ljust: pads('<'),
  rjust: pads('>'),
  center: pads('^'),
  zfill: (text, [width]) => {
    const sign = /^[+-]/.exec(text)?.[0] ?? '';
    return sign + pad(text.slice(sign.length), Number(width) - sign.length, '>', '0');
  },
};

const LIST: Methods<readonly Value[]> = {
  index: (list, [item]) => {
    const at = list.findIndex((one) => equals(one, item));
    if (at < 0) throw new Error('index() does not find the value in the list');
    return at;
  },
  count: (list, [item]) => list.filter((one) => equals(one, item)).length,
  copy: (list) => [...list],
};

const OBJECT: Methods<Map<Value, Value>> = {
  get: (object, [key, otherwise = null]) => object.get(key) ?? (object.has(key) ? null : otherwise),
  keys: (object) => new View('keys', [...object.keys()]),
  values: (object) => new View('values', [...object.values()]),
  items: (object) => new View('items', pairsOf(object)),
  copy: (object) => new Map(object),
};

/** Names and values of an object. */
export function pairsOf(object: ReadonlyMap<Value, Value>): Value[] {
  return Array.from(object, (pair) => tupleOf(pair));
}
