/** What chat templates call to write today's date, as Python's `strftime` does in the locale C, whatever the language of this machine. */
import type { Tokenizer } from './types';

const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'];
const MONTHS = [
  ...['January', 'February', 'March', 'April', 'May', 'June'],
  ...['July', 'August', 'September', 'October', 'November', 'December'],
];

const two = (value: number): string => String(value).padStart(2, '0');
const hourOf12 = (time: Date): number => time.getHours() % 12 || 12;
const dayOfYear = (time: Date): number =>
  Math.round(
    (new Date(time.getFullYear(), time.getMonth(), time.getDate()).getTime() - new Date(time.getFullYear(), 0, 1).getTime()) / 864e5,
  ) + 1;

const DIRECTIVES: Readonly<Record<string, (time: Date) => string>> = {
  Y: (time) => String(time.getFullYear()),
  y: (time) => two(time.getFullYear() % 100),
  m: (time) => two(time.getMonth() + 1),
  d: (time) => two(time.getDate()),
  e: (time) => String(time.getDate()).padStart(2),
  j: (time) => String(dayOfYear(time)).padStart(3, '0'),
  B: (time) => MONTHS[time.getMonth()],
  b: (time) => MONTHS[time.getMonth()].slice(0, 3),
  A: (time) => DAYS[time.getDay()],
  a: (time) => DAYS[time.getDay()].slice(0, 3),
  H: (time) => two(time.getHours()),
  I: (time) => two(hourOf12(time)),
  M: (time) => two(time.getMinutes()),
  S: (time) => two(time.getSeconds()),
  p: (time) => (time.getHours() < 12 ? 'AM' : 'PM'),
  F: (time) => strftime(time, '%Y-%m-%d'),
  T: (time) => strftime(time, '%H:%M:%S'),
  '%': () => '%',
};

/**
 * Writes a time of this place by a format such as `%d %b %Y`.
 * @throws Error at a directive that it does not know
 */
export function strftime(time: Date, format: string): string {
  return format.replace(/%(-?)(.)/gs, (directive, bare: string, letter: string) => {
    if (!Object.hasOwn(DIRECTIVES, letter)) throw new Error(`strftime_now knows no ${directive}`);
    const written = DIRECTIVES[letter](time);
    return bare ? written.replace(/^[0 ]+(?=\d)/, '') : written;
  });
}

/** The same tokenizer, whose chat templates are told this time as the present one. */
export function tokenizerAt(tokenizer: Tokenizer, now: Date): Tokenizer {
  return {
    ...tokenizer,
    applyChatTemplate: (messages, options) => tokenizer.applyChatTemplate(messages, { now, ...options }),
    encodeChat: (messages, options) => tokenizer.encodeChat(messages, { now, ...options }),
  };
}
