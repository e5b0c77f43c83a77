/** The folder that the children share: the examples, and the checkpoints that are made for this run and removed after it. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { loadDataset } from '../../lib/data';
import { UserError } from '../../lib/errors';
import { readJson } from '../../lib/files';
import { formatExample } from '../../lib/text';
import { killChild, resultOf } from './child';
import type { BenchOptions } from './flags';
import { EXAMPLES_PER_STEP, type MakeAdapterJob, type MakeModelJob, type MakeModelResult } from './jobs';
import { runOwn } from './peers';
import { readSizes, type ShapeName, shapeOf } from './shapes';

/** A model to measure; `directory` is absent as long as nobody made it. */
export interface BenchModel {
  name: string;
  /** The shape that it has, if it is one of ours. */
  shape?: ShapeName;
  directory?: string;
}

export interface Workspace {
  directory: string;
  /** File of the examples as `prompt` and `completion`. */
  rows: string;
  examples: number;
}

/**
 * Makes the folder, which goes when this process ends, and writes the examples into it.
 * @throws UserError when there are fewer examples than the steps need
 */
export async function openWorkspace({ data, steps }: BenchOptions): Promise<Workspace> {
  const dataset = await loadDataset(data);
  const needed = steps * EXAMPLES_PER_STEP;
  if (dataset.length < needed) {
    throw new UserError(`${steps} steps need ${needed} examples, but ${data} has ${dataset.length}; give fewer --steps or more data.`);
  }
  const directory = mkdtempSync(path.join(os.tmpdir(), 'tunebook-bench-'));
  removeAtExit(directory);
  const rows = path.join(directory, 'rows.json');
  writeFileSync(rows, JSON.stringify(dataset.rows.map((row) => formatExample(row))));
  return { directory, rows, examples: dataset.length };
}

/** A process that is interrupted runs no handler of 'exit' unless it exits by itself. */
function removeAtExit(directory: string): void {
  process.on('exit', () => {
    killChild();
    rmSync(directory, { recursive: true, force: true });
  });
  process.on('SIGINT', () => process.exit(130));
  process.on('SIGTERM', () => process.exit(143));
}

/** The checkpoints that were named, or else the shapes. */
export function modelsOf({ models, shapes }: BenchOptions): BenchModel[] {
  if (models.length === 0) return shapes.map((shape) => ({ name: shape, shape }));
  return models.map((directory) => {
    const shape = shapeOf(readSizes(path.join(directory, 'config.json')));
    return { name: shape ?? path.basename(directory), shape, directory };
  });
}

/**
 * The folder of a model's checkpoint, made where there is none.
 * @throws UserError when it cannot be made
 */
export async function checkpointOf(model: BenchModel, workspace: Workspace, tokenizer: string): Promise<string> {
  if (model.directory !== undefined) return model.directory;
  const directory = path.join(workspace.directory, model.name);
  const job: MakeModelJob = { shape: model.name, tokenizer: tokenizerFolder(tokenizer, workspace), directory };
  const outcome = await runOwn<MakeModelResult>('make-model', job);
  if (!resultOf(outcome))
    throw new UserError(`A model of the shape ${model.name} could not be made. ${'failure' in outcome ? outcome.failure : ''}`);
  return directory;
}

/**
 * Makes an adapter for a model, from which all engines begin.
 * @returns its folder
 * @throws UserError when it cannot be made
 */
export async function makeAdapter(model: string, rank: number, workspace: Workspace): Promise<string> {
  const directory = path.join(workspace.directory, `adapter of ${path.basename(model)}`);
  const outcome = await runOwn<MakeModelResult>('make-adapter', { model, rank, directory } satisfies MakeAdapterJob);
  if (resultOf(outcome)) return directory;
  throw new UserError(`An adapter for ${model} could not be made. ${'failure' in outcome ? outcome.failure : ''}`);
}

/** Lets go of a checkpoint that was made for this run. */
export function removeCheckpoint(model: BenchModel, directory: string): void {
  if (model.directory === undefined) rmSync(directory, { recursive: true, force: true });
}

/** Names under which tokenizers know the end of a text. */
const EOS_NAMES = ['<|endoftext|>', '</s>', '<|im_end|>', '<|end_of_text|>'];

/** The tokenizer's folder; for a tokenizer.json alone, one in which a configuration beside it names how a text ends. */
function tokenizerFolder(given: string, { directory }: Workspace): string {
  if (statSync(given).isDirectory()) return given;
  const { added_tokens: added = [] } = readJson(given) as { added_tokens?: { content: string }[] };
  const eos = EOS_NAMES.find((name) => added.some(({ content }) => content === name));
  if (eos === undefined) {
    throw new UserError(
      `${given} has none of the tokens ${EOS_NAMES.join(', ')} to end a text; give a folder that has its tokenizer_config.json too.`,
    );
  }
  const folder = path.join(directory, 'tokenizer');
  mkdirSync(folder, { recursive: true });
  copyFileSync(given, path.join(folder, 'tokenizer.json'));
  const config = { tokenizer_class: 'PreTrainedTokenizerFast', bos_token: eos, eos_token: eos, unk_token: eos };
  writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(config));
  return folder;
}
