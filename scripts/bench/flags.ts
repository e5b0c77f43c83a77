/** The flags of the bench. */
import { existsSync, statSync } from 'node:fs';
import * as path from 'node:path';
import { UserError } from '../../lib/errors';
import { projectRoot } from '../../lib/project';
import { count, parseFlags } from '../flags';
import type { BenchDevice } from './jobs';
import { isShapeName, type ShapeName, shapeNames } from './shapes';

const WORKS = ['train', 'decode', 'score', 'startup'] as const;
export type Work = (typeof WORKS)[number];

export interface BenchOptions {
  /** Data file, in any format that `loadDataset` reads. */
  data: string;
  /** A tokenizer's folder, or its tokenizer.json alone. */
  tokenizer: string;
  /** On a GPU only training is measured. */
  device: BenchDevice;
  /** Checkpoints to measure instead of made ones. */
  models: string[];
  shapes: ShapeName[];
  /** Python of the peer's environment; absent: no peer is measured. */
  python?: string;
  steps: number;
  /** How many times this engine and the peer train, in turn; odd. */
  rounds: number;
  only: ReadonlySet<Work>;
  /** Rank of the adapters of all linear layers that are trained; absent: all weights are. */
  lora?: number;
  /** Where the results go as JSON. */
  json?: string;
  /** Seconds after which a run on one of tfjs's own backends is ended. */
  tfjsLimit: number;
}

const DEVICES = ['cpu', 'gpu'] as const;

const text = { type: 'string' } as const;
const FLAGS = {
  data: text,
  tokenizer: text,
  device: text,
  model: { type: 'string', multiple: true },
  shapes: text,
  python: text,
  steps: text,
  rounds: text,
  only: text,
  lora: text,
  json: text,
  'tfjs-limit': text,
} as const;

/**
 * Reads the command line.
 * @throws UserError for an unknown flag, a value that is none, or a path that does not exist
 */
export function readFlags(words: readonly string[]): BenchOptions {
  const values = parseFlags(words, FLAGS);
  const device = choice('device', values.device ?? 'cpu', DEVICES);
  return {
    data: existing('data', values.data ?? path.join(projectRoot, 'data', 'instructions.json')),
    tokenizer: existing('tokenizer', values.tokenizer ?? path.join(projectRoot, 'data', 'base')),
    device,
    models: (values.model ?? []).map((folder) => checkpoint(folder)),
    shapes: choices('shapes', values.shapes, shapeNames, isShapeName),
    python: values.python === undefined ? undefined : existing('python', values.python),
    steps: count('steps', values.steps ?? '6'),
    rounds: oddCount('rounds', values.rounds ?? '1'),
    only: new Set(choices('only', values.only, WORKS, (name): name is Work => (WORKS as readonly string[]).includes(name))),
    lora: values.lora === undefined ? undefined : count('lora', values.lora),
    json: values.json === undefined ? undefined : path.resolve(values.json),
    tfjsLimit: count('tfjs-limit', values['tfjs-limit'] ?? '300'),
  };
}

/** The path, absolute. */
function existing(flag: string, given: string): string {
  if (!existsSync(given)) throw new UserError(`--${flag} names ${given}, which does not exist; check the path.`);
  return path.resolve(given);
}

function checkpoint(given: string): string {
  const folder = existing('model', given);
  if (statSync(folder).isDirectory() && existsSync(path.join(folder, 'config.json'))) return folder;
  throw new UserError(`--model names ${given}, which is no folder with a config.json; name the folder of a checkpoint.`);
}

/** A number of repetitions of which one is in the middle. */
function oddCount(flag: string, given: string): number {
  const value = count(flag, given);
  if (value % 2 === 1) return value;
  throw new UserError(`--${flag} is ${value}; give an odd number, of which one is in the middle.`);
}

function choice<T extends string>(flag: string, given: string, known: readonly T[]): T {
  const found = known.find((name) => name === given);
  if (found !== undefined) return found;
  throw new UserError(`--${flag} is ${JSON.stringify(given)}; choose ${known.join(' or ')}.`);
}

/** A list of names with commas between them; all of them where the flag is absent. */
function choices<T extends string>(
  flag: string,
  given: string | undefined,
  known: readonly T[],
  isKnown: (name: string) => name is T,
): T[] {
  if (given === undefined) return [...known];
  return given.split(',').map((name) => {
    if (isKnown(name)) return name;
    throw new UserError(`--${flag} names ${JSON.stringify(name)}; choose among ${known.join(', ')}, with commas between them.`);
  });
}
