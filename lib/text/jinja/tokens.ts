/** The tokens of a template, read one after the other. */
import { TemplateError, type Token } from './lexer';

export class TokenReader {
  private at = 0;

  constructor(private readonly tokens: readonly Token[]) {}

  get current(): Token {
    return this.tokens[this.at];
  }

  get next(): Token {
    return this.tokens[Math.min(this.at + 1, this.tokens.length - 1)];
  }

  take(): Token {
    const token = this.current;
    if (token.kind !== 'end') this.at++;
    return token;
  }

  /** Whether the current token is this sign or word. */
  is(text: string, token: Token = this.current): boolean {
    return (token.kind === 'operator' || token.kind === 'name') && token.text === text;
  }

  isAny(texts: readonly string[]): boolean {
    return texts.some((text) => this.is(text));
  }

  /** Goes on behind this sign or word, if it is the current one. */
  skip(text: string): boolean {
    const found = this.is(text);
    if (found) this.at++;
    return found;
  }

  /** @throws TemplateError where another token stands */
  expect(text: string): void {
    if (!this.skip(text)) throw this.wrong(JSON.stringify(text));
  }

  expectKind(kind: Token['kind']): Token {
    if (this.current.kind !== kind) throw this.wrong(kind === 'name' ? 'a name' : JSON.stringify(kind));
    return this.take();
  }

  wrong(expected: string): TemplateError {
    const { kind, text, line } = this.current;
    const found =
      kind === 'end' ? 'the template ends' : `found ${JSON.stringify(kind === 'text' || text !== '' ? text.slice(0, 40) : kind)}`;
    return new TemplateError(`${expected} was expected, but ${found}`, line);
  }
}
