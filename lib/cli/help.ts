/** Help texts, made from the tables of verbs, flags and settings. */
import { configHelp } from '../train/config';
import type { Flags } from './flags';
import { scriptFields } from './script-fields';
import { verbs } from './verbs';

/** The help of the program. */
export function programHelp(): string {
  const list = verbs.map(({ name, summary }) => `  ${name.padEnd(10)}${summary}`).join('\n');
  return `tunebook: supervised fine-tuning of language models

${list}

Every verb has --help, and --json: then standard output is one JSON object and nothing else.
tunebook --version says the version. Exit code: 0, 1 after one sentence about what is wrong, 130 after Ctrl-C.`;
}

/** The help of one verb. */
export function verbHelp({ name, summary, usage, flags }: (typeof verbs)[number]): string {
  const head = `tunebook ${name}: ${summary}\n\n  ${usage}\n\n${flagLines(flags)}`;
  if (name !== 'sft') return head;
  const script = Object.fromEntries(
    Object.entries(scriptFields).map(([key, field]) => [key, { ...field, placeholder: '', needed: false, many: false }]),
  );
  return `${head}\n\nWithout output_dir the run goes to trainer_output, as with TRL. Ctrl-C stops it with a checkpoint to continue from.\n\nModel and data, under TRL's names, as flags or in the recipe:\n${flagLines(script)}\n\nSettings, under TRL's names, as flags or in the recipe:\n${configHelp()}`;
}

function flagLines(flags: Flags): string {
  const names = Object.entries(flags).map(([name, { placeholder }]) => `--${name}${placeholder && ` ${placeholder}`}`);
  const width = Math.max(...names.map(({ length }) => length)) + 2;
  return Object.values(flags)
    .map(({ help, range, placeholder, default: initial, needed }, i) => {
      const choices = range.startsWith('one of') || range.includes('number') ? ` ${range[0].toUpperCase()}${range.slice(1)}` : '';
      const usual =
        placeholder === '' || needed || initial === null || initial === '' || Array.isArray(initial)
          ? ''
          : `${choices === '' ? ' D' : '; d'}efault ${initial}`;
      return `  ${names[i].padEnd(width)}${help}${choices}${usual}${choices || usual ? '.' : ''}`;
    })
    .join('\n');
}

/**
 * A help text no wider than a terminal: lines end between words and go on below the explanation that they belong to.
 * @param columns of the terminal; undefined or 0: there is none, or it does not know, and the text stays as it is
 */
export function fitted(text: string, columns: number | undefined): string {
  if (!columns) return text;
  return text
    .split('\n')
    .map((line) => fittedLine(line, columns))
    .join('\n');
}

/** What stands before an explanation, a flag or a verb, and else a line's own indent. */
const BEFORE_WORDS = /^ {2}(?:--\w+(?: \w+)?|\w+) {2,}|^ */;

function fittedLine(line: string, columns: number): string {
  const [before] = BEFORE_WORDS.exec(line) ?? [''];
  const hanging = before.trim() !== '' && before.length <= columns - LEAST_WORDS;
  const own = before.search(/\S|$/);
  const indent = ' '.repeat(hanging ? before.length : own === 0 ? 0 : own + 4);
  const [first, ...others] = line.slice(before.length).split(' ');
  const lines = [before + first];
  for (const word of others) {
    const longer = `${lines[lines.length - 1]} ${word}`;
    if (longer.length > columns) lines.push(indent + word);
    else lines[lines.length - 1] = longer;
  }
  return lines.join('\n');
}

/** Columns that explanations need beside the names of flags; with fewer they go on below the names. */
const LEAST_WORDS = 30;
