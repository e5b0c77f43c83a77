/** The folder of a run: whose it is, and run.json. */
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import * as path from 'node:path';
import { currentDevice } from '../engine';
import { UserError } from '../errors';
import { isFolder, namesIn, readJson, readText, realPath, statusOf, writeError, writeFileAtomic } from '../files';
import type { CausalLM } from '../model';
import { projectRoot } from '../project';
import { keysOfAdapter } from './adapter';
import { type Checkpoint, holds, listCheckpoints, removeCheckpoint, removeUnfinished, resolveCheckpoint } from './checkpoint';
import { type SFTConfig, toSnakeCase } from './config';
import { type Examples, fingerprint, type Item } from './examples';
import { lockFolder } from './run-lock';

/** run.json: what a run was made of. */
export interface RunRecord {
  tool: 'tunebook';
  /** False until the run has ended. */
  finished: boolean;
  config: Record<string, unknown>;
  versions: Record<string, string>;
  device: string;
  model: { source: string; sha256: Record<string, string> };
  dataset: DatasetRecord;
  eval_dataset?: DatasetRecord;
  /** TRL's summary, once the run has ended. */
  summary?: object;
  /** The checkpoint of the best evaluation, by TRL's name, once the run has ended; null where there is none. */
  best_model_checkpoint?: string | null;
}

export interface DatasetRecord {
  examples: number;
  /** SHA-256 of each file that examples came from, by path. */
  files: Record<string, string>;
  /** Of the examples as JSON lines. */
  sha256: string;
  /** Of their token ids and loss masks. */
  tokens_sha256: string;
}

const RUN_FILE = 'run.json';

/** All settings of a run under their names in files. */
export function settingsOf(config: SFTConfig, model: CausalLM): Record<string, unknown> {
  const settings = { ...toSnakeCase(config), ...keysOfAdapter(model) };
  // another tokenizer's template came with the model
  return { ...settings, chat_template_path: config.chatTemplatePath ?? model.tokenizer.templateFrom ?? null };
}

export interface ClaimOptions {
  /** The step after which a run of this folder goes on; left out by one that starts afresh. */
  from?: number;
  overwrite: boolean;
  /** Folders that must outlast the run's beginning, such as its model's. */
  needed: readonly string[];
  /** Takes a line for a run that makes way. */
  onNote(line: string): void;
}

/**
 * Makes the folder ready for a run that starts afresh or resumes.
 * @returns gives it back, for other runs
 * @throws UserError when it holds something else, an unfinished run that a fresh start would lose, something that is needed where
 *   checkpoints will be removed or replaced, or another run at work
 */
export function claimFolder(folder: string, { from, overwrite, needed, onNote }: ClaimOptions): () => void {
  const found = entries(folder);
  const resuming = from !== undefined;
  if (found.length > 0 && !overwrite) checkOwner(folder, found, resuming);
  checkNeeded(
    folder,
    listCheckpoints(folder).filter(({ step }) => !resuming || step > from),
    needed,
  );
  try {
    fs.mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw writeError(folder, error);
  }
  const release = lockFolder(folder);
  try {
    removeUnfinished(folder);
    if (!resuming) replaceRun(folder, found, onNote);
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

/**
 * What a folder tells of a run before its model and data are loaded, which takes long.
 * @throws UserError when there is no checkpoint to continue from as asked, or an unfinished run is there that a fresh start would lose
 */
export function checkFolder({ outputDir, overwriteOutputDir, resumeFromCheckpoint: resume }: SFTConfig): void {
  const checkpoint = resolveCheckpoint(outputDir, resume);
  if (outputDir === null || overwriteOutputDir || !ownRecord(path.join(outputDir, RUN_FILE))) return;
  // of what is no run's more is known when the model is
  checkOwner(outputDir, [], isResuming(outputDir, resume, checkpoint));
}

/** Whether a run goes on in its folder; one that begins with a checkpoint from elsewhere starts a folder of its own. */
export function isResuming(folder: string, resume: boolean | string | null, checkpoint: string | undefined): boolean {
  return checkpoint === undefined ? resume === true : isCheckpointOf(folder, checkpoint);
}

/** An earlier run in the folder makes way, which is said: TRL leaves its checkpoints there. */
function replaceRun(folder: string, found: readonly string[], onNote: (line: string) => void): void {
  const checkpoints = listCheckpoints(folder);
  for (const checkpoint of checkpoints) removeCheckpoint(checkpoint.folder);
  if (checkpoints.length === 0 && !found.includes(RUN_FILE)) return;
  const names = checkpoints.map((checkpoint) => path.basename(checkpoint.folder));
  const which = names.length > 3 ? [...names.slice(0, 2), '...', names[names.length - 1]] : names;
  const removed =
    names.length === 0
      ? ''
      : ` and removes its ${names.length === 1 ? '' : `${names.length} `}checkpoint${names.length === 1 ? '' : 's'} (${which.join(', ')})`;
  onNote(`output_dir ${folder} holds an earlier run: this one replaces it${removed}.`);
}

/** Whether a checkpoint lies in a run's folder, by whatever path either is named. */
export function isCheckpointOf(folder: string, checkpoint: string): boolean {
  return realPath(path.dirname(path.resolve(checkpoint))) === realPath(folder);
}

/** The folders that a model was loaded from: its own, or its adapter's and the base's. */
export function foldersOf({ directory, source }: CausalLM): string[] {
  return directory === undefined ? [] : [directory, source];
}

function checkNeeded(folder: string, removed: readonly Checkpoint[], needed: readonly string[]): void {
  const lost = removed.find((checkpoint) => needed.some((place) => holds(checkpoint.folder, place)));
  if (!lost) return;
  throw new UserError(`output_dir ${folder} holds ${lost.folder}, which this run begins with but would remove; name another output_dir.`);
}

/** Names in a folder, without hidden ones; none when there is no folder. */
function entries(folder: string): string[] {
  const status = statusOf(folder);
  if (!status) return [];
  if (!status.isDirectory()) throw new UserError(`output_dir ${folder} is a file; name a folder.`);
  return namesIn(folder).filter((name) => !name.startsWith('.'));
}

function checkOwner(folder: string, found: readonly string[], resuming: boolean): void {
  const record = ownRecord(path.join(folder, RUN_FILE));
  if (!record) {
    throw new UserError(
      `output_dir ${folder} already holds something else (${found.slice(0, 3).join(', ')}${found.length > 3 ? ', ...' : ''}); ` +
        'name an empty folder, or set overwrite_output_dir: true.',
    );
  }
  if (resuming || record.finished) return;
  const checkpoints = listCheckpoints(folder);
  if (checkpoints.length === 0) return;
  throw new UserError(
    `output_dir ${folder} holds an unfinished run with ${path.basename(checkpoints[checkpoints.length - 1].folder)}; ` +
      'continue it with resume_from_checkpoint: true, start over with overwrite_output_dir: true, or name another folder.',
  );
}

/** run.json, if it is ours. */
function ownRecord(file: string): { finished: boolean } | undefined {
  if (!fs.existsSync(file)) return undefined;
  const record = readJson(file) as { tool?: unknown; finished?: unknown } | null;
  return record?.tool === 'tunebook' ? { finished: record.finished === true } : undefined;
}

export function writeRunRecord(folder: string, record: RunRecord): void {
  writeFileAtomic(path.join(folder, RUN_FILE), `${JSON.stringify(record, undefined, 2)}\n`);
}

/** What a run is made of, for `describeRun`. */
interface RunParts {
  /** All settings under their names in files. */
  config: Record<string, unknown>;
  model: CausalLM;
  train: { examples: Examples; items: readonly Item[] };
  evaluation?: { examples: Examples; items: readonly Item[] };
}

/** run.json of a run that begins. */
export async function describeRun({ config, model, train, evaluation }: RunParts): Promise<RunRecord> {
  return {
    tool: 'tunebook',
    finished: false,
    config,
    versions: versions(),
    device: (await currentDevice()).description,
    model: { source: model.source, sha256: await weightHashes(model.directory) },
    dataset: await describeDataset(train.examples, train.items),
    eval_dataset: evaluation && (await describeDataset(evaluation.examples, evaluation.items)),
  };
}

/** Versions of this project and of what computes. */
function versions(): Record<string, string> {
  const versionIn = (file: string) => (JSON.parse(readText(file)) as { version: string }).version;
  return {
    tunebook: versionIn(path.join(projectRoot, 'package.json')),
    node: process.version,
    'onnxruntime-node': versionIn(require.resolve('onnxruntime-node/package.json')),
    '@tensorflow/tfjs-core': versionIn(require.resolve('@tensorflow/tfjs-core/package.json')),
  };
}

/** SHA-256 of the weight files of a checkpoint folder, by name; empty where there is none. */
async function weightHashes(folder: string | undefined): Promise<Record<string, string>> {
  if (folder === undefined || !isFolder(folder)) return {};
  const names = namesIn(folder).filter((name) => name.endsWith('.safetensors'));
  const hashes: Record<string, string> = {};
  for (const name of names.sort()) hashes[name] = await fileHash(path.join(folder, name));
  return hashes;
}

/**
 * Makes sure that the adapter of a checkpoint goes on beside the weights that it was trained beside, which no checkpoint of an adapter
 * holds: the run.json of its run names them.
 * @throws UserError when a weight file of the base model is another one now
 */
export async function checkBase(checkpoint: string, { adapter, directory }: CausalLM): Promise<void> {
  const file = path.join(path.dirname(realPath(checkpoint)), RUN_FILE);
  if (!adapter || directory === undefined || !fs.existsSync(file)) return;
  const record = readJson(file) as Partial<RunRecord> | null;
  const then = record?.model?.sha256 ?? {};
  const now = await weightHashes(directory);
  // the same weights in other files, such as shards, are not told from others
  const other = Object.keys(now).find((name) => then[name] !== undefined && then[name] !== now[name]);
  if (other === undefined) return;
  throw new UserError(
    `${path.join(directory, other)} holds other weights than the base model with which the adapter in ${checkpoint} was trained, by ${file}; ` +
      'continue with that base model, or start afresh in another output_dir.',
  );
}

async function fileHash(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of fs.createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

/** What run.json says of a dataset. */
async function describeDataset(examples: Examples, items: readonly Item[]): Promise<DatasetRecord> {
  const rows = [...examples];
  const sources = new Set('originOf' in examples ? rows.map((_, index) => examples.originOf(index).source) : []);
  const files: Record<string, string> = {};
  for (const source of sources) if (statusOf(source)?.isFile()) files[source] = await fileHash(source);
  return { examples: rows.length, files, sha256: rowsHash(rows), tokens_sha256: fingerprint(items) };
}

function rowsHash(rows: Iterable<unknown>): string {
  const hash = createHash('sha256');
  for (const row of rows) hash.update(`${JSON.stringify(row)}\n`);
  return hash.digest('hex');
}
