/** Regular expressions that name modules of a model. They come from files, too: one that would take for ever is ended. */
import * as vm from 'node:vm';
import { codeOf, messageOf, UserError } from '../errors';
import { showValue } from '../json';

/** How long one name may take, in milliseconds; usual patterns take microseconds. */
const PATIENCE = 2000;

const MATCH = new vm.Script('pattern.test(name)');

/**
 * @param of what the pattern is, as an error names it; more than one thing
 * @param before what may stand before it in a name, as a pattern
 * @returns whether a pattern means a name, the whole of it
 * @throws UserError when it is no pattern, or takes too long to tell
 */
export function patternMatcher(text: string, of = 'The target modules of the adapter', before = ''): (name: string) => boolean {
  const refuse = (what: string, cause: unknown): UserError => new UserError(`${of}, ${showValue(text)}, ${what}.`, { cause });
  const scope = vm.createContext({ pattern: compile(text, before, refuse), name: '' });
  return (name) => {
    scope.name = name;
    try {
      return MATCH.runInContext(scope, { timeout: PATIENCE });
    } catch (error) {
      if (codeOf(error) !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
      throw refuse(
        'are a regular expression that takes too long; write no repetition within another, such as (.*)*, or a list of names',
        error,
      );
    }
  };
}

function compile(text: string, before: string, refuse: (what: string, cause: unknown) => UserError): RegExp {
  try {
    return new RegExp(`^${before}(?:${text})$`);
  } catch (error) {
    throw refuse(`are no regular expression: ${messageOf(error)}`, error);
  }
}
