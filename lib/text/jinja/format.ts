/** Python's two ways to write values into a text: `'%s' % value` and `'{}'.format(value)`. */

import { Float, isTuple, kindOf, type Named, numberOf, type Value } from './values';
import { represent, textOf } from './write';

const DIRECTIVE = /%(?:\((\w+)\))?([-+ 0#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])/g;

/** `text % values`. @throws Error where they do not fit */
export function formatPercent(text: string, values: Value): string {
  const list = Array.isArray(values) && isTuple(values) ? values : [values];
  let next = 0;
  const written = text.replace(DIRECTIVE, (_, name: string | undefined, flags: string, width: string, digits: string, kind: string) => {
    if (kind === '%') return '%';
    const value = name === undefined ? list[next++] : values instanceof Map ? values.get(name) : undefined;
    if (value === undefined) throw new Error(`${JSON.stringify(text)} has no value for each of its places`);
    return pad(
      converted(value, kind, flags, digits),
      width,
      flags.includes('-') ? '<' : '>',
      flags.includes('0') && !/[sr]/.test(kind) ? '0' : ' ',
    );
  });
  if (next < list.length && !(values instanceof Map)) throw new Error(`${JSON.stringify(text)} has fewer places than there are values`);
  return written;
}

function converted(value: Value, kind: string, flags: string, digits: string | undefined): string {
  if (kind === 's' || kind === 'r')
    return (kind === 's' ? textOf(value) : represent(value)).slice(0, digits === undefined ? undefined : Number(digits));
  const number = numberOf(value);
  if (number === undefined) throw new Error(`%${kind} is to write ${kindOf(value)}`);
  const sign = number >= 0 && flags.includes('+') ? '+' : '';
  return sign + numberText(number, kind, digits);
}

function numberText(number: number, kind: string, digits: string | undefined): string {
  const places = digits === undefined ? 6 : Number(digits);
  switch (kind) {
    case 'd':
    case 'i':
      return String(Math.trunc(number));
    case 'f':
    case 'F':
      return number.toFixed(places);
    case 'x':
      return Math.trunc(number).toString(16);
    case 'e':
      return exponential(number, places);
    case 'g':
      return general(number, places || 1);
    default:
      throw new Error(`%${kind} is not known`);
  }
}

/** An exponent has two digits at least. */
const exponential = (number: number, places: number): string => number.toExponential(places).replace(/e([+-])(\d)$/, 'e$10$2');

/** So many digits, without zeros at the end; with an exponent where the point would be far from them. */
function general(number: number, digits: number): string {
  const [rounded, exponent] = exponential(number, digits - 1).split('e');
  const short = (text: string): string => (text.includes('.') ? text.replace(/\.?0+$/, '') : text);
  const power = Number(exponent);
  return power < -4 || power >= digits ? `${short(rounded)}e${exponent}` : short(number.toFixed(digits - 1 - power));
}

/** `text.format(...)`: fields by place or name, each with fill, side, width and the digits of a number. @throws Error where a field has no value */
export function formatBraces(text: string, args: readonly Value[], named: Named): string {
  let next = 0;
  return text.replace(
    /\{\{|\}\}|\{(\w*)(?:!([rs]))?(?::(?:(.)?([<>^]))?(0?)(\d*)(?:\.(\d+))?([a-z]?))?\}|[{}]/g,
    (whole, ...parts: Array<string | undefined>) => {
      if (whole === '{{' || whole === '}}') return whole[0];
      if (whole.length === 1)
        throw new Error(`${JSON.stringify(text)} has a place for a value that is not known here, or a ${whole} alone`);
      const [name = '', conversion, fill, side, zero, width, digits, kind] = parts;
      const value = name === '' ? args[next++] : /^\d+$/.test(name) ? args[Number(name)] : named.get(name);
      if (value === undefined) throw new Error(`${JSON.stringify(text)} has no value for ${whole}`);
      const isNumber = conversion === undefined && numberOf(value) !== undefined && typeof value !== 'boolean';
      const body = conversion === 'r' ? represent(value) : kind && kind !== 's' ? converted(value, kind, '', digits) : cut(value, digits);
      return pad(body, width, side ?? (isNumber ? '>' : '<'), zero ? '0' : (fill ?? ' '));
    },
  );
}

function cut(value: Value, digits: string | undefined): string {
  if (digits === undefined) return textOf(value);
  return value instanceof Float ? numberText(value.value, 'g', digits) : textOf(value).slice(0, Number(digits));
}

/** @param side where the text stands: `<` on the left */
export function pad(text: string, width: string | number | undefined, side: string, fill = ' '): string {
  const missing = Math.max(0, Number(width || 0) - [...text].length);
  const before = side === '<' ? 0 : side === '>' ? missing : Math.floor(missing / 2);
  return fill.repeat(before) + text + fill.repeat(missing - before);
}
