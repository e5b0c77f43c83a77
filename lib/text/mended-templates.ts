/**
 * Chat templates as the engine has read them, mended where it would go on otherwise than Jinja2:
 * - `not` takes an empty list or object for one that holds something;
 * - `==` and `!=` compare as JavaScript does: '' is false, '1' is 1, and what is missing is none;
 * - `tojson(indent=4)` writes the brackets of an empty list or object on lines of their own.
 */
import { isObject } from '../json';

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
  override set(text: string, template: unknown): this {
    return super.set(text, mended(template));
  }
}

/** What mended templates call. */
export const MENDING_FUNCTIONS = { __equals: equals, __closed: closed };

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
  return isIndented(node) ? call('__closed', node) : node;
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
  return isObject(node) && node.type === 'Identifier' && (node.value === 'none' || node.value === 'None');
}

function call(name: string, ...args: readonly unknown[]): unknown {
  return { type: 'CallExpression', callee: named(name), args };
}

function named(value: string): unknown {
  return { type: 'Identifier', value };
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
