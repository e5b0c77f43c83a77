/** Kinds of settings: each knows its default, its range, and how to read itself from a YAML value or a command-line word. */
import { homedir } from 'node:os';

/** One setting of a configuration. `T` is the type of its parsed value. */
export interface Field<T> {
  readonly default: T;
  /** One line for people. */
  readonly help: string;
  /** What values are allowed, worded to follow "must be". */
  readonly range: string;
  /** The parsed value, or undefined when `value` is out of range or of another type. */
  parse(value: unknown): { value: T } | undefined;
}

/** `perDeviceTrainBatchSize` to `per_device_train_batch_size`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Limits of a number; `min` and `max` are allowed themselves, `above` and `below` are not. */
interface Limits {
  min?: number;
  max?: number;
  above?: number;
  below?: number;
}

/** A finite number; words such as "1e-4" count, because YAML reads them as text. */
export function number(initial: number, limits: Limits, help: string): Field<number> {
  return { default: initial, help, range: `a number${describe(limits)}`, parse: (value) => within(toNumber(value), limits) };
}

/** A whole number. */
export function integer(initial: number, limits: Limits, help: string): Field<number> {
  const parse = (value: unknown) => {
    const read = toNumber(value);
    return Number.isSafeInteger(read) ? within(read, limits) : undefined;
  };
  return { default: initial, help, range: `a whole number${describe(limits)}`, parse };
}

/** Every so many optimizer steps; below 1, the share of all steps. */
export function interval(initial: number, help: string): Field<number> {
  const parse = (value: unknown) => {
    const read = toNumber(value);
    return read > 0 && (read < 1 || Number.isSafeInteger(read)) ? { value: read } : undefined;
  };
  return { default: initial, help, range: 'a whole number of steps, at least 1, or a share of all steps between 0 and 1', parse };
}

/** true or false. */
export function flag(initial: boolean, help: string): Field<boolean> {
  const words = new Map<unknown, boolean>([
    [true, true],
    [false, false],
    ['true', true],
    ['false', false],
    ['True', true],
    ['False', false],
  ]);
  const parse = (value: unknown) => {
    const read = words.get(value);
    return read === undefined ? undefined : { value: read };
  };
  return { default: initial, help, range: 'true or false', parse };
}

/** One of a few words. `W & {}` keeps the default out of the inference of W, as NoInfer does where TypeScript has it. */
export function choice<W extends string>(initial: W & {}, words: readonly W[], help: string): Field<W> {
  const parse = (value: unknown) => {
    const read = words.find((word) => word === value);
    return read === undefined ? undefined : { value: read };
  };
  return { default: initial, help, range: words.length === 1 ? words[0] : `one of ${words.join(', ')}`, parse };
}

/** Text that is not empty. */
export function text(initial: string, help: string): Field<string> {
  const parse = (value: unknown) => (typeof value === 'string' && value !== '' ? { value } : undefined);
  return { default: initial, help, range: 'a text', parse };
}

/** A folder to write into; a `~` at its beginning is the home, as in transformers, for no shell has seen what a file says. */
export function folder(help: string): Field<string> {
  const parse = (value: unknown) =>
    typeof value === 'string' && value !== '' ? { value: value.replace(/^~(?=\/|$)/, () => homedir()) } : undefined;
  return { ...text('', help), parse };
}

/** A field that may also be left open: null, or the words "null" and "none". `initial` says what it is when nobody sets it. */
export function optional<T>(field: Field<T>, initial: T | null = null): Field<T | null> {
  const parse = (value: unknown) =>
    value === null || value === 'null' || value === 'none' || value === 'None' ? { value: null } : field.parse(value);
  return { default: initial, help: field.help, range: `${field.range}, or null`, parse };
}

/** The first of two kinds that accepts the value. */
export function either<A, B>(first: Field<A>, second: Field<B>): Field<A | B> {
  return {
    default: first.default,
    help: first.help,
    range: `${first.range}, or ${second.range}`,
    parse: (value) => first.parse(value) ?? second.parse(value),
  };
}

/** What a field reads. */
export type FieldValue<F> = F extends Field<infer T> ? T : never;

/** A table of values by name, such as `{min_lr: 1e-6}`, each of a kind of its own; also as JSON text. What is null is not there. */
export function table<T extends Readonly<Record<string, Field<unknown>>>>(
  fields: T,
  help: string,
): Field<Partial<{ [K in keyof T]: FieldValue<T[K]> }>> {
  const parse = (value: unknown) => {
    const given = toTable(value);
    if (given === undefined) return undefined;
    const read: Partial<{ [K in keyof T]: FieldValue<T[K]> }> = {};
    for (const [key, entry] of Object.entries(given)) {
      if (!Object.hasOwn(fields, key)) return undefined;
      if (entry === null) continue;
      const parsed = fields[key].parse(entry);
      if (!parsed) return undefined;
      Object.assign(read, { [key]: parsed.value });
    }
    return { value: read };
  };
  const byRange = new Map<string, string[]>();
  for (const [key, { range }] of Object.entries(fields)) byRange.set(range, [...(byRange.get(range) ?? []), key]);
  const kinds = [...byRange].map(([range, keys]) => `${keys.join(', ')} (${range})`);
  return { default: {}, help, range: `a table with the keys ${kinds.join(', ')}`, parse };
}

/** Python and YAML let underscores part digits: 1_000. */
function toNumber(value: unknown): number {
  if (typeof value === 'number') return value;
  return typeof value === 'string' && value.trim() !== '' ? Number(value.replace(/(?<=\d)_(?=\d)/g, '')) : Number.NaN;
}

/** A table, also as JSON text; undefined where it is something else. */
export function toTable(value: unknown): object | undefined {
  if (value === null || value === undefined) return {};
  if (typeof value === 'string') {
    try {
      return toTable(JSON.parse(value));
    } catch {
      return undefined;
    }
  }
  // sets and ordered maps of YAML have their entries elsewhere
  const isTable = typeof value === 'object' && !Array.isArray(value) && !(value instanceof Set) && !(value instanceof Map);
  return isTable ? value : undefined;
}

function within(value: number, { min, max, above, below }: Limits): { value: number } | undefined {
  const fits =
    Number.isFinite(value) &&
    (min === undefined || value >= min) &&
    (max === undefined || value <= max) &&
    (above === undefined || value > above) &&
    (below === undefined || value < below);
  return fits ? { value } : undefined;
}

function describe({ min, max, above, below }: Limits): string {
  const parts: string[] = [];
  if (min !== undefined) parts.push(`at least ${min}`);
  if (above !== undefined) parts.push(`above ${above}`);
  if (max !== undefined) parts.push(`at most ${max}`);
  if (below !== undefined) parts.push(`below ${below}`);
  return parts.length === 0 ? '' : `, ${parts.join(' and ')}`;
}
