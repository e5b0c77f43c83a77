/** What can be asked of a value: `value is defined`. */
import { Callable, compare, contains, equals, Float, Iteration, kindOf, numberOf, Undefined, type Value, View } from './values';

type Test = (value: Value, ...args: readonly Value[]) => boolean;

const isWhole = (value: Value): boolean => typeof value === 'number';

function remainder(value: Value, by: Value): number {
  const [a, b] = [numberOf(value), numberOf(by)];
  if (a === undefined || b === undefined) throw new Error(`${kindOf(a === undefined ? value : by)} cannot be divided`);
  return a % b;
}

const isEqual: Test = (value, other) => equals(value, other);
const isOther: Test = (value, other) => !equals(value, other);
const isLess: Test = (value, other) => compare(value, other) < 0;
const isMore: Test = (value, other) => compare(value, other) > 0;
const isAtMost: Test = (value, other) => compare(value, other) <= 0;
const isAtLeast: Test = (value, other) => compare(value, other) >= 0;

const TESTS: Readonly<Record<string, Test>> = {
  boolean: (value) => typeof value === 'boolean',
  callable: (value) => value instanceof Callable,
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  divisibleby: (value, by) => remainder(value, by) === 0,
  even: (value) => remainder(value, 2) === 0,
  odd: (value) => Math.abs(remainder(value, 2)) === 1,
  true: (value) => value === true,
  false: (value) => value === false,
  none: (value) => value === null,
  string: (value) => typeof value === 'string',
  number: (value) => numberOf(value) !== undefined,
  integer: isWhole,
  float: (value) => value instanceof Float,
  mapping: (value) => value instanceof Map,
  sequence: (value) => typeof value === 'string' || Array.isArray(value) || value instanceof Map || value instanceof Undefined,
  iterable: (value) =>
    typeof value === 'string' ||
    Array.isArray(value) ||
    [Map, View, Iteration, Undefined].some((kind) => (value as object | null) instanceof kind),
  lower: (value) => typeof value === 'string' && value !== value.toUpperCase() && value === value.toLowerCase(),
  upper: (value) => typeof value === 'string' && value !== value.toLowerCase() && value === value.toUpperCase(),
  escaped: () => false,
  in: (value, whole) => contains(whole, value),
  sameas: (value, other) => value === other,
  eq: isEqual,
  equalto: isEqual,
  '==': isEqual,
  ne: isOther,
  '!=': isOther,
  lt: isLess,
  lessthan: isLess,
  '<': isLess,
  gt: isMore,
  greaterthan: isMore,
  '>': isMore,
  le: isAtMost,
  '<=': isAtMost,
  ge: isAtLeast,
  '>=': isAtLeast,
};

/** @throws Error where there is no such test */
export function testOf(name: string): Test {
  if (Object.hasOwn(TESTS, name)) return TESTS[name];
  throw new Error(`there is no test ${JSON.stringify(name)}`);
}
