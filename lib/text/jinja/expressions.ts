/** The expressions of a template: from tokens to functions that compute a value. */
import { filterOf } from './filters';
import { attribute, calculate, item, type Operator, slice } from './operators';
import type { Expression, Scope } from './scope';
import { testOf } from './tests';
import type { TokenReader } from './tokens';
import {
  Callable,
  compare,
  contains,
  equals,
  Float,
  isTrue,
  iterate,
  kindOf,
  type Named,
  numberOf,
  tupleOf,
  Undefined,
  type Value,
} from './values';
import { textOf } from './write';

/** Values of a call, once its names are known. */
export type Arguments = (scope: Scope) => readonly [args: Value[], named: Named];

const NO_ELSE = new Undefined('a condition without "else" does not hold');

/** `a if b else c`, and all that binds closer. */
export function readExpression(tokens: TokenReader): Expression {
  let value = readOr(tokens);
  while (tokens.skip('if')) {
    const [then, condition] = [value, readOr(tokens)];
    const otherwise: Expression = tokens.skip('else') ? readExpression(tokens) : () => NO_ELSE;
    value = (scope) => (isTrue(condition(scope)) ? then(scope) : otherwise(scope));
  }
  return value;
}

/** `a, b`, or a single value. @param read how one of them is read */
export function readList(tokens: TokenReader, read: (tokens: TokenReader) => Expression = readExpression): Expression {
  const first = read(tokens);
  if (!tokens.is(',')) return first;
  const items = [first];
  while (tokens.skip(',') && !endsList(tokens)) items.push(read(tokens));
  return tuple(items);
}

function endsList(tokens: TokenReader): boolean {
  return tokens.isAny([')', ']', '=', 'recursive']) || ['%}', '}}', 'end'].includes(tokens.current.kind);
}

function tuple(items: readonly Expression[]): Expression {
  return (scope) => tupleOf(items.map((one) => one(scope)));
}

/** As far as `or`: what is gone through in `for x in xs if ...` ends before the `if`. */
export function readOr(tokens: TokenReader): Expression {
  let left = readAnd(tokens);
  while (tokens.skip('or')) {
    const [one, other] = [left, readAnd(tokens)];
    left = (scope) => {
      const value = one(scope);
      return isTrue(value) ? value : other(scope);
    };
  }
  return left;
}

function readAnd(tokens: TokenReader): Expression {
  let left = readNot(tokens);
  while (tokens.skip('and')) {
    const [one, other] = [left, readNot(tokens)];
    left = (scope) => {
      const value = one(scope);
      return isTrue(value) ? other(scope) : value;
    };
  }
  return left;
}

function readNot(tokens: TokenReader): Expression {
  if (!tokens.skip('not')) return readComparison(tokens);
  const value = readNot(tokens);
  return (scope) => !isTrue(value(scope));
}

type Comparison = (left: Value, right: Value) => boolean;

const COMPARISONS: Readonly<Record<string, Comparison>> = {
  '==': equals,
  '!=': (left, right) => !equals(left, right),
  '<': (left, right) => compare(left, right) < 0,
  '<=': (left, right) => compare(left, right) <= 0,
  '>': (left, right) => compare(left, right) > 0,
  '>=': (left, right) => compare(left, right) >= 0,
  in: (left, right) => contains(right, left),
};

function readComparison(tokens: TokenReader): Expression {
  const first = readSum(tokens);
  const others: Array<readonly [Comparison, Expression]> = [];
  for (;;) {
    const holds = takeComparison(tokens);
    if (!holds) break;
    others.push([holds, readSum(tokens)]);
  }
  if (others.length === 0) return first;
  return (scope) => {
    let left = first(scope);
    for (const [holds, next] of others) {
      const right = next(scope);
      if (!holds(left, right)) return false;
      left = right;
    }
    return true;
  };
}

function takeComparison(tokens: TokenReader): Comparison | undefined {
  if (tokens.is('not') && tokens.is('in', tokens.next)) {
    tokens.take();
    tokens.take();
    return (left, right) => !contains(right, left);
  }
  const { kind, text } = tokens.current;
  if (kind === 'string' || !Object.hasOwn(COMPARISONS, text)) return undefined;
  tokens.take();
  return COMPARISONS[text];
}

/** Operators of one rank, from the left. */
const ranked =
  (operators: readonly Operator[], read: (tokens: TokenReader) => Expression) =>
  (tokens: TokenReader): Expression => {
    let left = read(tokens);
    while (tokens.current.kind === 'operator' && tokens.isAny(operators)) {
      const operator = tokens.take().text as Operator;
      const [one, other] = [left, read(tokens)];
      left = (scope) => calculate(operator, one(scope), other(scope));
    }
    return left;
  };

const readPower = ranked(['**'], (tokens) => readSigned(tokens, true));
const readProduct = ranked(['*', '/', '//', '%'], readPower);
const readSum = ranked(['+', '-'], readJoined);

/** `a ~ b`: as texts. */
function readJoined(tokens: TokenReader): Expression {
  const first = readProduct(tokens);
  if (!tokens.is('~')) return first;
  const parts = [first];
  while (tokens.skip('~')) parts.push(readProduct(tokens));
  return (scope) => parts.map((part) => textOf(part(scope))).join('');
}

function readSigned(tokens: TokenReader, withFilters: boolean): Expression {
  const sign = tokens.isAny(['-', '+']) ? tokens.take().text : undefined;
  const value = readBehind(tokens, sign === undefined ? readPrimary(tokens) : signed(sign, readSigned(tokens, false)));
  return withFilters ? readFilters(tokens, value) : value;
}

function signed(sign: string, value: Expression): Expression {
  return (scope) => {
    const given = value(scope);
    const number = numberOf(given);
    if (number === undefined) throw new Error(`"${sign}" stands before ${kindOf(given)}`);
    const result = sign === '-' ? -number : number;
    return given instanceof Float ? new Float(result) : result;
  };
}

const CONSTANTS: ReadonlyMap<string, Value> = new Map<string, Value>(
  [true, false].flatMap(
    (value): Array<[string, Value]> => [
      [String(value), value],
      [value ? 'True' : 'False', value],
    ],
  ),
)
  .set('none', null)
  .set('None', null);

function readPrimary(tokens: TokenReader): Expression {
  const { kind, text } = tokens.current;
  if (kind === 'name') {
    tokens.take();
    const constant = CONSTANTS.get(text);
    return constant === undefined ? (scope) => scope.get(text) : () => constant;
  }
  if (kind === 'string') return readString(tokens);
  if (kind === 'number') {
    tokens.take();
    const value = /^0[xbo]/i.test(text) || /^\d+$/.test(text) ? Number(text) : new Float(Number(text));
    return () => value;
  }
  if (tokens.skip('(')) return readParentheses(tokens);
  if (tokens.skip('[')) {
    const items = readItems(tokens, ']', readExpression);
    return (scope) => items.map((one) => one(scope));
  }
  if (tokens.skip('{')) {
    const fields = readItems(tokens, '}', readField);
    return (scope) => new Map(fields.map((field) => field(scope)));
  }
  throw tokens.wrong('a value');
}

/** Strings in a row are one. */
function readString(tokens: TokenReader): Expression {
  let text = '';
  while (tokens.current.kind === 'string') text += tokens.take().text;
  return () => text;
}

function readParentheses(tokens: TokenReader): Expression {
  const value = tokens.is(')') ? tuple([]) : readList(tokens);
  tokens.expect(')');
  return value;
}

function readItems<T>(tokens: TokenReader, close: string, read: (tokens: TokenReader) => T): T[] {
  const items: T[] = [];
  while (!tokens.is(close)) {
    if (items.length > 0) tokens.expect(',');
    if (!tokens.is(close)) items.push(read(tokens));
  }
  tokens.expect(close);
  return items;
}

function readField(tokens: TokenReader): (scope: Scope) => [Value, Value] {
  const key = readExpression(tokens);
  tokens.expect(':');
  const value = readExpression(tokens);
  return (scope) => [key(scope), value(scope)];
}

/** What follows a value: `.name`, `[key]`, `(arguments)`. */
function readBehind(tokens: TokenReader, start: Expression): Expression {
  let value = start;
  for (;;) {
    const of = value;
    if (tokens.skip('.')) {
      const { kind, text } = tokens.take();
      if (kind !== 'name' && kind !== 'number') throw tokens.wrong('a name');
      value = kind === 'name' ? (scope) => attribute(of(scope), text) : (scope) => item(of(scope), Number(text));
    } else if (tokens.skip('[')) value = readSubscript(tokens, of);
    else if (tokens.is('(')) value = readCall(tokens, of);
    else return value;
  }
}

function readSubscript(tokens: TokenReader, of: Expression): Expression {
  const none: Expression = () => null;
  const places: Expression[] = [];
  let isSlice = false;
  while (!tokens.is(']')) {
    if (tokens.skip(':')) {
      isSlice = true;
      if (places.length === 0) places.push(none);
      if (tokens.isAny([':', ']'])) places.push(none);
    } else places.push(isSlice ? readExpression(tokens) : readList(tokens));
  }
  tokens.expect(']');
  const [start, stop = none, step = none] = places;
  return isSlice ? (scope) => slice(of(scope), start(scope), stop(scope), step(scope)) : (scope) => item(of(scope), start(scope));
}

/** A call of what a value is. */
function readCall(tokens: TokenReader, of: Expression): Expression {
  const given = readArguments(tokens);
  return (scope) => callValue(of(scope), given(scope));
}

/** @throws Error where it is no function */
export function callValue(callee: Value, [args, named]: readonly [Value[], Named]): Value {
  if (callee instanceof Undefined) throw new Error(callee.why);
  if (!(callee instanceof Callable)) throw new Error(`${kindOf(callee)} is called as a function`);
  return callee.call(args, named);
}

type Argument = (scope: Scope, args: Value[], named: Map<string, Value>) => void;

/** `(a, b=c, *d, **e)`. */
export function readArguments(tokens: TokenReader): Arguments {
  tokens.expect('(');
  const items = readItems(tokens, ')', readArgument);
  return (scope) => {
    const [args, named] = [[] as Value[], new Map<string, Value>()];
    for (const add of items) add(scope, args, named);
    return [args, named];
  };
}

function readArgument(tokens: TokenReader): Argument {
  if (tokens.skip('*')) {
    const list = readExpression(tokens);
    return (scope, args) => void args.push(...iterate(list(scope)));
  }
  if (tokens.skip('**')) {
    const fields = readExpression(tokens);
    return (scope, _, named) => {
      const value = fields(scope);
      if (!(value instanceof Map)) throw new Error(`"**" stands before ${kindOf(value)}`);
      for (const [key, one] of value) named.set(textOf(key), one);
    };
  }
  if (tokens.current.kind === 'name' && tokens.is('=', tokens.next)) {
    const name = tokens.take().text;
    tokens.take();
    const value = readExpression(tokens);
    return (scope, _, named) => void named.set(name, value(scope));
  }
  const value = readExpression(tokens);
  return (scope, args) => void args.push(value(scope));
}

const NO_ARGUMENTS: Arguments = () => [[], new Map()];

/** `value | filter`, `value is test`, and calls of what comes out. */
function readFilters(tokens: TokenReader, start: Expression): Expression {
  let value = start;
  for (;;) {
    const of = value;
    if (tokens.skip('|')) value = readFilter(tokens, of);
    else if (tokens.skip('is')) value = readTest(tokens, of);
    else if (tokens.is('(')) value = readCall(tokens, of);
    else return value;
  }
}

function readDottedName(tokens: TokenReader): string {
  let name = tokens.expectKind('name').text;
  while (tokens.skip('.')) name += `.${tokens.expectKind('name').text}`;
  return name;
}

/** A filter behind its "|". */
export function readFilter(tokens: TokenReader, of: Expression): Expression {
  const name = readDottedName(tokens);
  const given = tokens.is('(') ? readArguments(tokens) : NO_ARGUMENTS;
  return (scope) => filterOf(name)(of(scope), ...given(scope));
}

/** A test behind its "is". */
function readTest(tokens: TokenReader, of: Expression): Expression {
  const negated = tokens.skip('not');
  const name = readDottedName(tokens);
  const given = tokens.is('(') ? readArguments(tokens) : readTestArgument(tokens);
  return (scope) => testOf(name)(of(scope), ...given(scope)[0]) !== negated;
}

/** `is divisibleby 2`: a single argument may stand without parentheses. */
function readTestArgument(tokens: TokenReader): Arguments {
  const { kind } = tokens.current;
  const begins = kind === 'string' || kind === 'number' || kind === 'name' || tokens.isAny(['[', '{']);
  if (!begins || tokens.isAny(['else', 'or', 'and', 'if', 'is', 'in', 'not', 'recursive'])) return NO_ARGUMENTS;
  const value = readBehind(tokens, readPrimary(tokens));
  return (scope) => [[value(scope)], new Map()];
}
