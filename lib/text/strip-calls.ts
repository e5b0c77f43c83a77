/**
 * The template engine takes `text.strip('\n')` for `text.strip()`, and so with `lstrip` and `rstrip`: white space is lost that Python leaves.
 * Calls with characters to strip are therefore written as calls of a function that is given to the template.
 */
const CALL = /\.([lr]?)strip\((?!\s*\))/g;

/** The template with such calls as `__strip(text, 'l', characters)`; what cannot be told apart stays as it is. */
export function rewriteStripCalls(template: string): string {
  let text = template;
  let from = 0;
  for (;;) {
    CALL.lastIndex = from;
    const match = CALL.exec(text);
    if (!match) return text;
    const open = match.index + match[0].length;
    const [start, close] = [startOfOperand(text, match.index), endOfArguments(text, open)];
    from = open;
    if (start === undefined || start === match.index || close === undefined || !isInTag(text, start)) continue;
    const written = `__strip(${text.slice(start, match.index)}, '${match[1]}', ${text.slice(open, close)}`;
    text = text.slice(0, start) + written + text.slice(close);
    from = start + written.length;
  }
}

/** What Python strips where it is not told what. */
export const WHITE_SPACE =
  '\t\n\v\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000';

/** Python's `strip`, `lstrip` and `rstrip`. @throws Error where there is no text */
export function strip(text: unknown, side: unknown = '', characters: unknown = WHITE_SPACE): string {
  if (typeof text !== 'string' || typeof characters !== 'string')
    throw new Error(`${side}strip() needs a text and the characters to strip`);
  const set = new Set(characters);
  // only the characters at the ends are looked at: texts may be long
  let [start, end] = [0, text.length];
  while (side !== 'r' && start < end) {
    const letter = String.fromCodePoint(text.codePointAt(start) ?? 0);
    if (!set.has(letter)) break;
    start += letter.length;
  }
  while (side !== 'l' && start < end) {
    const letter = [...text.slice(Math.max(start, end - 2), end)].at(-1) ?? '';
    if (!set.has(letter)) break;
    end -= letter.length;
  }
  return text.slice(start, end);
}

function isInTag(template: string, at: number): boolean {
  const last = (...marks: string[]): number => Math.max(...marks.map((mark) => template.lastIndexOf(mark, at)));
  return last('{{', '{%') > last('}}', '%}');
}

/** Where the names, calls, indices and texts begin that end before `end`. */
function startOfOperand(template: string, end: number): number | undefined {
  let at = end;
  for (;;) {
    const sign = template[at - 1] ?? '';
    if (/[\w.]/.test(sign)) at--;
    else if (/[)\]'"]/.test(sign)) {
      const start = startOfGroup(template, at - 1);
      if (start === undefined) return undefined;
      at = start;
    } else return at;
  }
}

/** Where the bracket or the text opens that closes at `close`; undefined where quotes are escaped in it. */
function startOfGroup(template: string, close: number): number | undefined {
  let depth = 0;
  for (let at = close; at >= 0; at--) {
    const sign = template[at];
    if (sign === "'" || sign === '"') {
      at = template.lastIndexOf(sign, at - 1);
      if (at < 0 || template[at - 1] === '\\') return undefined;
    } else if (sign === ')' || sign === ']' || sign === '}') depth++;
    else if (sign === '(' || sign === '[' || sign === '{') depth--;
    if (depth === 0) return at;
  }
  return undefined;
}

/** Where the parenthesis is that closes the one before `start`. */
function endOfArguments(template: string, start: number): number | undefined {
  let depth = 1;
  for (let at = start; at < template.length; at++) {
    const sign = template[at];
    if (sign === "'" || sign === '"') {
      for (at++; at < template.length && template[at] !== sign; at++) if (template[at] === '\\') at++;
    } else if (sign === '(') depth++;
    else if (sign === ')' && --depth === 0) return at;
  }
  return undefined;
}
