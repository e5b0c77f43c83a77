/** The blocks of a template: from tokens to functions that write their part of the text. */
import { callValue, readArguments, readExpression, readFilter, readList, readOr } from './expressions';
import { TemplateError } from './lexer';
import { loopOf } from './loop';
import { type Parameter, readParameters, toMacro } from './macros';
import { unpack } from './operators';
import type { Expression, Scope, Statement } from './scope';
import type { TokenReader } from './tokens';
import { isTrue, iterate, kindOf, Namespace, type Value } from './values';
import { textOf } from './write';

type Assign = (scope: Scope, value: Value) => void;

/** Everything up to the end of the template, or to a block that ends the one that this is in. */
export function readBody(tokens: TokenReader, ends: readonly string[] = []): Statement {
  const parts: Statement[] = [];
  for (;;) {
    const { kind, text, line } = tokens.current;
    if (kind === 'end' && ends.length === 0) return inOrder(parts);
    if (kind === 'end') throw tokens.wrong(`"${ends[0]}"`);
    if (kind === '{%' && tokens.next.kind === 'name' && ends.includes(tokens.next.text)) {
      tokens.take();
      return inOrder(parts);
    }
    tokens.take();
    parts.push(kind === 'text' ? (_, out) => void out.push(text) : located(line, kind === '{{' ? readOutput(tokens) : readBlock(tokens)));
  }
}

function inOrder(parts: readonly Statement[]): Statement {
  return (scope, out) => {
    for (const part of parts) {
      const signal = part(scope, out);
      if (signal) return signal;
    }
    return undefined;
  };
}

/** What goes wrong is told with the line where it does; what the template itself says, as it says it. */
function located(line: number, statement: Statement): Statement {
  return (scope, out) => {
    try {
      return statement(scope, out);
    } catch (error) {
      if (error instanceof TemplateError || error instanceof Refusal || !(error instanceof Error)) throw error;
      throw new TemplateError(error.message, line);
    }
  };
}

/** What a template says by `raise_exception`. */
export class Refusal extends Error {}

function readOutput(tokens: TokenReader): Statement {
  const value = readList(tokens);
  tokens.expectKind('}}');
  return (scope, out) => void out.push(textOf(value(scope)));
}

const BLOCKS: Readonly<Record<string, (tokens: TokenReader) => Statement>> = {
  if: readIf,
  for: readFor,
  set: readSet,
  macro: readMacro,
  call: readCallBlock,
  filter: readFilterBlock,
  with: readWith,
  generation: readGeneration,
  break: () => () => 'break',
  continue: () => () => 'continue',
};

function readBlock(tokens: TokenReader): Statement {
  const { text, line } = tokens.expectKind('name');
  if (!Object.hasOwn(BLOCKS, text)) throw new TemplateError(`a chat template has no block ${JSON.stringify(text)}`, line);
  const statement = BLOCKS[text](tokens);
  tokens.expectKind('%}');
  return statement;
}

/** The inside of a block, whose closing word is gone behind. */
function readInside(tokens: TokenReader, end: string): Statement {
  tokens.expectKind('%}');
  const body = readBody(tokens, [end]);
  tokens.expect(end);
  return body;
}

/** What a block writes, as a text. */
function written(body: Statement, scope: Scope): string {
  const out: string[] = [];
  body(scope, out);
  return out.join('');
}

function readIf(tokens: TokenReader): Statement {
  const condition = readExpression(tokens);
  tokens.expectKind('%}');
  const then = readBody(tokens, ['elif', 'else', 'endif']);
  const otherwise = readOtherwise(tokens);
  return (scope, out) => (isTrue(condition(scope)) ? then(scope, out) : otherwise?.(scope, out));
}

function readOtherwise(tokens: TokenReader): Statement | undefined {
  const { line } = tokens.current;
  if (tokens.skip('elif')) return located(line, readIf(tokens));
  const body = tokens.skip('else') ? readElse(tokens, 'endif') : undefined;
  tokens.expect('endif');
  return body;
}

function readElse(tokens: TokenReader, end: string): Statement {
  tokens.expectKind('%}');
  return readBody(tokens, [end]);
}

function readFor(tokens: TokenReader): Statement {
  const assign = readTargets(tokens);
  tokens.expect('in');
  const list = readList(tokens, readOr);
  const condition = tokens.skip('if') ? readExpression(tokens) : undefined;
  const recursive = tokens.skip('recursive');
  tokens.expectKind('%}');
  const body = readBody(tokens, ['else', 'endfor']);
  const empty = tokens.skip('else') ? readElse(tokens, 'endfor') : undefined;
  tokens.expect('endfor');
  const run = (scope: Scope, out: string[], values: Value, depth: number): ReturnType<Statement> => {
    const items = chosen(scope, values, assign, condition);
    if (items.length === 0) return empty?.(scope.inner(), out);
    const deeper = (inner: Value): string => {
      const part: string[] = [];
      run(scope, part, inner, depth + 1);
      return part.join('');
    };
    for (const index of items.keys()) {
      // what one round sets, the next does not see
      const round = scope.inner([['loop', loopOf(items, index, depth, recursive ? deeper : undefined)]]);
      assign(round, items[index]);
      if (body(round, out) === 'break') break;
    }
    return undefined;
  };
  return (scope, out) => run(scope, out, list(scope), 0);
}

function chosen(scope: Scope, values: Value, assign: Assign, condition: Expression | undefined): Value[] {
  const items = [...iterate(values)];
  if (!condition) return items;
  return items.filter((item) => {
    const inner = scope.inner();
    assign(inner, item);
    return isTrue(condition(inner));
  });
}

/** A name, names in a row, or a field of a namespace. */
function readTargets(tokens: TokenReader): Assign {
  const first = readTarget(tokens);
  if (!tokens.is(',')) return first;
  const targets = [first];
  while (tokens.skip(',') && tokens.current.kind !== '%}' && !tokens.isAny(['in', '=', ')'])) targets.push(readTarget(tokens));
  return (scope, value) => {
    for (const [index, item] of unpack(value, targets.length).entries()) targets[index](scope, item);
  };
}

function readTarget(tokens: TokenReader): Assign {
  if (tokens.skip('(')) {
    const targets = readTargets(tokens);
    tokens.expect(')');
    return targets;
  }
  const name = tokens.expectKind('name').text;
  if (!tokens.skip('.')) return (scope, value) => scope.set(name, value);
  const field = tokens.expectKind('name').text;
  return (scope, value) => {
    const space = scope.get(name);
    if (!(space instanceof Namespace)) throw new Error(`a field is set of ${kindOf(space)}, but only a namespace lets it be set`);
    space.fields.set(field, value);
  };
}

function readSet(tokens: TokenReader): Statement {
  const assign = readTargets(tokens);
  if (tokens.skip('=')) {
    const value = readList(tokens);
    return (scope) => void assign(scope, value(scope));
  }
  const filters = readPipe(tokens, false);
  const body = readInside(tokens, 'endset');
  return (scope) => void assign(scope, filters(scope, written(body, scope.inner())));
}

/** Filters in a row, over what a block writes. @param first whether one stands there without a "|" */
function readPipe(tokens: TokenReader, first: boolean): (scope: Scope, text: string) => Value {
  let text = '';
  let value: Expression = () => text;
  for (let next = first || tokens.skip('|'); next; next = tokens.skip('|')) value = readFilter(tokens, value);
  return (scope, given) => {
    text = given;
    return value(scope);
  };
}

function readFilterBlock(tokens: TokenReader): Statement {
  const filters = readPipe(tokens, true);
  const body = readInside(tokens, 'endfilter');
  return (scope, out) => void out.push(textOf(filters(scope, written(body, scope.inner()))));
}

function readWith(tokens: TokenReader): Statement {
  const names: Array<readonly [Assign, Expression]> = [];
  while (tokens.current.kind !== '%}') {
    if (names.length > 0) tokens.expect(',');
    const assign = readTarget(tokens);
    tokens.expect('=');
    names.push([assign, readExpression(tokens)]);
  }
  const body = readInside(tokens, 'endwith');
  return (scope, out) => {
    const inner = scope.inner();
    for (const [assign, value] of names) assign(inner, value(scope));
    return body(inner, out);
  };
}

function readMacro(tokens: TokenReader): Statement {
  const name = tokens.expectKind('name').text;
  const parameters = readParameters(tokens);
  const body = readInside(tokens, 'endmacro');
  return (scope) =>
    void scope.set(
      name,
      toMacro(name, parameters, (inner) => written(body, inner), scope),
    );
}

function readCallBlock(tokens: TokenReader): Statement {
  const parameters: Parameter[] = tokens.is('(') ? readParameters(tokens) : [];
  const { line } = tokens.current;
  const callee = readCallee(tokens);
  const given = readArguments(tokens);
  const body = readInside(tokens, 'endcall');
  return located(line, (scope, out) => {
    const [args, named] = given(scope);
    const caller = toMacro('caller', parameters, (inner) => written(body, inner), scope);
    return void out.push(textOf(callValue(callee(scope), [args, new Map([...named, ['caller', caller]])])));
  });
}

/** A name, without the arguments behind it. */
function readCallee(tokens: TokenReader): Expression {
  const name = tokens.expectKind('name').text;
  return (scope) => scope.get(name);
}

function readGeneration(tokens: TokenReader): Statement {
  const body = readInside(tokens, 'endgeneration');
  return (scope, out) => {
    const [opens, closes] = scope.rendering.marks;
    return void out.push(opens + written(body, scope.inner()) + closes);
  };
}
