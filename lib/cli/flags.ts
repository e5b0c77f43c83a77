/** Command-line words to typed values: the grammar of flags, and tables that say which flags a verb has. */
import { UserError } from '../errors';
import { orNearest } from '../nearest';
import { type Field, text } from '../train/fields';

/** A flag as it was written, with the words that follow it. */
export interface GivenFlag {
  name: string;
  /** None for a bare `--packing`. */
  values: string[];
}

/** One flag of a verb. */
export interface Flag<T> extends Field<T> {
  /** What stands for the value in the help: `FILE`; nothing for a switch. */
  readonly placeholder: string;
  readonly needed: boolean;
  /** May be repeated; `parse` is given the list. */
  readonly many: boolean;
}

export type Flags = Readonly<Record<string, Flag<unknown>>>;
export type FlagValues<F extends Flags> = { [K in keyof F]: F[K] extends Flag<infer T> ? T : never };

/** A flag that may be left out: its field's default then stands. */
export function flag<T>(placeholder: string, field: Field<T>): Flag<T> {
  return { ...field, placeholder, needed: false, many: false };
}

/** A flag without which the verb cannot work. */
export function needed<T>(placeholder: string, field: Field<T>): Flag<T> {
  return { ...field, placeholder, needed: true, many: false };
}

/** A flag that collects texts. */
export function texts(placeholder: string, help: string): Flag<string[]> {
  const parse = (value: unknown) => (Array.isArray(value) && value.length > 0 ? { value: value as string[] } : undefined);
  return { default: [], help, range: 'a text', parse, placeholder, needed: false, many: true };
}

/** A text that may be empty. */
export function anyText(help: string): Field<string | null> {
  return { ...text('', help), default: null, parse: (value) => (typeof value === 'string' ? { value } : undefined) };
}

/** Some of a few words, such as `q8,q4`; none twice. */
export function someOf<W extends string>(words: readonly W[], help: string): Field<W[]> {
  const parse = (value: unknown) => {
    const given = new Set(
      String(value)
        .split(',')
        .map((word) => word.trim()),
    );
    const read = [...given].map((word) => words.find((known) => known === word));
    return read.every((word) => word !== undefined) ? { value: read } : undefined;
  };
  return { default: [], help, range: `one of ${words.join(', ')}, or several of them separated by commas`, parse };
}

/** Token ids such as `1,2,3`, also with spaces or in brackets. */
export function tokenIds(help: string): Field<number[] | null> {
  const parse = (value: unknown) => {
    const words = String(value)
      .replace(/^\s*\[|\]\s*$/g, '')
      .split(/[\s,]+/)
      .filter((word) => word !== '');
    return words.length > 0 && words.every((word) => /^\d+$/.test(word)) ? { value: words.map(Number) } : undefined;
  };
  return { default: null, help, range: 'whole numbers separated by commas, such as 1,2,3', parse };
}

/**
 * Splits words into flags: `--key value`, `--key=value`, a bare `--key`. Words after a flag are its values.
 * @throws UserError for a word that belongs to no flag
 */
export function splitWords(words: readonly string[], command: string): GivenFlag[] {
  const { flags, before } = groupWords(words);
  if (before.length > 0) {
    // without it npm takes the flags for its own, and what is left are their values
    const remedy =
      process.env.npm_lifecycle_event === 'tunebook' && flags.length === 0 ? '; behind npm run, -- has to come before its words' : '';
    throw new UserError(
      `${JSON.stringify(before[0])} is not understood; ${command} takes flags such as --key value, listed by ${command} --help${remedy}.`,
    );
  }
  const odd = flags.findIndex(({ name }) => /\s/.test(name));
  if (odd >= 0) throw notAFlag(flags[odd].name, flags[odd - 1]);
  return flags;
}

/** The flags among words, and the words before the first. */
function groupWords(words: readonly string[]): { flags: GivenFlag[]; before: string[] } {
  const flags: GivenFlag[] = [];
  const before: string[] = [];
  for (const word of words) {
    const match = /^--([^=]+)(?:=([\s\S]*))?$/.exec(word);
    if (match) flags.push({ name: match[1], values: match[2] === undefined ? [] : [match[2]] });
    else (flags.at(-1)?.values ?? before).push(word);
  }
  return { flags, before };
}

/** No flag has spaces in its name: such a word was meant as the value of the flag before it. */
function notAFlag(name: string, before: GivenFlag | undefined): UserError {
  const flag = before?.values.length === 0 ? before.name : 'key';
  return new UserError(
    `${JSON.stringify(`--${name}`)} is no flag; a value that begins with -- is written behind an equals sign: --${flag}="--${name}".`,
  );
}

/** Whether a switch such as `--json` is on, known before the other words are read; one with a value that it cannot have counts as on. */
export function isOn(name: string, { parse }: Field<boolean>, words: readonly string[]): boolean {
  const last = groupWords(words).flags.findLast((given) => given.name === name);
  if (!last) return false;
  return last.values.length !== 1 || (parse(last.values[0])?.value ?? true);
}

/** The one word of a flag, or true for a bare one. @throws UserError when there are several */
export function oneValue({ name, values }: GivenFlag): string | true {
  if (values.length <= 1) return values[0] ?? true;
  throw new UserError(
    `--${name} takes one value, but ${values.length} words follow it (${values.slice(0, 3).join(' ')}${values.length > 3 ? ' ...' : ''}); put a text with spaces into quotes.`,
  );
}

/**
 * Reads a verb's flags by its table; of a repeated flag the last one counts.
 * @throws UserError for an unknown flag (naming the nearest), a value out of range, or a needed flag that is missing
 */
export function readFlags<F extends Flags>(given: readonly GivenFlag[], table: F, command: string): FlagValues<F> {
  const values: Record<string, unknown> = Object.fromEntries(Object.entries(table).map(([name, { default: initial }]) => [name, initial]));
  for (const [i, { name }] of given.entries()) {
    if (Object.hasOwn(table, name)) continue;
    const before = given[i - 1];
    const meant = before?.values.length === 0 && table[before.name].placeholder !== '' ? before.name : undefined;
    throw unknownFlag(name, Object.keys(table), command, meant);
  }
  for (const [name, entry] of Object.entries(table)) {
    const uses = given.filter((use) => use.name === name);
    if (uses.length > 0) values[name] = readFlag(name, entry, uses);
    else if (entry.needed) throw new UserError(`${command} needs --${name} ${entry.placeholder}: ${lowerFirst(entry.help)}`);
  }
  return values as FlagValues<F>;
}

function readFlag(name: string, { many, placeholder, range, parse }: Flag<unknown>, uses: readonly GivenFlag[]): unknown {
  const words = uses.map(oneValue);
  const value = many ? words : words[words.length - 1];
  if ((value === true || (many && words.includes(true))) && placeholder !== '')
    throw new UserError(`--${name} needs a value: --${name} ${placeholder}, ${range}.`);
  const parsed = parse(value);
  if (!parsed) throw new UserError(`--${name} is ${JSON.stringify(value)}, but must be ${range}.`);
  return parsed.value;
}

/** @param flagBefore the flag before it, if that has no value yet */
function unknownFlag(name: string, known: readonly string[], command: string, flagBefore?: string): UserError {
  const flags = known.map((flag) => `--${flag}`);
  const near = orNearest(`--${name}`, flags, `${command} --help lists them all`);
  const meant = flagBefore === undefined ? '' : `, and as the value of --${flagBefore} it is written --${flagBefore}=--${name}`;
  return new UserError(`--${name} is not a flag of ${command}; ${near}${meant}.`);
}

function lowerFirst(sentence: string): string {
  // an acronym keeps its letters
  return /^[A-Z][a-z]/.test(sentence) ? sentence[0].toLowerCase() + sentence.slice(1) : sentence;
}
