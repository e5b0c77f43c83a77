/** Runs one command line and returns its exit code. */
import { UserError } from '../errors';
import { nearest } from '../nearest';
import { isOn } from './flags';
import { guardStandardError, guardStandardOutput, Output } from './output';
import { commonFlags, type VerbResult, verbs } from './verbs';

/** @param words the command line after the program's name */
export async function main(words: readonly string[]): Promise<number> {
  const output = new Output(isOn('json', commonFlags.json, words));
  guardStandardOutput();
  guardStandardError();
  try {
    const result = await run(words, output);
    output.result(result);
    return result.exitCode ?? 0;
  } catch (error) {
    output.error(error, Object.keys(verbs.find(({ name }) => name === words[0])?.flags ?? {}), words);
    return 1;
  }
}

async function run([first, ...rest]: readonly string[], output: Output): Promise<VerbResult> {
  const verb = verbs.find(({ name }) => name === first);
  const wantsHelp = (word: string | undefined): boolean => word === '--help' || word === '-h' || word === 'help';
  if (verb && !wantsHelp(rest[0]) && !isOn('help', commonFlags.help, rest)) return (await verb.load()).run(rest, output);
  if (first === '--version' || first === '-v') {
    const found = await version();
    return { json: { version: found }, text: found };
  }
  const { fitted, programHelp, verbHelp } = await import('./help.js');
  if (verb || wantsHelp(first)) {
    const text = verb ? verbHelp(verb) : programHelp();
    return { json: { help: text }, text: fitted(text, process.stdout.columns) };
  }
  if (first === undefined) throw new UserError(`tunebook needs a verb: ${names()}; tunebook --help explains them.`);
  const near = nearest(
    first,
    verbs.map(({ name }) => name),
  );
  throw new UserError(
    `${JSON.stringify(first)} is no verb of tunebook; ${near ? `the nearest is ${near}, and ` : ''}there are ${names()}.`,
  );
}

function names(): string {
  const all = verbs.map(({ name }) => name);
  return `${all.slice(0, -1).join(', ')} and ${all[all.length - 1]}`;
}

async function version(): Promise<string> {
  const [{ readJson }, { projectRoot }] = await Promise.all([import('../files.js'), import('../project.js')]);
  return (readJson(`${projectRoot}/package.json`) as { version: string }).version;
}
