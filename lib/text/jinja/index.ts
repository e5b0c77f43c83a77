/**
 * Jinja2 as far as chat templates need it, with the values of Python: what transformers' `apply_chat_template` writes is what is written
 * here. Templates become functions once and are then called.
 */
import { strftime } from '../strftime';
import { tokenize } from './lexer';
import { unpack } from './operators';
import { Scope } from './scope';
import { Refusal, readBody } from './statements';
import { TokenReader } from './tokens';
import { Callable, iterate, kindOf, Namespace, numberOf, toValue, type Value } from './values';
import { textOf } from './write';

/** How a template is written out. */
export interface RenderOptions {
  /** The time that `strftime_now` tells. Default: the present. */
  readonly now?: Date;
  /** What is written around that which a `{% generation %}` block wrote; nothing by default. */
  readonly marks?: readonly [opens: string, closes: string];
}

/** A template that was read. */
export type Template = (names: Readonly<Record<string, unknown>>, options?: RenderOptions) => string;

const NO_MARKS = ['', ''] as const;

/** @throws Error with the line of the template that cannot be read */
export function readTemplate(source: string): Template {
  const body = readBody(new TokenReader(tokenize(source)));
  return (names, { now, marks = NO_MARKS } = {}) => {
    const values = Object.entries(names).flatMap(
      ([name, value]): Array<[string, Value]> => (value === undefined ? [] : [[name, toValue(value)]]),
    );
    const scope = new Scope({ marks }, undefined, [...globals(now), ...values]);
    const out: string[] = [];
    body(scope.inner(), out);
    return out.join('');
  };
}

function globals(now: Date | undefined): Array<[string, Value]> {
  const functions: Record<string, Callable['call']> = {
    range: (args) => range(args),
    dict: (args, named) => fieldsOf(args, named),
    namespace: (args, named) => new Namespace(fieldsOf(args, named)),
    raise_exception: ([message]) => {
      throw new Refusal(message === undefined ? 'it refuses the messages' : textOf(message));
    },
    strftime_now: ([format]) => strftime(now ?? new Date(), textOf(format)),
  };
  return Object.entries(functions).map(([name, call]) => [name, new Callable(call)]);
}

/** Jinja2's own limit in its sandbox, where transformers writes templates: they come with models of strangers. */
const LONGEST_RANGE = 100_000;

function range(args: readonly Value[]): Value[] {
  const [from, to, step = 1] = (args.length === 1 ? [0, args[0]] : args).map((value) => {
    const number = numberOf(value);
    if (number === undefined) throw new Error(`range() is given ${kindOf(value)}`);
    return number;
  });
  if (step === 0) throw new Error('range() is given a step of 0');
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (length > LONGEST_RANGE) throw new Error(`range() is asked for ${length} numbers; a template has at most ${LONGEST_RANGE} at a time`);
  return Array.from({ length }, (_, index) => from + index * step);
}

function fieldsOf([first]: readonly Value[], named: ReadonlyMap<string, Value>): Map<Value, Value> {
  const own =
    first === undefined ? [] : first instanceof Map ? [...first] : Array.from(iterate(first), (pair) => unpack(pair, 2) as [Value, Value]);
  return new Map<Value, Value>([...own, ...named]);
}
