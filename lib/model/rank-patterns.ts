/** Ranks and scales that differ from layer to layer of an adapter (PEFT's rank_pattern and alpha_pattern). */
import { messageOf } from '../errors';
import { patternMatcher } from './name-patterns';

/** Values by regular expressions, each for the names that it matches, or their ends behind a dot; the first of them counts. */
export type Patterns = Readonly<Record<string, number>>;

export interface Ranks {
  readonly r: number;
  readonly loraAlpha: number;
  readonly useRslora: boolean;
  readonly rankPattern?: Patterns;
  readonly alphaPattern?: Patterns;
}

/** The rank of the matrices beside a layer, or a parameter. */
export function rankOf(name: string, { r, rankPattern }: Ranks): number {
  return valueFor(name, rankPattern) ?? r;
}

/** What the product of those matrices is multiplied by. */
export function scalingOf(name: string, ranks: Ranks): number {
  const r = rankOf(name, ranks);
  return (valueFor(name, ranks.alphaPattern) ?? ranks.loraAlpha) / (ranks.useRslora ? Math.sqrt(r) : r);
}

/** What is wrong with patterns; undefined if nothing is. */
export function faultOf(patterns: Patterns): string | undefined {
  try {
    for (const pattern of Object.keys(patterns)) new RegExp(`(?:${pattern})`);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

function valueFor(name: string, patterns: Patterns = {}): number | undefined {
  return Object.entries(patterns).find(([pattern]) => matcher(pattern)(name))?.[1];
}

/** By their patterns: every layer asks them. */
const matchers = new Map<string, (name: string) => boolean>();

function matcher(pattern: string): (name: string) => boolean {
  const known = matchers.get(pattern) ?? patternMatcher(pattern, "The patterns of the adapter's ranks and alphas", '(?:.*\\.)?');
  matchers.set(pattern, known);
  return known;
}
