/** What functions of the library are given, looked at for those who write JavaScript, whom no types hold. */
import { statSync } from 'node:fs';
import { UserError } from './errors';
import { describe, isObject, showValue } from './json';
import { nearest } from './nearest';

/** The options of a function, in a table so that none can be forgotten. */
export type OptionNames<T> = Readonly<Record<keyof T, true>>;

/**
 * Makes sure that a function has the options that it is given; one that is undefined is not given.
 * @param elsewhere what to write for names that are known from elsewhere
 * @throws UserError for an option that it does not have, naming the nearest
 */
export function checkOptions<T extends object>(
  of: string,
  given: T,
  names: OptionNames<T>,
  elsewhere: Readonly<Record<string, string>> = {},
): void {
  if (!isObject(given))
    throw new UserError(`The options of ${of} are ${describe(given)}, but a table such as { name: value } was expected.`);
  const known = Object.keys(names);
  const other = Object.keys(given).find((name) => !known.includes(name) && given[name] !== undefined);
  if (other === undefined) return;
  const meant = Object.hasOwn(elsewhere, other) ? elsewhere[other] : nearest(other, known);
  throw new UserError(`${other} is no option of ${of}; ${meant === undefined ? `there are ${known.join(', ')}` : `write ${meant}`}.`);
}

/** Whether a value looks like one. */
export const isModel = (value: unknown): boolean => isObject(value) && 'tokenizer' in value && 'parameters' in value;

/** @throws UserError for what is no model, such as its name, or a promise that nobody waited for */
export function checkModel(of: string, model: unknown): void {
  if (isModel(model)) return;
  throw new UserError(`The model of ${of} is ${shown(model)}; give what await loadModel(${named(model)}) returns.`);
}

/** @throws UserError for what is no tokenizer, such as its name, or a promise that nobody waited for */
export function checkTokenizer(of: string, tokenizer: unknown): void {
  if (isObject(tokenizer) && 'encode' in tokenizer && 'eosId' in tokenizer) return;
  throw new UserError(`The tokenizer of ${of} is ${shown(tokenizer)}; give what await loadTokenizer(${named(tokenizer)}) returns.`);
}

/** @throws UserError for what is no path or name, such as one that was left out */
export function checkPath(of: string, name: string, place: unknown): void {
  if (typeof place === 'string') return;
  throw new UserError(`The ${name} of ${of} is ${shown(place)}; give it as a text.`);
}

/** @throws UserError for what is no dataset and no list of rows, such as a file's name, or a promise that nobody waited for */
export function checkExamples(of: string, name: string, examples: unknown): void {
  if (isObject(examples) && Symbol.iterator in examples && 'length' in examples) return;
  if (Array.isArray(examples)) return;
  throw new UserError(
    `The ${name} of ${of} ${name.endsWith('s') ? 'are' : 'is'} ${shown(examples)}; give rows, or what await loadDataset(${named(examples)}) returns.`,
  );
}

/** @throws UserError for a seed of rows that is no whole number from 0 up */
export function checkSeed(seed: unknown): void {
  if (!Number.isSafeInteger(seed) || (seed as number) < 0)
    throw new UserError(`The seed ${showValue(seed)} must be a whole number from 0 up.`);
}

/** @throws UserError when an option is given, but is no whole number of at least 1 */
export function checkWholeNumber(name: string, value: unknown): void {
  if (value === undefined || (Number.isInteger(value) && (value as number) >= 1)) return;
  throw new UserError(`${name} is ${showValue(value)}; expected a whole number of at least 1.`);
}

/**
 * @param template which makes rows of any columns readable, if there is one
 * @throws UserError for what is no row, such as a whole dataset, or a row that is not there
 */
export function checkExample(of: string, example: unknown, template: unknown): void {
  const columns = ['messages', 'prompt', 'instruction', 'text'];
  if (!isObject(example) || !(template || columns.some((column) => column in example)))
    throw new UserError(`The example of ${of} is ${shown(example)}; give a row, such as dataset.rows[0].`);
}

/** @throws UserError for a text that is the path of a file, whose rows were more likely meant */
export function refusePath(of: string, text: string): void {
  if (!isFile(text)) return;
  throw new UserError(
    `${of} takes ${JSON.stringify(text)}, which is the path of a file, as a text; give await loadDataset(${JSON.stringify(text)}), or a list with the text if it is meant itself.`,
  );
}

function isFile(place: string): boolean {
  try {
    return statSync(place).isFile();
  } catch {
    // most texts are no paths at all
    return false;
  }
}

/** What a function was given, in a message. */
export function shown(value: unknown): string {
  const isPromise = isObject(value) && typeof value.then === 'function';
  return isPromise ? 'a promise, which await was left out for' : describe(value);
}

/** What stands for it in a call that is proposed. */
export function named(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : '...';
}
