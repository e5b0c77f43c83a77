/** The values that a chat template computes with, which are Python's: what is true, what is equal, what can be gone through. */

/** A number with a decimal point, also where nothing is behind it: 2.0. Whole numbers are plain numbers. */
export class Float {
  constructor(readonly value: number) {}
}

/** What there is not; it may be asked about and written, as nothing, but not be looked into. */
export class Undefined {
  /** @param why such as `'tools' is undefined` */
  constructor(readonly why: string) {}
}

/** Lists that were written as `(a, b)`, which differ in how Python writes them. */
const TUPLES = new WeakSet<readonly Value[]>();

export function tupleOf(items: Value[]): Value[] {
  TUPLES.add(items);
  return items;
}

export function isTuple(value: Value): boolean {
  return Array.isArray(value) && TUPLES.has(value);
}

/** What filters such as `map` and `select` give: gone through once, value by value, true even where there are none. */
export class Iteration {
  constructor(private readonly values: Iterator<Value>) {}

  *[Symbol.iterator](): Generator<Value, void, void> {
    for (let next = this.values.next(); !next.done; next = this.values.next()) yield next.value;
  }
}

/** What `keys()`, `values()` and `items()` of an object give. */
export class View {
  constructor(
    readonly kind: 'keys' | 'values' | 'items',
    readonly items: readonly Value[],
  ) {}
}

/** Variables that inner blocks may change: `namespace(found=false)`. */
export class Namespace {
  constructor(readonly fields: Map<Value, Value>) {}
}

/** Arguments by name. */
export type Named = ReadonlyMap<string, Value>;

/** A function, a macro or a method. */
export class Callable {
  constructor(readonly call: (args: readonly Value[], named: Named) => Value) {}
}

/** An object whose attributes are computed, such as `loop`. */
export class Facade extends Callable {
  constructor(
    readonly attribute: (name: string) => Value | undefined,
    call: Callable['call'],
  ) {
    super(call);
  }
}

export type Value = string | number | boolean | null | Float | Undefined | Value[] | Dict | View | Iteration | Namespace | Callable;
export type Dict = Map<Value, Value>;

/** What JSON and programs give, as a value of templates. */
export function toValue(given: unknown): Value {
  if (given === null || typeof given === 'string' || typeof given === 'boolean') return given;
  if (typeof given === 'number') return Number.isInteger(given) && Math.abs(given) < 1e21 ? given : new Float(given);
  if (typeof given === 'bigint') return Number(given);
  if (given instanceof Callable) return given;
  if (given instanceof Map) return new Map([...given].map(([key, value]) => [toValue(key), toValue(value)]));
  if (Array.isArray(given)) return given.map(toValue);
  if (typeof given !== 'object') return new Undefined(`a ${typeof given} is no value of a template`);
  return new Map(
    Object.entries(given).flatMap(([key, value]): Array<[Value, Value]> => (value === undefined ? [] : [[key, toValue(value)]])),
  );
}

/** What to call a value in a message. */
export function kindOf(value: Value): string {
  if (value === null) return 'none';
  if (typeof value === 'string') return 'a text';
  if (typeof value === 'boolean') return String(value);
  if (typeof value === 'number' || value instanceof Float) return 'a number';
  if (Array.isArray(value) || value instanceof View || value instanceof Iteration) return 'a list';
  if (value instanceof Map) return 'an object';
  if (value instanceof Undefined) return `nothing (${value.why})`;
  return value instanceof Namespace ? 'a namespace' : 'a function';
}

/** Whether a condition with this value holds. */
export function isTrue(value: Value): boolean {
  if (value instanceof Undefined) return false;
  if (value instanceof Float) return value.value !== 0;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  if (value instanceof View) return value.items.length > 0;
  return typeof value === 'object' && value !== null ? true : Boolean(value);
}

/** The number that a value is in arithmetic, where true is 1. */
export function numberOf(value: Value): number | undefined {
  if (value instanceof Float) return value.value;
  return typeof value === 'number' ? value : typeof value === 'boolean' ? Number(value) : undefined;
}

/** Python's `==`. */
export function equals(one: Value, other: Value): boolean {
  if (one === other) return true;
  const [a, b] = [numberOf(one), numberOf(other)];
  if (a !== undefined || b !== undefined) return a === b;
  if (one instanceof Undefined || other instanceof Undefined) return one instanceof Undefined && other instanceof Undefined;
  if (Array.isArray(one) && Array.isArray(other)) {
    const alike = isTuple(one) === isTuple(other);
    return alike && one.length === other.length && one.every((item, index) => equals(item, other[index]));
  }
  if (one instanceof Map && other instanceof Map) {
    return one.size === other.size && [...one].every(([key, value]) => other.has(key) && equals(value, other.get(key) as Value));
  }
  return false;
}

/**
 * Which of two values comes first: below 0 where it is the first one.
 * @throws Error where they are not of one kind that has an order
 */
export function compare(one: Value, other: Value): number {
  const [a, b] = [numberOf(one), numberOf(other)];
  if (a !== undefined && b !== undefined) return a - b;
  if (typeof one === 'string' && typeof other === 'string') return compareTexts(one, other);
  if (Array.isArray(one) && Array.isArray(other)) {
    const differ = one.findIndex((item, index) => index >= other.length || !equals(item, other[index]));
    if (differ < 0) return one.length - other.length;
    return differ >= other.length ? 1 : compare(one[differ], other[differ]);
  }
  throw new Error(`${kindOf(one)} and ${kindOf(other)} have no order`);
}

/** By code points, where JavaScript compares halves of them. */
function compareTexts(one: string, other: string): number {
  if (one === other) return 0;
  const [a, b] = [[...one], [...other]];
  const differ = a.findIndex((letter, index) => letter !== b[index]);
  if (differ < 0 || b[differ] === undefined) return a.length - b.length;
  return (a[differ].codePointAt(0) ?? 0) - (b[differ].codePointAt(0) ?? 0);
}

/** What `for` goes through. @throws Error where there is nothing to go through */
export function iterate(value: Value): Iterable<Value> {
  if (typeof value === 'string' || Array.isArray(value) || value instanceof Iteration) return value;
  if (value instanceof Map) return value.keys();
  if (value instanceof View) return value.items;
  if (value instanceof Undefined) return [];
  throw new Error(`${kindOf(value)} is no list to go through`);
}

/** How many values there are. @throws Error where they cannot be counted */
export function sizeOf(value: Value): number {
  if (typeof value === 'string') return lettersIn(value);
  if (Array.isArray(value)) return value.length;
  if (value instanceof Map) return value.size;
  if (value instanceof View) return value.items.length;
  if (value instanceof Undefined) return 0;
  throw new Error(`${kindOf(value)} has no length${value instanceof Iteration ? ' before it is made a list' : ''}`);
}

/** Characters of a text, of which some are two in JavaScript. */
function lettersIn(text: string): number {
  let count = text.length;
  for (const _ of text.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)) count--;
  return count;
}

/** Python's `in`. @throws Error where there is nothing to look into */
export function contains(whole: Value, part: Value): boolean {
  if (typeof whole === 'string') {
    if (typeof part !== 'string') throw new Error(`"in" looks for ${kindOf(part)} in a text`);
    return whole.includes(part);
  }
  if (whole instanceof Map) return whole.has(part);
  for (const item of iterate(whole)) if (equals(item, part)) return true;
  return false;
}
