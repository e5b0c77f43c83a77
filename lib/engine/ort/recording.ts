/** A graph that has been recorded once, kept in order to run it again on other data. */
import { type DataId, engine, type Variable } from '@tensorflow/tfjs-core';
import { donorsOf } from './host-memory';
import type { NumericType } from './kernel';
import type { Precision } from './onnx';
import type { Cut } from './program';
import { type Layout, Value } from './value';

interface RecordedFeed {
  readonly source: number | Value;
  readonly layout: Layout;
  /** Whether somebody held the value then; what nobody did is a constant that was made while the graph was recorded. */
  readonly held: boolean;
}

export interface Recording {
  /** What the graph reads, in its order: one of the inputs, by its place among them, or a value that stays. */
  readonly feeds: readonly RecordedFeed[];
  /** What it computes, in its order. */
  readonly fetches: ReadonlyArray<{ readonly shape: readonly number[]; readonly dtype: NumericType }>;
  /** The fetch that each output is. */
  readonly outputs: readonly number[];
  /** Outputs that an input may become, in its place: the fetch, and the input. */
  readonly donors: ReadonlyArray<readonly [fetch: number, input: number]>;
}

/** A recording that has begun. */
export interface Begun {
  inputs: Value[];
  /** Runs and reads before it. */
  events: number;
}

/** A recording, and what it was made with. */
export interface Recorded extends Recording {
  /** What finds its compiled graph. */
  readonly key: string;
  readonly precision: Precision;
  /** The variables that it reads, and where their data was. */
  readonly variables: ReadonlyArray<{ readonly variable: Variable; readonly dataId: DataId }>;
}

/**
 * What there is to know of a cut, before it runs, for running it again.
 * @param inputs values that are others the next time
 * @param outputs values that the cut computes
 * @returns undefined if it cannot run again: it computes more than the outputs, two inputs are one, or one is to lie in blocks
 */
export function recordingOf(cut: Cut, inputs: readonly Value[], outputs: readonly Value[]): Recording | undefined {
  const placeOf = new Map(inputs.map((value, index) => [value, index]));
  const fetchOf = new Map(cut.fetches.map((value, index) => [value, index]));
  if (placeOf.size < inputs.length || fetchOf.size > new Set(outputs).size) return undefined;
  if (inputs.some(({ layout }) => layout !== 'rows')) return undefined;
  const isOnce = (value: Value): boolean => outputs.indexOf(value) === outputs.lastIndexOf(value);
  const donors = [...donorsOf(cut, (feed) => placeOf.has(feed) && feed.handles === 0)].filter(([result]) => isOnce(result));
  return {
    feeds: cut.feeds.map((value) => ({ source: placeOf.get(value) ?? value, layout: value.layout, held: value.handles > 0 })),
    fetches: cut.fetches.map(({ shape, dtype }) => ({ shape, dtype })),
    outputs: outputs.map((value) => fetchOf.get(value) as number),
    donors: donors.map(([result, input]) => [fetchOf.get(result) as number, placeOf.get(input) as number]),
  };
}

/**
 * What to run for a recording on other inputs; it has no nodes. A fetch that an input may become is that input.
 * @param mayChange whether an input, by its place, may be changed
 */
export function cutOf({ feeds, fetches, donors }: Recording, inputs: readonly Value[], mayChange: (input: number) => boolean): Cut {
  const inPlace = new Map(donors.filter(([, input]) => mayChange(input)).map(([fetch, input]) => [fetch, inputs[input]]));
  return {
    nodes: [],
    feeds: feeds.map(({ source }) => (typeof source === 'number' ? inputs[source] : source)),
    fetches: fetches.map(({ shape, dtype }, fetch) => inPlace.get(fetch) ?? new Value(shape, dtype)),
  };
}

/**
 * Variables whose data a recording reads: an assignment gives them other data, while a copy may hold the old.
 * @param valueBehind the value of a tensor's data; undefined if it has none here
 */
export function variablesOf({ feeds }: Recording, valueBehind: (dataId: DataId) => Value | undefined): Recorded['variables'] {
  const sources = new Set(feeds.map(({ source }) => source));
  const isRead = ({ dataId }: Variable): boolean => {
    const value = valueBehind(dataId);
    return value !== undefined && sources.has(value);
  };
  const variables = Object.values(engine().registeredVariables).filter(isRead);
  return variables.map((variable) => ({ variable, dataId: variable.dataId }));
}

/** Whether a recording computes what recording again would: its variables have not been assigned, nothing that it reads is gone. */
export function isCurrent({ feeds, variables, precision }: Recorded, now: Precision): boolean {
  const isThere = ({ source, held }: RecordedFeed): boolean =>
    typeof source === 'number' || (source.isKnown && (source.handles > 0 || !held));
  return precision === now && variables.every(({ variable, dataId }) => variable.dataId === dataId) && feeds.every(isThere);
}
