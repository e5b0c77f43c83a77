/** What the project wants to reach, and whether it did. */
import type { ShapeName } from './shapes';
import type { Row } from './table';

export type Target = { readonly atLeast: number } | { readonly atMost: number } | { readonly below: number };

/** Tokens per second of training, as a multiple of the peer's. */
export const TRAINING_SPEED: Readonly<Record<ShapeName, Readonly<Record<string, Target>>>> = {
  'smollm2-135m': { 'TRL float32': { atLeast: 2.2 }, 'TRL bf16': { atLeast: 1.4 } },
  'pythia-410m': { 'TRL float32': { atLeast: 2 } },
};

export const TARGETS = {
  /** Of the machine's float32 matrix product. */
  ceilingShare: { atLeast: 0.8 },
  javascriptShare: { below: 0.08 },
  /** Multiple of TRL's in float32. */
  peakMemory: { atMost: 1 },
  /** Multiples of transformers' speed. */
  decoding: { atLeast: 3 },
  scoring: { atLeast: 1.5 },
  /** Seconds. */
  import: { below: 1 },
  compilation: { below: 3 },
} as const satisfies Record<string, Target>;

const UNITS = {
  times: (value: number) => `${value.toFixed(2)} ×`,
  share: (value: number) => `${(value * 100).toFixed(1)}%`,
  seconds: (value: number) => `${value.toFixed(2)} s`,
};

/** A figure that may have a target. */
export interface Measure {
  name: string;
  unit: keyof typeof UNITS;
  /** Undefined when it could not be measured. */
  value: number | undefined;
  /** Whether it is at least the value. */
  isBound?: boolean;
  target?: Target;
}

/** The measure as a row of a table, the verdict last. */
export function verdictRow({ name, unit, value, isBound, target }: Measure): Row {
  return {
    measure: name,
    value: value === undefined ? 'not measured' : `${isBound ? 'over ' : ''}${UNITS[unit](value)}`,
    target: target === undefined ? '' : describeTarget(target, UNITS[unit]),
    verdict: target === undefined ? '' : verdict(value, target),
  };
}

function describeTarget(target: Target, format: (value: number) => string): string {
  if ('atLeast' in target) return `at least ${format(target.atLeast)}`;
  return 'atMost' in target ? `at most ${format(target.atMost)}` : `below ${format(target.below)}`;
}

/** Judges the measured value, not the rounded one that is shown. */
function verdict(value: number | undefined, target: Target): 'met' | 'not met' | 'not measured' {
  if (value === undefined) return 'not measured';
  const met = 'atLeast' in target ? value >= target.atLeast : 'atMost' in target ? value <= target.atMost : value < target.below;
  return met ? 'met' : 'not met';
}

/** a / b, where both are there. */
export function ratio(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a / b;
}
