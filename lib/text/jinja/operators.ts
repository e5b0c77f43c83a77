/** What `+`, `*`, `.` and `[]` do with the values of a template. */

import { formatPercent } from './format';
import { attributeOf } from './methods';
import { Facade, Float, isTuple, iterate, kindOf, Namespace, numberOf, tupleOf, Undefined, type Value } from './values';

export type Operator = '+' | '-' | '*' | '/' | '//' | '%' | '**';

/** @throws Error for values that it is not made for */
export function calculate(operator: Operator, left: Value, right: Value): Value {
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== undefined && b !== undefined) {
    const result = ofNumbers(operator, a, b);
    return operator === '/' || left instanceof Float || right instanceof Float || !Number.isInteger(result) ? new Float(result) : result;
  }
  if (operator === '+' && typeof left === 'string' && typeof right === 'string') return left + right;
  if (operator === '+' && Array.isArray(left) && Array.isArray(right) && isTuple(left) === isTuple(right))
    return alike(left, left.concat(right));
  if (operator === '%' && typeof left === 'string') return formatPercent(left, right);
  if (operator === '*' && b !== undefined) return repeated(left, b);
  if (operator === '*' && a !== undefined) return repeated(right, a);
  throw new Error(`"${operator}" stands between ${kindOf(left)} and ${kindOf(right)}`);
}

function ofNumbers(operator: Operator, a: number, b: number): number {
  if (b === 0 && (operator === '/' || operator === '//' || operator === '%')) throw new Error('a number is divided by zero');
  switch (operator) {
    case '+':
      return a + b;
    case '-':
      return a - b;
    case '*':
      return a * b;
    case '/':
      return a / b;
    case '//':
      return Math.floor(a / b);
    case '%':
      return a - b * Math.floor(a / b);
    case '**':
      return a ** b;
  }
}

function repeated(value: Value, times: number): Value {
  const count = Math.max(0, times);
  if (typeof value === 'string') return value.repeat(count);
  if (Array.isArray(value)) return alike(value, Array.from({ length: count }, () => value).flat(1));
  throw new Error(`"*" stands between ${kindOf(value)} and a number`);
}

/** A tuple where the first is one, else a list. */
const alike = (first: Value, items: Value[]): Value[] => (isTuple(first) ? tupleOf(items) : items);

/** `value.name`: a method before a field of this name, as in Jinja2. @throws Error where there is no value */
export function attribute(value: Value, name: string): Value {
  if (value instanceof Undefined) throw new Error(value.why);
  const method = attributeOf(value, name);
  if (method !== undefined) return method;
  const field = value instanceof Map ? value.get(name) : undefined;
  return field === undefined ? nothing(value, name) : field;
}

/** `value[key]`: a field before a method. @throws Error where there is no value */
export function item(value: Value, key: Value): Value {
  if (value instanceof Undefined) throw new Error(value.why);
  const found = value instanceof Map ? value.get(key) : elementOf(value, key);
  if (found !== undefined) return found;
  return (typeof key === 'string' ? attributeOf(value, key) : undefined) ?? nothing(value, key);
}

function elementOf(value: Value, key: Value): Value | undefined {
  const index = typeof key === 'boolean' ? Number(key) : key;
  if (typeof index !== 'number' || !(typeof value === 'string' || Array.isArray(value))) return undefined;
  if (Array.isArray(value)) return value.at(index);
  return [...value].at(index);
}

function nothing(value: Value, key: Value): Undefined {
  const what = value instanceof Namespace || value instanceof Facade ? 'it' : kindOf(value);
  return new Undefined(
    `${what} has no ${typeof key === 'string' ? JSON.stringify(key) : typeof key === 'number' ? `element ${key}` : 'such element'}`,
  );
}

/** `value[start:stop:step]`. @throws Error where it is neither a text nor a list */
export function slice(value: Value, start: Value, stop: Value, step: Value): Value {
  if (value instanceof Undefined) throw new Error(value.why);
  if (typeof value !== 'string' && !Array.isArray(value)) throw new Error(`${kindOf(value)} has no parts from one place to another`);
  const items = typeof value === 'string' ? [...value] : value;
  const stride = bound(step) ?? 1;
  if (stride === 0) throw new Error('a list is gone through by steps of 0');
  const [low, high] = stride > 0 ? [0, items.length] : [-1, items.length - 1];
  const at = (place: Value, missing: number): number => {
    const index = bound(place);
    return index === undefined ? missing : Math.min(Math.max(index < 0 ? index + items.length : index, low), high);
  };
  const [from, to] = [at(start, stride > 0 ? low : high), at(stop, stride > 0 ? high : low)];
  const taken: Value[] = [];
  for (let index = from; stride > 0 ? index < to : index > to; index += stride) taken.push(items[index]);
  return typeof value === 'string' ? taken.join('') : alike(value, taken);
}

function bound(place: Value): number | undefined {
  if (place === null) return undefined;
  if (typeof place === 'number' || typeof place === 'boolean') return Number(place);
  throw new Error(`a list is cut at ${kindOf(place)}`);
}

/** The values for some names: `a, b`. @throws Error where there are more or fewer */
export function unpack(value: Value, count: number): Value[] {
  const items = [...iterate(value)];
  if (items.length === count) return items;
  throw new Error(`${items.length} values are there for ${count} names`);
}
