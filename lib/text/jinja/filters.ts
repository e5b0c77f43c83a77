/** What can be made of a value: `value | upper`. */
import { formatPercent } from './format';
import { capitalize, linesOf, pairsOf, replaceText } from './methods';
import { item } from './operators';
import { stripText } from './strip';
import { testOf } from './tests';
import {
  compare,
  contains,
  Float,
  Iteration,
  isTrue,
  iterate,
  kindOf,
  type Named,
  numberOf,
  sizeOf,
  tupleOf,
  Undefined,
  type Value,
} from './values';
import { textOf, toJson } from './write';

type Filter = (value: Value, args: readonly Value[], named: Named) => Value;

/** @throws Error where there is no such filter */
export function filterOf(name: string): Filter {
  if (Object.hasOwn(FILTERS, name)) return FILTERS[name];
  throw new Error(`there is no filter ${JSON.stringify(name)}`);
}

/** Arguments by their places or names. */
function settle(args: readonly Value[], named: Named, names: readonly string[]): Array<Value | undefined> {
  return names.map((name, index) => (args[index] === undefined ? named.get(name) : args[index]));
}

/** `attribute='a.b'`, or a place: what to look at in the place of a value itself. */
function getter(path: Value | undefined, otherwise?: Value): (value: Value) => Value {
  if (path === undefined || path === null) return (value) => value;
  const parts = typeof path === 'string' ? path.split('.').map((part) => (/^\d+$/.test(part) ? Number(part) : part)) : [path];
  return (value) => {
    const found = parts.reduce((inner: Value, part) => item(inner, part), value);
    return found instanceof Undefined && otherwise !== undefined ? otherwise : found;
  };
}

const folded = (value: Value): Value => (typeof value === 'string' ? value.toLowerCase() : value);

function select(keeps: boolean, byAttribute: boolean): Filter {
  return (value, args) => {
    const get = byAttribute ? getter(args[0]) : (item: Value): Value => item;
    const [name, ...others] = args.slice(byAttribute ? 1 : 0);
    const test = name === undefined ? isTrue : testOf(textOf(name));
    return new Iteration(filtered(listOf(value), (item) => test(get(item), ...others) === keeps));
  };
}

/** Where there is nothing, nothing is gone through: none is no list to `for`, but to these filters. */
function listOf(value: Value): Value {
  return isTrue(value) ? value : [];
}

/** Goes through the values when they are asked for, as Jinja2 does: nothing is wrong with values that nobody looks at. */
function* filtered(value: Value, keep: (item: Value) => boolean): Generator<Value, void, void> {
  for (const item of iterate(value)) if (keep(item)) yield item;
}

function* mapped(value: Value, convert: (item: Value) => Value): Generator<Value, void, void> {
  for (const item of iterate(value)) yield convert(item);
}

function map(value: Value, args: readonly Value[], named: Named): Value {
  const [name, ...others] = args;
  if (name === undefined) return new Iteration(mapped(listOf(value), getter(named.get('attribute'), named.get('default'))));
  const filter = filterOf(textOf(name));
  return new Iteration(mapped(listOf(value), (item) => filter(item, others, named)));
}

function sorted(items: Value[], key: (value: Value) => Value, reverse: boolean): Value[] {
  const order = items.map((item): [Value, Value] => [key(item), item]).sort(([a], [b]) => (reverse ? compare(b, a) : compare(a, b)));
  return order.map(([, item]) => item);
}

function sort(value: Value, args: readonly Value[], named: Named): Value {
  const [reverse = false, sensitive = false, path] = settle(args, named, ['reverse', 'case_sensitive', 'attribute']);
  const get = getter(path);
  return sorted([...iterate(value)], (item) => (isTrue(sensitive) ? get(item) : folded(get(item))), isTrue(reverse));
}

function dictsort(value: Value, args: readonly Value[], named: Named): Value {
  const [sensitive = false, by = 'key', reverse = false] = settle(args, named, ['case_sensitive', 'by', 'reverse']);
  const get = getter(by === 'value' ? 1 : 0);
  return sorted(pairsOf(objectOf(value, 'dictsort')), (pair) => (isTrue(sensitive) ? get(pair) : folded(get(pair))), isTrue(reverse));
}

function objectOf(value: Value, filter: string): Map<Value, Value> {
  if (value instanceof Map) return value;
  throw new Error(`${filter} is given ${kindOf(value)}, but an object was expected`);
}

function unique(value: Value, args: readonly Value[], named: Named): Value {
  const [sensitive = false, path] = settle(args, named, ['case_sensitive', 'attribute']);
  const get = getter(path);
  const seen: Value[] = [];
  return new Iteration(
    filtered(value, (item) => {
      const key = isTrue(sensitive) ? get(item) : folded(get(item));
      const isNew = !contains(seen, key);
      if (isNew) seen.push(key);
      return isNew;
    }),
  );
}

function extreme(sign: 1 | -1): Filter {
  return (value, args, named) => {
    const [sensitive = false, path] = settle(args, named, ['case_sensitive', 'attribute']);
    const get = getter(path);
    const key = (item: Value): Value => (isTrue(sensitive) ? get(item) : folded(get(item)));
    const items = [...iterate(value)];
    if (items.length === 0) return new Undefined('an empty list has no first or last in order');
    return items.reduce((best, item) => (compare(key(item), key(best)) * sign > 0 ? item : best));
  };
}

function join(value: Value, args: readonly Value[], named: Named): Value {
  const [separator = '', path] = settle(args, named, ['d', 'attribute']);
  return Array.from(iterate(value), getter(path)).map(textOf).join(textOf(separator));
}

function indent(value: Value, args: readonly Value[], named: Named): Value {
  const [width = 4, first = false, blank = false] = settle(args, named, ['width', 'first', 'blank']);
  const space = typeof width === 'string' ? width : ' '.repeat(Number(width));
  const [head = '', ...lines] = linesOf(`${textOf(value)}\n`);
  const rest = lines.map((line) => `\n${line !== '' || isTrue(blank) ? space : ''}${line}`);
  return (isTrue(first) ? space : '') + head + rest.join('');
}

function tojson(value: Value, args: readonly Value[], named: Named): Value {
  const [ensureAscii = false, width = null, separators = null, sortKeys = false] = settle(args, named, [
    'ensure_ascii',
    'indent',
    'separators',
    'sort_keys',
  ]);
  const indent = width === null ? undefined : typeof width === 'string' ? width : ' '.repeat(Math.max(0, numberOf(width) ?? 0));
  const [comma, colon] = separators === null ? [indent === undefined ? ', ' : ',', ': '] : Array.from(iterate(separators), textOf);
  return toJson(value, { ensureAscii: isTrue(ensureAscii), sortKeys: isTrue(sortKeys), indent, separators: [comma, colon] });
}

function integer(value: Value, args: readonly Value[], named: Named): Value {
  const [otherwise = 0, base = 10] = settle(args, named, ['default', 'base']);
  const number = numberOf(value);
  if (number !== undefined) return Number.isFinite(number) ? Math.trunc(number) : otherwise;
  const text = typeof value === 'string' ? stripText(value).replaceAll('_', '') : '';
  if (base !== 10) return Number.isNaN(Number.parseInt(text, Number(base))) ? otherwise : Number.parseInt(text, Number(base));
  return FLOAT.test(text) ? Math.trunc(Number(text)) : otherwise;
}

const FLOAT = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;

function float(value: Value, args: readonly Value[], named: Named): Value {
  const number = numberOf(value);
  if (number !== undefined) return new Float(number);
  const text = typeof value === 'string' ? stripText(value) : '';
  const [otherwise = new Float(0)] = settle(args, named, ['default']);
  return FLOAT.test(text) ? new Float(Number(text)) : otherwise;
}

function round(value: Value, args: readonly Value[], named: Named): Value {
  const [precision = 0, method = 'common'] = settle(args, named, ['precision', 'method']);
  const number = numberOf(value);
  if (number === undefined) throw new Error(`round is given ${kindOf(value)}`);
  const scale = 10 ** Number(precision);
  const scaled = number * scale;
  const nearest = Math.abs(scaled % 1) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  return new Float((method === 'ceil' ? Math.ceil(scaled) : method === 'floor' ? Math.floor(scaled) : nearest) / scale);
}

function sum(value: Value, args: readonly Value[], named: Named): Value {
  const [path, start = 0] = settle(args, named, ['attribute', 'start']);
  const items = Array.from(iterate(value), getter(path));
  const total = items.reduce((all: number, one) => all + (numberOf(one) ?? Number.NaN), numberOf(start) ?? 0);
  if (Number.isNaN(total)) throw new Error('sum is given something else than numbers');
  return items.some((one) => one instanceof Float) ? new Float(total) : total;
}

const length: Filter = (value) => sizeOf(value);

function last(value: Value): Value {
  if (value instanceof Iteration) throw new Error('last looks at the end of what is not a list yet');
  const items = [...iterate(value)];
  return items.length > 0 ? items[items.length - 1] : new Undefined('an empty list has no last value');
}

function first(value: Value): Value {
  for (const item of iterate(value)) return item;
  return new Undefined('an empty list has no first value');
}

const otherwise: Filter = (value, args, named) => {
  const [by = '', boolean = false] = settle(args, named, ['default_value', 'boolean']);
  return value instanceof Undefined || (isTrue(boolean) && !isTrue(value)) ? by : value;
};

const FILTERS: Readonly<Record<string, Filter>> = {
  abs: (value) => {
    const number = numberOf(value);
    if (number === undefined) throw new Error(`abs is given ${kindOf(value)}`);
    return value instanceof Float ? new Float(Math.abs(number)) : Math.abs(number);
  },
  capitalize: (value) => capitalize(textOf(value)),
  count: length,
  d: otherwise,
  default: otherwise,
  dictsort,
  first,
  float,
  format: (value, args, named) => formatPercent(textOf(value), named.size > 0 ? new Map(named) : tupleOf([...args])),
  indent,
  int: integer,
  items: (value) => new Iteration((value instanceof Undefined ? [] : pairsOf(objectOf(value, 'items')))[Symbol.iterator]()),
  join,
  last,
  length,
  list: (value) => [...iterate(value)],
  lower: (value) => textOf(value).toLowerCase(),
  map,
  max: extreme(1),
  min: extreme(-1),
  reject: select(false, false),
  rejectattr: select(false, true),
  replace: (value, args, named) => {
    const [old = '', by = '', count = null] = settle(args, named, ['old', 'new', 'count']);
    return replaceText(textOf(value), textOf(old), textOf(by), count === null ? -1 : Number(count));
  },
  reverse: (value) => {
    const items = [...iterate(value)].reverse();
    return typeof value === 'string' ? items.join('') : new Iteration(items[Symbol.iterator]());
  },
  round,
  safe: (value) => textOf(value),
  select: select(true, false),
  selectattr: select(true, true),
  sort,
  string: (value) => textOf(value),
  sum,
  title: (value) => textOf(value).replace(/[^-\s({[<]+/g, capitalize),
  tojson,
  trim: (value, args, named) => {
    const [characters = null] = settle(args, named, ['chars']);
    return characters === null ? stripText(textOf(value)) : stripText(textOf(value), '', textOf(characters));
  },
  unique,
  upper: (value) => textOf(value).toUpperCase(),
};
