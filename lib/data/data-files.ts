/**
 * Which files of a folder, or of a repository on the Hub, are a split of a dataset. The rules are those of Hugging Face's `datasets`
 * (its data_files.py): what the README's `configs` say, else what names of files and folders tell.
 */
import * as path from 'node:path';
import { messageOf, UserError } from '../errors';
import { isObject } from '../json';
import { glob } from './glob';

/** Patterns of the files of each split. */
type Patterns = ReadonlyMap<string, readonly string[]>;

/** One of the datasets that a repository holds. */
interface Configuration {
  readonly name: string;
  readonly isDefault: boolean;
  readonly patterns?: Patterns;
  /** Folder that the patterns count from. */
  readonly folder: string;
}

/** Which of a repository's data is meant. */
export interface DataChoice {
  split: string;
  /** One of the datasets in it. */
  config?: string;
  /** Files or patterns, whatever the README says. */
  dataFiles?: readonly string[];
  /** Folder in it. */
  dataDir?: string;
}

/** The splits that file names usually tell of. */
const KEYWORDS: Readonly<Record<string, readonly string[]>> = {
  train: ['train', 'training'],
  validation: ['validation', 'valid', 'dev', 'val'],
  test: ['test', 'testing', 'eval', 'evaluation'],
};
const SEPARATOR = '[-._ 0-9]';

/** Whether the name of a file says that its rows are a split. */
export function tellsSplit(name: string, split: string): boolean {
  const words = name.split(new RegExp(`${SEPARATOR}+`));
  return [split, ...(Object.hasOwn(KEYWORDS, split) ? KEYWORDS[split] : [])].some((word) => words.includes(word));
}

const byKeyword = (patternsOf: (keyword: string) => string[]): Patterns =>
  new Map(Object.entries(KEYWORDS).map(([split, keywords]) => [split, keywords.flatMap(patternsOf)]));

/** The first of these that finds anything is taken. */
const USUAL: readonly Patterns[] = [
  byKeyword((word) => [
    `**/${word}/**`,
    `**/${word}${SEPARATOR}*/**`,
    `**/*${SEPARATOR}${word}/**`,
    `**/*${SEPARATOR}${word}${SEPARATOR}*/**`,
  ]),
  byKeyword((word) => [`**/${word}${SEPARATOR}*`, `**/*${SEPARATOR}${word}${SEPARATOR}*`]),
  new Map([['train', ['**']]]),
];

/** How `push_to_hub` names files; the split is the first group. */
const SHARD = /^data\/([^/]*)-\d{5}-of-\d{5}[^/]*\.[^/]*$/;

/** Never data, unless they are asked for by name. */
const NO_DATA = ['README.md', 'config.json', 'dataset_info.json', 'dataset_infos.json', 'dummy_data.zip', 'dataset_dict.json'];

const PICTURE = /\.(gif|jpe?g|pdf|png|svg|webp)$/i;

/** Kinds of files that rows are read from, by the endings of their names. */
const KINDS: ReadonlyMap<string, string> = new Map(
  Object.entries({ parquet: 'parquet', jsonl: 'json', json: 'json', ndjson: 'json', csv: 'csv', tsv: 'csv' }),
);

/**
 * Chooses the files of a split.
 * @param names of all files, with `/` between folders
 * @param readme text of README.md, '' where there is none
 * @param place what errors call it
 * @throws UserError when there is no such split or configuration, or nothing that rows can be read from
 */
export function chooseFiles(names: readonly string[], readme: string, choice: DataChoice, place: string): string[] {
  const splits = splitsOf(names, readme, choice, place);
  const found = splits.get(choice.split) ?? (splits.size === 1 && choice.dataFiles ? [...splits.values()][0] : undefined);
  if (found) return found;
  // where nobody says what is data, a split of another name is a file of that name
  const isFree = !asks(choice) && readConfigurations(readme, place).length === 0;
  const named = isFree ? ofOneKind(names.filter((name) => name.split('.', 1)[0] === choice.split)) : [];
  if (named.length > 0) return named;
  throw new UserError(`${place} has no split ${choice.split}; it has ${listed([...splits.keys()])}.`);
}

/** Whether files or a folder are asked for by name. */
const asks = ({ dataFiles, dataDir }: DataChoice): boolean => dataFiles !== undefined || dataDir !== undefined;

function splitsOf(names: readonly string[], readme: string, choice: DataChoice, place: string): Map<string, string[]> {
  // what is asked for by name counts from the top, whatever the README says of the rest
  const configuration = asks(choice) ? undefined : chooseConfiguration(readConfigurations(readme, place), choice.config, place);
  const folder = configuration?.folder ?? insideOf(choice.dataDir ?? '');
  const inside = folder === '' ? names : names.filter((name) => name.startsWith(`${folder}/`)).map((name) => name.slice(folder.length + 1));
  const given = choice.dataFiles && new Map([['train', choice.dataFiles]]);
  const patterns = given ?? configuration?.patterns ?? usualPatterns(inside);
  const filesOf = (list: readonly string[]): string[] =>
    ofOneKind(matching(inside, list)).map((name) => (folder === '' ? name : `${folder}/${name}`));
  const splits = [...patterns].map(([split, list]) => [split, filesOf(list)] as const).filter(([, files]) => files.length > 0);
  const found = splits.flatMap(([, files]) => files);
  if (found.every((name) => baseOf(name) === 'state.json') && names.some((name) => name.endsWith('.arrow')))
    throw new UserError(
      `${place} holds Arrow files, which are not read here, as save_to_disk of Python's datasets writes them; write its splits there with to_parquet or to_json.`,
    );
  if (found.length > 0) return new Map(splits);
  throw new UserError(`${place} holds no JSON, Parquet or CSV file${folder && ` in ${folder}`}; ${whatElse(names)}.`);
}

function whatElse(names: readonly string[]): string {
  const script = names.find((name) => /^[^/]+\.py$/.test(name));
  if (script) return `it is made by a program (${script}), which is never run; try the revision refs/convert/parquet`;
  const data = names.filter((name) => !NO_DATA.includes(baseOf(name)) && !name.startsWith('.'));
  return data.length > 0 ? `it holds ${listed(data)}` : 'it is empty';
}

function listed(names: readonly string[]): string {
  return names.length > 6 ? `${names.slice(0, 5).join(', ')} and ${names.length - 5} more` : names.join(', ');
}

function usualPatterns(all: readonly string[]): Patterns {
  // a plot that is named train_loss.png is no split
  const names = all.filter((name) => !PICTURE.test(name));
  const shards = new Map<string, string[]>();
  for (const name of [...names].sort()) {
    const split = SHARD.exec(name)?.[1];
    if (split !== undefined) shards.set(split, [...(shards.get(split) ?? []), name]);
  }
  const usualFirst = (split: string): number => [...Object.keys(KEYWORDS), split].indexOf(split);
  if (shards.size > 0) return new Map([...shards].sort(([a], [b]) => usualFirst(a) - usualFirst(b)));
  for (const patterns of USUAL) {
    const found = [...patterns].filter(([, list]) => matching(names, list).length > 0);
    if (found.length > 0) return new Map(found);
  }
  return new Map();
}

/** The files that patterns name, those of the first pattern first, each once. */
function matching(names: readonly string[], patterns: readonly string[]): string[] {
  const found = new Set<string>();
  const inOrder = [...names].sort();
  for (const pattern of patterns) {
    const plain = pattern.replace(/^\.\//, '');
    const matches = glob(plain);
    const ignored = NO_DATA.filter((name) => name !== baseOf(plain));
    const hiddenIn = (parts: readonly string[], sign: string): number => parts.filter((part) => part.startsWith(sign)).length;
    for (const name of inOrder) {
      if (name !== plain && !matches(name)) continue;
      const [parts, asked] = [name.split('/'), plain.split('/')];
      // two underscores hide folders, a dot files too
      const isHidden =
        hiddenIn(parts, '.') !== hiddenIn(asked, '.') || hiddenIn(parts.slice(0, -1), '__') !== hiddenIn(asked.slice(0, -1), '__');
      if (!isHidden && !ignored.includes(baseOf(name))) found.add(name);
    }
  }
  return [...found];
}

/** A folder of a repository as the names of its files have it: without `./` before and `/` behind. */
const insideOf = (folder: string): string => path.posix.normalize(folder).replace(/^(?:\.?\/)+|^\.$|\/+$/g, '');

const baseOf = (name: string): string => name.slice(name.lastIndexOf('/') + 1);
const endingsOf = (name: string): string[] => baseOf(name).toLowerCase().split('.').slice(1);

/** Those files of the kind that most are of; Parquet where several are as many. */
function ofOneKind(names: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const ending of names.flatMap(endingsOf)) if (KINDS.has(ending)) counts.set(ending, (counts.get(ending) ?? 0) + 1);
  const order = [...KINDS.keys()];
  const [first] = [...counts].sort(([a, countA], [b, countB]) => countB - countA || order.indexOf(a) - order.indexOf(b));
  return first ? names.filter((name) => endingsOf(name).some((ending) => KINDS.get(ending) === KINDS.get(first[0]))) : [];
}

/** The one that is asked for, or the one that is meant where nobody asks; undefined where the README has none. */
function chooseConfiguration(all: readonly Configuration[], name: string | undefined, place: string): Configuration | undefined {
  const names = listed(all.map((configuration) => configuration.name));
  if (name !== undefined) {
    const found = all.find((configuration) => configuration.name === name);
    if (found || (all.length === 0 && name === 'default')) return found;
    throw new UserError(
      `${place} has no configuration ${name}; ${all.length > 0 ? `it has ${names}` : 'it has but one dataset, so leave it out'}.`,
    );
  }
  const meant = all.find(({ isDefault }) => isDefault) ?? all.find((configuration) => configuration.name === 'default');
  if (meant || all.length <= 1) return meant ?? all[0];
  throw new UserError(`${place} holds several datasets; choose one as configuration (dataset_config in a recipe): ${names}.`);
}

/** The `configs` of a dataset card: the YAML at the beginning of its README. */
function readConfigurations(readme: string, place: string): Configuration[] {
  const [, head] = /^\s*---\r?\n([\s\S]*?)\r?\n---/.exec(readme.replace(/^\ufeff/, '')) ?? [];
  if (head === undefined) return [];
  const card = parsedYaml(head, place);
  const configs = isObject(card) ? card.configs : undefined;
  if (!Array.isArray(configs)) return [];
  return configs.filter(isObject).map((config): Configuration => {
    const { config_name: name = 'default', data_files: files, data_dir: folder = '', default: isDefault } = config;
    return {
      name: String(name),
      isDefault: isDefault === true,
      folder: insideOf(String(folder)),
      ...(files !== undefined && files !== null && { patterns: readPatterns(files, `${place}, README.md, ${String(name)}`) }),
    };
  });
}

/** Undefined where it is no YAML, or would take all memory. @throws UserError where that would hide which files are data */
function parsedYaml(text: string, place: string): unknown {
  // only now: most programs never come here
  const { parse } = require('yaml') as typeof import('yaml');
  try {
    // as in Python, of a key that is there twice the last counts
    return parse(text, { maxAliasCount: 100, uniqueKeys: false });
  } catch (error) {
    if (!/^configs:/m.test(text)) return undefined;
    const reason = messageOf(error).split('\n', 1)[0].replace(/[.:]$/, '');
    throw new UserError(`${place}: the "configs" of its README.md cannot be read (${reason}); correct them, or name files as data_files.`, {
      cause: error,
    });
  }
}

/** `data_files`: a pattern, a list of them, or a list of { split, path }. */
function readPatterns(files: unknown, place: string): Patterns {
  const list = [files].flat();
  const texts = (value: unknown): string[] => [value].flat().filter((item): item is string => typeof item === 'string');
  if (list.every((item) => typeof item === 'string')) return new Map([['train', texts(list)]]);
  const entries = list.map((item) =>
    isObject(item) && typeof item.split === 'string' ? ([item.split, texts(item.path)] as const) : undefined,
  );
  if (entries.every((entry) => entry !== undefined && entry[1].length > 0)) return new Map(entries as Array<[string, string[]]>);
  throw new UserError(
    `${place}: "data_files" is neither patterns nor a list of { split, path }, so nobody knows which files are data; name them as data_files.`,
  );
}
