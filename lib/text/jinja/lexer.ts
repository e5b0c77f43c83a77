/** From the text of a template to its tokens, with the white space that `trim_blocks` and `lstrip_blocks` leave, as transformers sets them. */
import { stripText } from './strip';

export interface Token {
  readonly kind: 'text' | '{{' | '}}' | '{%' | '%}' | 'name' | 'string' | 'number' | 'operator' | 'end';
  /** A text or name, the value of a string, the digits of a number, the signs of an operator. */
  readonly text: string;
  readonly line: number;
}

/** A template that cannot be read, or a value that cannot be computed, at a line of it. */
export class TemplateError extends Error {
  constructor(
    message: string,
    readonly line: number,
  ) {
    super(`line ${line}: ${message}`);
  }
}

const OPENINGS = /\{%([-+]?)\s*raw\s*(?:-%\}\s*|%\})|\{[%#]([-+]?)|\{\{([-+]?)/g;
const RAW_END = /\{%([-+]?)\s*endraw\s*(?:\+%\}|-%\}\s*|%\}\n?)/g;
const COMMENT_END = /\+#\}|-#\}\s*|#\}\n?/g;
const ENDS = { '{{': /-\}\}\s*|\}\}/y, '{%': /\+%\}|-%\}\s*|%\}\n?/y } as const;

const SPACE = /\s+/y;
const NAME = /[\p{L}_][\p{L}\p{N}\p{M}_]*/uy;
const NUMBER = /0[xX][\da-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?/y;
const STRING = /'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*"/y;
const OPERATOR = /\*\*|\/\/|==|!=|<=|>=|[-+*/%~[\](){}<>=.,:|;]/y;

/** What stands in a tag, in the order in which it is looked for. */
const PARTS: ReadonlyArray<{ kind: Token['kind']; pattern: RegExp; read?: (found: string) => string }> = [
  { kind: 'name', pattern: NAME },
  { kind: 'number', pattern: NUMBER, read: (digits) => digits.replaceAll('_', '') },
  { kind: 'string', pattern: STRING, read: (text) => withoutEscapes(text.slice(1, -1)) },
  { kind: 'operator', pattern: OPERATOR },
];

/** @throws TemplateError where something is not closed, or stands where it cannot */
export function tokenize(source: string): Token[] {
  return new Lexer(source.replace(/\r\n?/g, '\n').replace(/\n$/, '')).read();
}

class Lexer {
  private readonly tokens: Token[] = [];
  private at = 0;
  private line = 1;
  /** Up to where lines are counted. */
  private counted = 0;
  private atLineStart = true;

  constructor(private readonly source: string) {}

  read(): Token[] {
    for (;;) {
      OPENINGS.lastIndex = this.at;
      const found = OPENINGS.exec(this.source);
      if (!found) break;
      const [opening, ...signs] = found;
      const sign = signs.find((given) => given !== undefined) ?? '';
      const kind = opening.startsWith('{{') ? '{{' : opening.startsWith('{#') ? '{#' : signs[0] === undefined ? '{%' : 'raw';
      this.addText(this.source.slice(this.at, found.index), sign, kind !== '{{');
      this.at = found.index + opening.length;
      if (kind === '{#') this.skipTo(COMMENT_END, 'A comment');
      else if (kind === 'raw') this.addRaw();
      else this.readTag(kind);
      this.atLineStart = this.source[this.at - 1] === '\n';
    }
    this.add('text', this.source.slice(this.at));
    this.add('end', '');
    return this.tokens;
  }

  private add(kind: Token['kind'], text: string): void {
    if (kind !== 'text' || text !== '') this.tokens.push({ kind, text, line: this.lineHere() });
  }

  private lineHere(): number {
    for (; this.counted < this.at; this.counted++) if (this.source[this.counted] === '\n') this.line++;
    return this.line;
  }

  /** The text before a tag: "-" takes its white space away, and a block the spaces of the line that it begins. */
  private addText(text: string, sign: string, isBlock: boolean): void {
    const from = text.lastIndexOf('\n') + 1;
    const opensLine = isBlock && sign === '' && (from > 0 || this.atLineStart) && /^\s+$/.test(text.slice(from));
    this.add('text', sign === '-' ? stripText(text, 'r') : opensLine ? text.slice(0, from) : text);
  }

  private skipTo(end: RegExp, what: string): RegExpExecArray {
    end.lastIndex = this.at;
    const found = end.exec(this.source);
    if (!found) throw new TemplateError(`${what} is not closed`, this.lineHere());
    this.at = found.index + found[0].length;
    return found;
  }

  private addRaw(): void {
    const from = this.at;
    const end = this.skipTo(RAW_END, 'A raw block');
    this.atLineStart = false;
    this.addText(this.source.slice(from, end.index), end[1], true);
  }

  private readTag(kind: '{{' | '{%'): void {
    this.add(kind, '');
    const end = ENDS[kind];
    let depth = 0;
    for (;;) {
      if (this.match(SPACE) !== undefined) continue;
      // a brace that closes an object is no end of the tag
      if (depth === 0 && this.match(end) !== undefined) break;
      depth += this.readPart();
    }
    this.add(kind === '{{' ? '}}' : '%}', '');
  }

  /** One token of a tag. @returns how much deeper it is in brackets */
  private readPart(): number {
    for (const { kind, pattern, read } of PARTS) {
      const found = this.match(pattern);
      if (found === undefined) continue;
      this.add(kind, read ? read(found) : found);
      return kind !== 'operator' ? 0 : '([{'.includes(found) ? 1 : ')]}'.includes(found) ? -1 : 0;
    }
    const sign = this.source.slice(this.at, this.at + 1);
    throw new TemplateError(sign === '' ? 'A tag is not closed' : `${JSON.stringify(sign)} cannot stand in a tag`, this.lineHere());
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.source)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }
}

const ESCAPED: Readonly<Record<string, string>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** The escapes of Python; what is none stays as it is written. */
function withoutEscapes(text: string): string {
  return text.replace(
    /\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([\s\S]))/g,
    (whole, x?: string, u?: string, long?: string, octal?: string, letter = '') => {
      const digits = x ?? u ?? long;
      if (digits !== undefined) return String.fromCodePoint(Number.parseInt(digits, 16));
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      return Object.hasOwn(ESCAPED, letter) ? ESCAPED[letter] : whole;
    },
  );
}
