/** Where the names in a template are looked up. */
import { Undefined, type Value } from './values';

/** What one rendering needs beside names. */
export interface Rendering {
  /** What is written around that which a `{% generation %}` block wrote. */
  readonly marks: readonly [opens: string, closes: string];
}

/** A block with names of its own; what it does not have, the blocks around it may. */
export class Scope {
  private readonly names: Map<string, Value>;

  constructor(
    readonly rendering: Rendering,
    private readonly outer?: Scope,
    names: Iterable<readonly [string, Value]> = [],
  ) {
    this.names = new Map(names);
  }

  inner(names: Iterable<readonly [string, Value]> = []): Scope {
    return new Scope(this.rendering, this, names);
  }

  get(name: string): Value {
    for (let scope: Scope | undefined = this; scope; scope = scope.outer) {
      const value = scope.names.get(name);
      if (value !== undefined) return value;
    }
    return new Undefined(`${JSON.stringify(name)} is not defined`);
  }

  set(name: string, value: Value): void {
    this.names.set(name, value);
  }
}

/** Computes a value. */
export type Expression = (scope: Scope) => Value;

/** Writes its part of the text; `break` and `continue` are for the loop around it. */
export type Statement = (scope: Scope, out: string[]) => 'break' | 'continue' | undefined;
