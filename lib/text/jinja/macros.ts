/** Macros of a template: functions that return what their body writes. */
import { readExpression } from './expressions';
import type { Expression, Scope } from './scope';
import type { TokenReader } from './tokens';
import { Callable, type Named, tupleOf, Undefined, type Value } from './values';

export interface Parameter {
  readonly name: string;
  readonly otherwise?: Expression;
}

/** `(a, b=1)`. */
export function readParameters(tokens: TokenReader): Parameter[] {
  const parameters: Parameter[] = [];
  tokens.expect('(');
  while (!tokens.skip(')')) {
    if (parameters.length > 0) tokens.expect(',');
    const name = tokens.expectKind('name').text;
    parameters.push({ name, ...(tokens.skip('=') && { otherwise: readExpression(tokens) }) });
  }
  return parameters;
}

/** @param scope where the macro stands, whose names it sees */
export function toMacro(name: string, parameters: readonly Parameter[], body: (scope: Scope) => string, scope: Scope): Callable {
  return new Callable((args, named) => {
    const inner = scope.inner();
    for (const [key, value] of surplus(parameters, args, named)) inner.set(key, value);
    // a later parameter's default may name an earlier one
    for (const [index, parameter] of parameters.entries()) inner.set(parameter.name, argument(name, parameter, args[index], named, inner));
    return body(inner);
  });
}

function argument(macro: string, { name, otherwise }: Parameter, given: Value | undefined, named: Named, scope: Scope): Value {
  const value = given === undefined ? named.get(name) : given;
  if (value !== undefined) return value;
  return otherwise ? otherwise(scope) : new Undefined(`${JSON.stringify(name)} is not given to the macro ${JSON.stringify(macro)}`);
}

/** What is given beyond the parameters. */
function surplus(parameters: readonly Parameter[], args: readonly Value[], named: Named): Array<[string, Value]> {
  const known = new Set(parameters.map(({ name }) => name));
  const others = new Map<Value, Value>([...named].filter(([name]) => !known.has(name) && name !== 'caller'));
  const caller: Array<[string, Value]> = named.has('caller') ? [['caller', named.get('caller') as Value]] : [];
  return [['varargs', tupleOf(args.slice(parameters.length))], ['kwargs', others], ...caller];
}
