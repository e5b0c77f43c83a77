/**
 * Chat templates as the engine has read them, mended where it would go on otherwise than Jinja2:
 * - `not` takes an empty list or object for one that holds something;
 * - `==` and `!=` compare as JavaScript does: '' is false, '1' is 1, and what is missing is none;
 * - `tojson(indent=4)` writes the brackets of an empty list or object on lines of their own;
 * - of `selectattr` and `rejectattr`, what lacks an attribute fails all tests of it, that for being undefined, too;
 * - `trim` and `strip()` take U+FEFF for white space, and U+0085 and U+001C to U+001F for none.
 */
import { isObject } from '../json';
import { strip, WHITE_SPACE } from './strip-calls';

/** The part of the engine that reads templates. */
interface TemplateReader {
  _compiled_template_cache?: Map<string, unknown>;
}

/** Has each template mended when it is kept, which is before it is used. */
export function mendTemplates(reader: TemplateReader): void {
  // another version of the package may keep them elsewhere
  if (reader._compiled_template_cache instanceof Map) reader._compiled_template_cache = new MendedTemplates();
}

class MendedTemplates extends Map<string, unknown> {
  override set(key: string, template: unknown): this {
    return super.set(key, mended(template));
  }
}

/** What mended templates call. */
export const MENDING_FUNCTIONS = { __equals: equals, __closed: closed, __strip: strip };

/** The same tree, changed where it is. */
function mended(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(mended);
  if (node instanceof Map) return new Map([...node].map(([key, value]) => [mended(key), mended(value)]));
  if (!isObject(node)) return node;
  for (const [name, value] of Object.entries(node)) node[name] = mended(value);
  const operator = isObject(node.operator) ? node.operator.value : undefined;
  if (node.type === 'UnaryExpression' && operator === 'not') return negated(node.argument);
  if (node.type === 'BinaryExpression' && operator === '==') return compared(node);
  if (node.type === 'BinaryExpression' && operator === '!=') return negated(compared(node));
  const stripped = strippedBy(node);
  if (stripped) return call('__strip', ...stripped);
  if (asksForMissing(node)) return turned(node);
  return isIndented(node) ? call('__closed', node) : node;
}

/** A filter with arguments. */
interface Filtered {
  readonly filter: { readonly callee: { readonly value: string }; readonly args: readonly unknown[] };
}

/** Whether this is `... | selectattr(name, 'undefined')`, or `rejectattr`. */
function asksForMissing(node: Readonly<Record<string, unknown>>): node is Readonly<Record<string, unknown>> & Filtered {
  const { type, filter } = node;
  if (type !== 'FilterExpression' || !isObject(filter) || !Array.isArray(filter.args)) return false;
  const test: unknown = filter.args[1];
  return ['selectattr', 'rejectattr'].some((name) => isNamed(filter.callee, name)) && isObject(test) && test.value === 'undefined';
}

/** To select what is undefined is to reject what is defined. */
function turned(node: Filtered): unknown {
  const { callee, args } = node.filter;
  const other = callee.value === 'selectattr' ? 'rejectattr' : 'selectattr';
  return { ...node, filter: { ...node.filter, callee: named(other), args: args.with(1, text('defined')) } };
}

/** The text and the side, where this is `... | trim`, or a call of `strip`, `lstrip` or `rstrip` without arguments. */
function strippedBy({ type, operand, filter, callee, args }: Readonly<Record<string, unknown>>): unknown[] | undefined {
  if (type === 'FilterExpression' && isNamed(filter, 'trim')) return [operand, text(''), text(WHITE_SPACE)];
  if (type !== 'CallExpression' || !isObject(callee) || callee.type !== 'MemberExpression' || callee.computed) return undefined;
  const side = ['', 'l', 'r'].find((letter) => isNamed(callee.property, `${letter}strip`));
  return side !== undefined && Array.isArray(args) && args.length === 0 ? [callee.object, text(side), text(WHITE_SPACE)] : undefined;
}

/** A condition is read as Jinja2 reads it, whatever its value. */
function negated(condition: unknown): unknown {
  return { type: 'Ternary', condition, trueExpr: named('false'), falseExpr: named('true') };
}

function compared({ left, right }: Readonly<Record<string, unknown>>): unknown {
  // functions get the same for none and for what is missing
  return isNone(right) ? { type: 'TestExpression', operand: left, negate: false, test: named('none') } : call('__equals', left, right);
}

function isNone(node: unknown): boolean {
  return isNamed(node, 'none') || isNamed(node, 'None');
}

function isNamed(node: unknown, name: string): boolean {
  return isObject(node) && node.type === 'Identifier' && node.value === name;
}

function call(name: string, ...args: readonly unknown[]): unknown {
  return { type: 'CallExpression', callee: named(name), args };
}

function named(value: string): unknown {
  return { type: 'Identifier', value };
}

function text(value: string): unknown {
  return { type: 'StringLiteral', value };
}

/** Whether this is `... | tojson(...)`. */
function isIndented({ type, filter }: Readonly<Record<string, unknown>>): boolean {
  return type === 'FilterExpression' && isObject(filter) && isObject(filter.callee) && filter.callee.value === 'tojson';
}

/** Python's `==`, but that lists and objects are the same only as themselves. */
function equals(one: unknown, other: unknown): boolean {
  const isNumber = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean';
  return isNumber(one) && isNumber(other) ? Number(one) === Number(other) : one === other;
}

/** JSON without line ends in what is empty; in its texts there are none. */
function closed(json: unknown): unknown {
  return typeof json === 'string' ? json.replace(/\[\n *\n *\]/g, '[]').replace(/\{\n *\}/g, '{}') : json;
}
