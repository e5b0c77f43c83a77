/**
 * Checkpoints: `output_dir/checkpoint-N`, a model in Hugging Face's layout with the optimizer's state (optimizer.safetensors)
 * and the state of the run (trainer_state.json) beside it. A checkpoint is written under another name and renamed when it
 * is complete, so that one that carries its name is whole whatever happened.
 */
import fs from 'node:fs';
import * as path from 'node:path';
import type * as tf from '@tensorflow/tfjs-core';
import { codeOf, UserError } from '../errors';
import { isFolder, namesIn, readJson, realPath, remove, rename, writeErrorBehind, writeFileAtomic } from '../files';
import { isObject } from '../json';
import { type CausalLM, STAGING, saveModel } from '../model';
import { tensorsOf, writeSafetensors } from '../model/safetensors';
import { parseConfig, toSnakeCase } from './config';
import type { Optimizer } from './optimizer';
import { isRunState, type RunState } from './run-state';

const STATE_FILE = 'trainer_state.json';
/** Before format 3, runs read their examples in an order of their own, or had no stream of random numbers. */
const FORMAT = 3;
export const OPTIMIZER_FILE = 'optimizer.safetensors';
const UNFINISHED = '.unfinished-';

/** What must be the same for a run to be continued: the configuration under TRL's keys, and the data as tokens. */
export interface RunIdentity {
  config: Record<string, unknown>;
  tokens: string;
  evalTokens?: string;
}

/** Settings that may change between a run and its continuation, because they change neither weights nor log. */
const FREE = new Set([
  // which examples are left the run's tokens tell
  'drop_fully_masked',
  'gradient_checkpointing',
  'output_dir',
  'overwrite_output_dir',
  'resume_from_checkpoint',
  'save_strategy',
  'save_steps',
  'save_total_limit',
  'disable_tqdm',
]);

/** trainer_state.json. */
interface StateFile {
  format: typeof FORMAT;
  state: RunState;
  identity: RunIdentity;
}

export interface Checkpoint {
  step: number;
  folder: string;
}

/** Whether a folder is a complete checkpoint. */
export function isCheckpoint(folder: string): boolean {
  return fs.existsSync(path.join(folder, STATE_FILE));
}

/** Where the checkpoint of a step lies in a run's folder. */
export function checkpointFolder(outputDir: string, step: number): string {
  return path.join(outputDir, `checkpoint-${step}`);
}

/** The complete checkpoints of a run's folder, oldest first. */
export function listCheckpoints(outputDir: string): Checkpoint[] {
  if (!isFolder(outputDir)) return [];
  return namesIn(outputDir)
    .map((name) => ({ step: Number(/^checkpoint-(\d+)$/.exec(name)?.[1] ?? -1), folder: path.join(outputDir, name) }))
    .filter(({ step, folder }) => step >= 0 && isCheckpoint(folder))
    .sort((a, b) => a.step - b.step);
}

/** Whether something is a checkpoint's folder or lies in it, by whatever path either is named. */
export function holds(folder: string, place: string): boolean {
  const way = path.relative(realPath(folder), realPath(place));
  return way.split(path.sep)[0] !== '..' && !path.isAbsolute(way);
}

/** What runs left behind that were killed while they wrote. */
export function unfinishedIn(outputDir: string): string[] {
  if (!isFolder(outputDir)) return [];
  const isUnfinished = (name: string): boolean =>
    name.startsWith(UNFINISHED) || name.startsWith(STAGING) || /^\.(run\.json|metrics\.jsonl|\.lock)\..*\.partial$/.test(name);
  return namesIn(outputDir)
    .filter(isUnfinished)
    .map((name) => path.join(outputDir, name));
}

/** Removes what `unfinishedIn` finds. */
export function removeUnfinished(outputDir: string): void {
  for (const place of unfinishedIn(outputDir)) remove(place);
}

/**
 * Writes `checkpoint-N` for the run's step N.
 * @returns its folder
 * @throws UserError when the system refuses, for example because the disk is full; earlier checkpoints stay
 */
export async function writeCheckpoint(
  outputDir: string,
  model: CausalLM,
  optimizer: Optimizer,
  state: RunState,
  identity: RunIdentity,
): Promise<string> {
  const folder = checkpointFolder(outputDir, state.step);
  const unfinished = path.join(outputDir, `${UNFINISHED}checkpoint-${state.step}`);
  try {
    remove(unfinished);
    await saveModel(model, unfinished);
    await writeState(path.join(unfinished, OPTIMIZER_FILE), optimizer);
    const content: StateFile = { format: FORMAT, state, identity };
    writeFileAtomic(path.join(unfinished, STATE_FILE), `${JSON.stringify(content, undefined, 1)}\n`);
    replaceFolder(unfinished, folder);
  } catch (error) {
    remove(unfinished);
    throw writeErrorBehind(folder, error);
  }
  return folder;
}

/** Renames `from` to `to`; an older `to` makes way first, because a folder cannot be renamed over another. */
function replaceFolder(from: string, to: string): void {
  const old = fs.existsSync(to) ? setAside(to) : undefined;
  rename(from, to);
  if (old) remove(old);
}

/** Removes a checkpoint; at no moment does a part of it pass for the whole. */
export function removeCheckpoint(folder: string): void {
  remove(setAside(folder));
}

/** Gives a checkpoint a name that makes it none; what is left of it there goes when the next run starts. */
function setAside(folder: string): string {
  const old = path.join(path.dirname(folder), `${UNFINISHED}old-${path.basename(folder)}`);
  remove(old);
  rename(folder, old);
  return old;
}

/** What the state of a parameter is called in a checkpoint: `exp_avg.model.norm.weight`. */
export function nameOfState(key: string, parameter: string): string {
  return `${key}.${parameter}`;
}

async function writeState(file: string, { states }: Optimizer): Promise<void> {
  const tensors = [...states].flatMap(([name, state]) =>
    Object.entries(state).map(([key, variable]): [string, tf.Variable] => [nameOfState(key, name), variable]),
  );
  await writeSafetensors(file, tensorsOf(new Map(tensors)));
}

/**
 * The checkpoint to continue from: the newest complete one of `outputDir` for true, or the one at a path.
 * @param onNote takes a line where `true` finds none yet
 * @returns its folder, or undefined when the run starts afresh: nothing was asked for, or `true` found no checkpoint yet
 */
export function resolveCheckpoint(
  outputDir: string | null,
  resume: boolean | string | null,
  onNote?: (line: string) => void,
): string | undefined {
  if (resume === null || resume === false) return undefined;
  if (resume === true) {
    if (outputDir === null)
      throw new UserError('resume_from_checkpoint is true, but there is no output_dir to find checkpoints in; set it.');
    const newest = listCheckpoints(outputDir).at(-1)?.folder;
    // jobs that are started again whenever they end set it from the first time on
    if (newest === undefined)
      onNote?.(`output_dir ${outputDir} has no checkpoint to continue from yet: the run starts from its beginning.`);
    return newest;
  }
  if (isCheckpoint(resume)) return resume;
  const known = listCheckpoints(listCheckpoints(resume).length > 0 ? resume : path.dirname(resume));
  const hint =
    known.length > 0 ? `the nearest complete one is ${known[known.length - 1].folder}` : 'name a folder such as output_dir/checkpoint-100';
  throw new UserError(`resume_from_checkpoint: ${resume} is not a complete checkpoint (it has no ${STATE_FILE}); ${hint}.`);
}

/**
 * The run's state in a checkpoint.
 * @throws UserError when the checkpoint was written with other settings or other data, naming what differs
 */
export function readCheckpoint(folder: string, identity: RunIdentity): RunState {
  const file = path.join(folder, STATE_FILE);
  const { state, identity: saved } = readStateFile(file);
  // A setting that did not exist yet when the checkpoint was written had its default.
  const savedConfig: Record<string, unknown> = { ...toSnakeCase(parseConfig()), ...saved.config };
  for (const key of Object.keys({ ...savedConfig, ...identity.config })) {
    if (FREE.has(key) || isSame(identity.config[key], savedConfig[key])) continue;
    const { name, values } = firstDifference(key, identity.config[key], savedConfig[key]);
    const [now, then] = values.map((value) => JSON.stringify(value ?? null));
    throw new UserError(
      `${name} is ${now}, but ${folder} was written with ${then}; continue with the same settings, or start afresh in another output_dir.`,
    );
  }
  const different = saved.tokens !== identity.tokens ? 'training' : saved.evalTokens !== identity.evalTokens ? 'evaluation' : undefined;
  if (different !== undefined) {
    throw new UserError(
      `The ${different} examples are not those that ${folder} was written with (data, tokenizer, template or a date that it writes changed); ` +
        'continue with the same, or start afresh in another output_dir.',
    );
  }
  return state;
}

/** Whether two values of a setting mean the same: the keys of a table, and the names in a list, have no order. */
function isSame(a: unknown, b: unknown): boolean {
  if (!isObject(a) || !isObject(b)) return JSON.stringify(sorted(a) ?? null) === JSON.stringify(sorted(b) ?? null);
  return Object.keys({ ...a, ...b }).every((key) => isSame(a[key], b[key]));
}

/** Where two values of a setting, which do differ, do so: in tables at their first key that does, such as `peft_config.r`. */
function firstDifference(name: string, a: unknown, b: unknown): { name: string; values: [unknown, unknown] } {
  if (!isObject(a) || !isObject(b)) return { name, values: [a, b] };
  const key = Object.keys({ ...a, ...b }).find((entry) => !isSame(a[entry], b[entry])) ?? '';
  return firstDifference(`${name}.${key}`, a[key], b[key]);
}

function sorted(value: unknown): unknown {
  return Array.isArray(value) ? [...value].sort() : value;
}

/** The step that a checkpoint was written after. @throws UserError when it is damaged, or not one of this program's */
export function stepOfCheckpoint(folder: string): number {
  return readStateFile(path.join(folder, STATE_FILE)).state.step;
}

/** When the run of a checkpoint began, and with what. @throws UserError when the checkpoint is damaged */
export function readBeginning(folder: string): { began?: string; identity: RunIdentity } {
  const { state, identity } = readStateFile(path.join(folder, STATE_FILE));
  return { began: state.began, identity };
}

function readStateFile(file: string): StateFile {
  const content = readJson(file) as (Omit<Partial<StateFile>, 'format'> & { format?: unknown }) | null;
  if (content?.format === 1 || content?.format === 2) {
    throw new UserError(
      `${file} is of an earlier version of this program, whose runs drew other random numbers; ` +
        `start the run afresh in another output_dir, or begin a new one with the checkpoint as its model.`,
    );
  }
  if (content?.format !== FORMAT || !content.state || !content.identity) {
    throw new UserError(`${file} was not written by this program (or by another version of it); name one of its checkpoints.`);
  }
  const { state, identity } = content;
  const isIdentity = isObject(identity.config) && typeof identity.tokens === 'string';
  if (!isRunState(state) || !isIdentity)
    throw new UserError(`${file} is damaged: parts of the run's state are missing; continue from another checkpoint.`);
  return { format: FORMAT, state, identity };
}

export interface PruneOptions {
  /** Where the run stands. Checkpoints of later steps are from before it went back to an earlier one: none is newer than the run's own. */
  step: number;
  /** The checkpoint that stays although it is old; it may also lie in another folder. */
  best?: string | null;
  /** Folders that stay in any case, such as that of the model that is trained. */
  needed: readonly string[];
  /** The run is over: with a limit of 1 the best stays alone, else the newest stays too. */
  atEnd?: boolean;
}

/** Removes the oldest checkpoints beyond `limit`. */
export function pruneCheckpoints(outputDir: string, limit: number | null, { step, best, needed, atEnd = false }: PruneOptions): void {
  if (limit === null) return;
  const found = listCheckpoints(outputDir);
  const all = [...found.filter((checkpoint) => checkpoint.step > step), ...found.filter((checkpoint) => checkpoint.step <= step)];
  const newest = all.at(-1)?.step;
  const kept = all.find(({ folder }) => typeof best === 'string' && realPath(folder) === realPath(best));
  // while the run goes on, a limit of 1 keeps the best and the newest: one to end with, one to continue from
  const allowed = limit === 1 && kept && kept.step !== newest && !atEnd ? 2 : limit;
  const first = kept ? [kept] : [];
  const rest = all.filter((checkpoint) => checkpoint !== kept).reverse();
  const keep = new Set([...first, ...rest].slice(0, Math.max(allowed, 1)));
  for (const checkpoint of all) {
    if (!keep.has(checkpoint) && !needed.some((place) => holds(checkpoint.folder, place))) removeIfPossible(checkpoint.folder);
  }
}

/** What another program keeps from being removed is no reason to end a run: it is tried again after the next save. */
function removeIfPossible(folder: string): void {
  try {
    removeCheckpoint(folder);
  } catch (error) {
    if (!codeOf(error)) throw error;
  }
}
