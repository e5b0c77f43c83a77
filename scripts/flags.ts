/** What the commands in TypeScript share: their flags, their help, and how they end. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { messageOf, UserError } from '../lib/errors';

/** The flags among words. @throws UserError with all flags that there are, for one that is unknown or lacks its value */
export function parseFlags<T extends NonNullable<ParseArgsConfig['options']>>(
  words: readonly string[],
  options: T,
): ReturnType<typeof parseArgs<{ args: string[]; options: T }>>['values'] {
  try {
    return parseArgs({ args: [...words], options }).values;
  } catch (error) {
    const flags = Object.keys(options).map((name) => `--${name}`);
    throw new UserError(`${messageOf(error).split('. ')[0].replace(/[.]$/, '')}; the flags are ${flags.join(', ')}.`);
  }
}

/** The number behind a flag. @throws UserError for what is no whole number of at least 1 */
export function count(flag: string, given: string): number {
  const value = Number(given);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new UserError(`--${flag} is ${JSON.stringify(given)}; give a whole number of at least 1.`);
}

/**
 * Runs a command with the words behind it, or shows its help; of what the user can mend it prints the sentence alone.
 * @returns the exit code
 */
export async function runCommand(help: string, main: (words: readonly string[]) => Promise<number>): Promise<number> {
  const words = process.argv.slice(2);
  if (words.includes('--help') || words.includes('-h')) {
    console.log(help);
    return 0;
  }
  try {
    return await main(words);
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error);
    return 1;
  }
}
