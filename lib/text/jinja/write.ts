/** Values as texts: as Python's `str` and `repr` write them, and as its `json.dumps` does. */
import { Float, Iteration, isTuple, kindOf, Namespace, Undefined, type Value, View } from './values';

/** What `{{ value }}` writes. */
export function textOf(value: Value): string {
  if (typeof value === 'string') return value;
  return value instanceof Undefined ? '' : represent(value);
}

/** A value as it would stand in a program in Python. */
export function represent(value: Value): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return quote(value);
  if (value instanceof Float) return floatText(value.value);
  if (Array.isArray(value) && isTuple(value)) return `(${value.map(represent).join(', ')}${value.length === 1 ? ',' : ''})`;
  if (Array.isArray(value)) return `[${value.map(represent).join(', ')}]`;
  if (value instanceof Map) return `{${[...value].map((pair) => pair.map(represent).join(': ')).join(', ')}}`;
  if (value instanceof View) return `dict_${value.kind}([${value.items.map(represent).join(', ')}])`;
  if (value instanceof Namespace) return `<Namespace ${represent(value.fields)}>`;
  if (value instanceof Undefined) return 'Undefined';
  return value instanceof Iteration ? '<generator object>' : '<function>';
}

/** Python writes digits as JavaScript does, but the exponent from 1e16 and below 1e-4 on, and always a point. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return value.toExponential().replace(/e([+-])(\d+)$/, (_, sign: string, digits: string) => `e${sign}${digits.padStart(2, '0')}`);
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\p{C}\p{Z}'"]/gu, (letter) => {
    if (letter === mark) return `\\${mark}`;
    if (letter === ' ' || letter === "'" || letter === '"') return letter;
    return ESCAPES[letter] ?? numbered(letter.codePointAt(0) ?? 0);
  });
  return mark + escaped + mark;
}

function numbered(code: number): string {
  const digits = code.toString(16);
  if (code < 0x100) return `\\x${digits.padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${digits.padStart(4, '0')}` : `\\U${digits.padStart(8, '0')}`;
}

/** How `tojson` writes. */
export interface JsonOptions {
  readonly ensureAscii: boolean;
  readonly sortKeys: boolean;
  /** What each step inwards begins with; none where all is on one line. */
  readonly indent: string | undefined;
  readonly separators: readonly [item: string, key: string];
}

/** @throws Error for what JSON has no words for */
export function toJson(value: Value, options: JsonOptions, depth = 0): string {
  if (typeof value === 'string') return jsonText(value, options);
  if (value === null || typeof value === 'boolean' || typeof value === 'number') return String(value);
  if (value instanceof Float) return jsonFloat(value.value);
  const inner = (item: Value): string => toJson(item, options, depth + 1);
  if (Array.isArray(value)) return enclosed('[', ']', Array.from(value, inner), options, depth);
  if (!(value instanceof Map))
    throw new Error(`tojson cannot write ${kindOf(value)}${value instanceof Iteration ? ' before it is made one' : ''}`);
  const entries = [...value].map(([key, item]): [string, Value] => [jsonKey(key), item]);
  if (options.sortKeys) entries.sort(([a], [b]) => (a < b ? -1 : Number(a > b)));
  const written = entries.map(([key, item]) => jsonText(key, options) + options.separators[1] + inner(item));
  return enclosed('{', '}', written, options, depth);
}

function enclosed(open: string, close: string, items: string[], { indent, separators }: JsonOptions, depth: number): string {
  if (items.length === 0) return open + close;
  if (indent === undefined) return open + items.join(separators[0]) + close;
  const line = `\n${indent.repeat(depth + 1)}`;
  return `${open}${line}${items.join(separators[0] + line)}\n${indent.repeat(depth)}${close}`;
}

function jsonText(text: string, { ensureAscii }: JsonOptions): string {
  const written = JSON.stringify(text);
  return ensureAscii ? written.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`) : written;
}

function jsonFloat(value: number): string {
  if (Number.isFinite(value)) return floatText(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity';
}

function jsonKey(key: Value): string {
  if (typeof key === 'string') return key;
  if (key === null || typeof key === 'boolean') return String(key);
  if (typeof key === 'number' || key instanceof Float) return represent(key);
  throw new Error(`tojson has ${kindOf(key)} as the name of a field`);
}
