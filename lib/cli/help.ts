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
