/** Names of settings in what a trainer says: messages have those of recipes, and who writes TypeScript reads `maxLength` for `max_length`. */
import { UserError } from '../errors';
import { fieldList } from './config';

/** Writes the names of settings in a sentence as its reader does. */
export type Spelling = (sentence: string) => string;

const NAMES = new Map(fieldList.filter(({ key, name }) => key !== name).map(({ key, name }) => [key, name]));

/** Not in a path, a longer name, or a text of the user's in quotes. */
const KEY = new RegExp(`(?<![\\w"'/\\\\.-])(?:${[...NAMES.keys()].join('|')})(?![\\w"'/\\\\-])`, 'g');

/** As in a configuration: TypeScript's names, but where a key of it has another's, as in settings that were read from a recipe. */
export function spellingOf(config: unknown): Spelling {
  const keys = typeof config === 'object' && config !== null ? Object.keys(config) : [];
  if (keys.some((key) => key.includes('_'))) return (sentence) => sentence;
  return (sentence) => sentence.replace(KEY, (key) => NAMES.get(key) ?? key);
}

/** An error as its reader writes; others than a `UserError` stay as they are. */
export function spelled(error: unknown, spell: Spelling): unknown {
  if (!(error instanceof UserError)) return error;
  const sentence = spell(error.message);
  return sentence === error.message ? error : new UserError(sentence, error.cause === undefined ? undefined : { cause: error.cause });
}

/** What `make` gives. @throws what it throws, in the reader's words */
export function inWords<T>(spell: Spelling, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw spelled(error, spell);
  }
}
