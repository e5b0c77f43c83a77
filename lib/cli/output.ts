/** Where the command line writes: results to standard output, everything else to standard error. */
import { endLiveText } from '../display';
import { messageOf, UserError } from '../errors';

export class Output {
  constructor(readonly json: boolean) {}

  /** A line for the person who waits; never on standard output. */
  note(line: string): void {
    process.stderr.write(`${line}\n`);
  }

  /** A piece of a text that grows; with `--json` the whole comes at the end instead. */
  stream(piece: string): void {
    if (!this.json) process.stdout.write(piece);
  }

  result(result: { json: object; text: string }): void {
    if (this.json) process.stdout.write(`${JSON.stringify(result.json)}\n`);
    else if (result.text !== '') process.stdout.write(`${result.text}\n`);
  }

  /**
   * One sentence; with `--json` an object with the key `error` too.
   * @param flags names of the verb's flags, which stand for the options of the library that the sentence may name
   * @param words the command line, whose own words the sentence repeats as they are
   */
  error(error: unknown, flags: readonly string[] = [], words: readonly string[] = []): void {
    const sentence = inFlagWords(sentenceOf(error), flags, words);
    if (this.json) process.stdout.write(`${JSON.stringify({ error: sentence })}\n`);
    endLiveText();
    process.stderr.write(`${sentence}\n`);
    if (process.env.TUNEBOOK_DEBUG && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  }
}

function sentenceOf(error: unknown): string {
  if (error instanceof UserError) return error.message;
  const what = messageOf(error).split('\n', 1)[0].replace(/\.$/, '');
  return `Something went wrong inside tunebook: ${what}; set TUNEBOOK_DEBUG=1 and run again to see where.`;
}

/** `maxNewTokens`, as the library has it, to `--max_new_tokens`; not in a path or another text of the user's. */
function inFlagWords(sentence: string, flags: readonly string[], words: readonly string[]): string {
  const names = new Map(flags.map((flag) => [flag.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()), `--${flag}`]));
  const said = (name: string): boolean => words.some((word) => word.includes(name));
  return sentence.replace(/(?<![^\s(])[a-z]+(?:[A-Z][a-z]*)+(?=[,;:)]*(?:\s|\.?$))/g, (name) =>
    said(name) ? name : (names.get(name) ?? name),
  );
}

/**
 * Goes on without standard error when it cannot be written (its terminal or reader has gone, its disk is full): what is said there is for
 * people who wait, and nothing that the work needs.
 */
export function guardStandardError(): void {
  process.stderr.on('error', () => {});
}

/** Keeps standard output clean of what libraries print; ends quietly when its reader has gone (`tunebook ... | head`), with a sentence when it fails. */
export function guardStandardOutput(): void {
  console.log = console.info = console.debug = (...words: unknown[]) => console.error(...words);
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    const what = error.code === 'ENOSPC' ? 'the disk is full' : error.message;
    process.stderr.write(`Standard output could not be written: ${what}; send it elsewhere and run again.\n`);
    process.exit(1);
  });
}
