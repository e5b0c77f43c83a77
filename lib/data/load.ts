/** From a name to a dataset: a file, a folder with files for each split, or a dataset on the Hugging Face Hub. */
import { existsSync } from 'node:fs';
import * as path from 'node:path';
import { checkOptions, checkPath, type OptionNames } from '../arguments';
import { UserError } from '../errors';
import { filesIn, isFolder, readStart, readText, statusOf } from '../files';
import { isObject } from '../json';
import { readCsvRows } from './csv-rows';
import { chooseFiles, type DataChoice, tellsSplit } from './data-files';
import { Dataset } from './dataset';
import { checkKind } from './foreign-files';
import { CARD, type DatasetOptions, isId, openDataset } from './hub';
import { type RawRows, readJsonRows } from './json-rows';
import { readParquetRows } from './parquet-rows';
import { parseRows } from './rows';
import { parseSplit } from './split';

export interface LoadDatasetOptions extends DatasetOptions {
  /** A split, or a part of one: `test`, `train[:1000]`, `train[10%:]`. A single file is `train`, and the split that its name tells. Default `train`. */
  split?: string;
  /** One of the datasets that a repository holds, where there are several. */
  config?: string;
  /** Files or patterns in the folder or repository, whatever it says itself: `data/*.jsonl`. */
  dataFiles?: string | readonly string[];
  /** A folder in it. */
  dataDir?: string;
  /** The column that holds plain text. Default `text`. */
  textField?: string;
  /** Columns to read; the others are as if they were not there. Default: all. */
  columns?: readonly string[];
  /**
   * Makes a row of a known format of each row as the file has it, where columns have other names:
   * `({ question, answer }) => ({ prompt: question, completion: answer })`.
   */
  map?: (row: Record<string, unknown>, index: number) => unknown;
}

const OPTIONS: OptionNames<LoadDatasetOptions> = {
  split: true,
  config: true,
  dataFiles: true,
  dataDir: true,
  textField: true,
  columns: true,
  map: true,
  revision: true,
  onProgress: true,
};

/**
 * Reads a dataset: a file, a folder, or one on the Hugging Face Hub by its id, downloaded into the shared cache. Files are JSON arrays,
 * JSONL, Parquet or CSV. Rows are Alpaca (`instruction`, `input`, `output`), prompt/completion, chat `messages`, ShareGPT
 * `conversations` or plain `text`; the format is recognized by the first row.
 * @param place `data.jsonl`, `../folder` or `org/name`; `json` for files that `dataFiles` names
 * @throws UserError for a missing path, a split that is not there or has no rows in the part that is asked for, an empty file, one of another
 *   kind, broken JSON (with line and column), a row of another format (with its number), and for what the Hub refuses
 */
export async function loadDataset(place: string, options: LoadDatasetOptions = {}): Promise<Dataset> {
  checkPath('loadDataset', 'place', place);
  checkOptions('loadDataset', options, OPTIONS, { name: 'config' });
  const { split: text = 'train', textField } = options;
  const { split, most, bounds, isMeantEmpty } = parseSplit(text);
  // what has no rows at all is an error, also where none are asked for
  const enough = Math.max(1, most);
  const all: RawRows = { values: [], origins: [] };
  for await (const file of filesOf(place, { ...options, split, inTurn: enough < Infinity })) {
    const { values, origins } = await readRows(file, enough - all.values.length);
    for (const value of values) all.values.push(value);
    for (const origin of origins) all.origins.push(origin);
    if (all.values.length >= enough) break;
  }
  // what is outside of the part that is asked for need not be in order
  const [from, to] = bounds(all.values.length);
  if (from >= to && all.values.length > 0) {
    if (isMeantEmpty) return new Dataset([]);
    throw noRows(place, text, split, all.values.length);
  }
  const [values, origins] = [all.values.slice(from, to), all.origins.slice(from, to)];
  const name = (index: number): string =>
    origins[index] ? `${origins[index].source} ${origins[index].unit} ${origins[index].row}` : place;
  const { rows, notes, format } = parseRows(
    values.map((row, index) => shaped(row, index, name(index), options)),
    name,
    textField,
  );
  return new Dataset(rows, { origins, notes: [...notes, ...(format === 'text' ? notesOf(textField) : [])] });
}

/** @param count of the rows of the split: who asks for some of them that are not there has all read */
function noRows(place: string, part: string, split: string, count: number): UserError {
  const rows = count === 1 ? 'one row' : `${count} rows`;
  return new UserError(
    `The part ${part} of ${place} has no rows, as ${split} has ${rows}; choose one that has, such as ${split}[:${count}].`,
  );
}

/** A row with the columns that are wanted, or what is made of it. */
function shaped(row: unknown, index: number, place: string, { columns, map }: LoadDatasetOptions): unknown {
  if (!isObject(row)) return row;
  const absent = columns?.find((column) => !(column in row));
  if (absent !== undefined) throw new UserError(`${place} has no column "${absent}"; it has ${Object.keys(row).join(', ')}.`);
  const chosen = columns ? Object.fromEntries(columns.map((column) => [column, row[column]])) : row;
  const made = map ? map({ ...chosen }, index) : chosen;
  if (made === undefined)
    throw new UserError(`The map of loadDataset returned nothing for ${place}; return a row, such as { prompt, completion }.`);
  return made;
}

/** Where rows become otherwise than with TRL. */
function notesOf(textField = 'text'): string[] {
  if (textField === 'text') return [];
  return [`Texts of the column ${textField} end with the EOS token, as those of "text" do; TRL adds none to a column of another name.`];
}

/** How datasets calls what reads files of these kinds, in the place of a dataset's name; here files tell themselves. */
const READERS: readonly string[] = ['json', 'csv', 'parquet'];

interface FileOptions extends LoadDatasetOptions {
  split: string;
  /** Whether each file of the Hub is downloaded when it is asked for, as the last ones may not be; else all at once. */
  inTurn: boolean;
}

/** The files that a split's rows are in. */
async function* filesOf(place: string, options: FileOptions): AsyncGenerator<string> {
  const { split, config, dataDir, dataFiles } = options;
  const choice: DataChoice = { split, config, dataDir, dataFiles: dataFiles === undefined ? undefined : [dataFiles].flat() };
  const isHere = existsSync(place) || (choice.dataFiles && READERS.includes(place));
  if (!isHere && canBeId(place)) yield* filesOnHub(place, choice, options);
  else yield* filesHere(place, choice);
}

function filesHere(place: string, choice: DataChoice): string[] {
  const { dataDir, dataFiles } = choice;
  if (isFolder(place)) return filesInFolder(place, choice);
  if (existsSync(place)) return [soleFile(place, choice)];
  if (dataFiles && READERS.includes(place))
    return dataFiles.map((file) => (dataDir === undefined || path.isAbsolute(file) ? file : path.join(dataDir, file)));
  if (isId(place) && path.extname(place) === '')
    throw new UserError(
      `There is no file or folder ${place} in ${process.cwd()}; check the path, or name a dataset on the Hub with its owner, like org/name.`,
    );
  // that it is not there, who reads it says
  return [place];
}

function filesInFolder(folder: string, choice: DataChoice): string[] {
  const names = filesIn(folder);
  const readme = names.includes(CARD) ? readText(path.join(folder, CARD)) : '';
  return chooseFiles(names, readme, choice, `The folder ${folder}`).map((name) => path.join(folder, name));
}

/** @throws UserError when something is asked for that only a folder has */
function soleFile(file: string, { split, config, dataDir, dataFiles }: DataChoice): string {
  if (dataFiles || dataDir !== undefined)
    throw new UserError(`${file} is a file, in which there are no others; leave out data_files and data_dir, or name a folder.`);
  if (config !== undefined && config !== 'default')
    throw new UserError(`${file} is a file, which has no configuration ${config}; leave it out.`);
  if (split !== 'train' && !tellsSplit(path.basename(file), split))
    throw new UserError(
      `${file} is a file, whose rows are the split train; name the file or folder that has the split ${split}, or leave it out.`,
    );
  return file;
}

async function* filesOnHub(id: string, choice: DataChoice, options: FileOptions): AsyncGenerator<string> {
  const { folder, names, fetch } = await openDataset(id, options);
  const fetched = async (wanted: readonly string[]): Promise<string[]> => {
    await fetch(wanted);
    return wanted.map((name) => path.join(folder, name));
  };
  const readme = names.includes(CARD) ? readText((await fetched([CARD]))[0]) : '';
  const chosen = chooseFiles(names, readme, choice, `The dataset ${id}`);
  if (!options.inTurn) yield* await fetched(chosen);
  else for (const name of chosen) yield* await fetched([name]);
}

/** Whether a name that is no path here is looked for on the Hub. */
function canBeId(place: string): boolean {
  return place.includes('/') && isId(place) && !/\.(jsonl?|ndjson|parquet|csv|tsv|txt|gz)$/i.test(place);
}

/** Bytes that tell of a file's kind. */
const START = 64;

/** @param most so many rows are enough, if that saves time */
async function readRows(file: string, most: number): Promise<RawRows> {
  const start = statusOf(file)?.isFile() === true ? readStart(file, START).toString('latin1') : '';
  if (start.startsWith('PAR1')) return readParquetRows(file, most);
  checkKind(file);
  // JSON under such a name is read all the same
  if (/\.[ct]sv(\.gz)?$/i.test(file) && !/^(?:\xef\xbb\xbf)?\s*[[{]/.test(start)) return readCsvRows(file);
  return readJsonRows(file);
}
