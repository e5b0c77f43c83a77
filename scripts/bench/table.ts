/** What the bench prints. */
import { tableText } from '../../lib/table';
import type { Outcome } from './child';

/** A line of a table; its keys are the columns. */
export type Row = Readonly<Record<string, string>>;

/** The result of one work on one model. */
export interface Section {
  title: string;
  tables: Row[][];
  /** Sentences about what must not be: losses that differ, or no result of this project's own. */
  problems: string[];
  /** The figures themselves, for --json. */
  data: object;
}

/** The section as text. */
export function sectionText({ title, tables }: Section): string {
  const parts = tables.filter((rows) => rows.length > 0).map(tableText);
  return [`== ${title} ==`, ...parts].join('\n\n');
}

/** Problems so that nobody overlooks them; empty when there are none. */
export function problemsText(problems: readonly string[]): string {
  if (problems.length === 0) return '';
  return ['!! WRONG !!', ...problems.map((problem) => `!! ${problem}`)].join('\n');
}

/** A number with fixed decimals; empty where it is absent. */
export function fixed(value: number | undefined, decimals: number): string {
  return value === undefined ? '' : value.toFixed(decimals);
}

/** A share as percent. */
export function percent(value: number | undefined): string {
  return value === undefined ? '' : `${(value * 100).toFixed(1)}%`;
}

/** Bytes as 10⁹ bytes. */
export function gigabytes(bytes: number | undefined): string {
  return bytes === undefined ? '' : (bytes / 1e9).toFixed(2);
}

/** A run that was made twice: the first call with compilation, the second without. */
interface TwiceTimed {
  firstSeconds: number;
  seconds: number;
  peakBytes: number;
}

/** An engine's row: its speed in the second call and in the first, or why there is none. */
export function outcomeRow<T extends TwiceTimed>(engine: string, outcome: Outcome<T>, tokensOf: (result: T) => number): Row {
  if ('failure' in outcome) return { engine, 'tokens/s': '', 'first call, tokens/s': '', 'peak GB': '', note: outcome.failure };
  const { result } = outcome;
  const tokens = tokensOf(result);
  return {
    engine,
    'tokens/s': fixed(tokens / result.seconds, 1),
    'first call, tokens/s': fixed(tokens / result.firstSeconds, 1),
    'peak GB': gigabytes(result.peakBytes),
  };
}
