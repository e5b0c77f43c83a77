/** A dataset: rows in memory, with the verbs to split, shuffle, choose and change them. Nothing is changed in place. */
import type { DataFrame } from 'danfojs-node';
import { checkOptions, checkSeed, type OptionNames } from '../arguments';
import { displayHtml, printed } from '../display';
import { UserError } from '../errors';
import { showValue } from '../json';
import { permutation } from '../numpy-random';
import { rowsOfDataFrame, toDataFrame } from './frame';
import { rowsHtml, rowsText } from './preview';
import { parseRows } from './rows';
import { type Example, type ExampleFormat, type ExampleOf, formatOf } from './types';

/** Where a row was read, for errors that name it. */
export interface RowOrigin {
  /** File, or another name for where the rows came from. */
  readonly source: string;
  /** 1 for the first row; in a JSONL file the number of the line. */
  readonly row: number;
  readonly unit?: 'row' | 'line';
}

export interface SplitOptions {
  /** Below 1: that part of the rows, rounded up as datasets does; else that many rows. */
  test: number;
  /** Decides which rows; default 0. */
  seed?: number;
}

const SPLIT_OPTIONS: OptionNames<SplitOptions> = { test: true, seed: true };

/** What a dataset is made with, beside its rows. */
interface DatasetDetails {
  /** Where each row was read. */
  origins?: readonly RowOrigin[];
  notes?: readonly string[];
}

const DETAILS: OptionNames<DatasetDetails> = { origins: true, notes: true };

/** Rows, in order; usually of one kind. */
export class Dataset<Row extends Example = Example> implements Iterable<Row> {
  /** The rows themselves, as plain records. */
  readonly rows: readonly Row[];
  /** The kind of the rows; of the first where kinds are mixed. */
  readonly format: ExampleFormat;
  /** Things about the data that are worth saying once to the user. */
  readonly notes: readonly string[];
  private readonly origins: readonly RowOrigin[] | undefined;

  constructor(rows: readonly Row[], options: DatasetDetails = {}) {
    checkOptions('Dataset', options, DETAILS);
    const { origins, notes = [] } = options;
    if (origins && origins.length !== rows.length) throw new Error(`${rows.length} rows cannot have ${origins.length} origins`);
    this.rows = rows;
    this.origins = origins;
    this.notes = notes;
    this.format = rows.length > 0 ? formatOf(rows[0]) : 'text';
  }

  /** A dataset of rows made in memory, held to the same formats as those of a file. @throws UserError as `loadDataset` does */
  static fromRows(values: readonly unknown[], source = 'rows'): Dataset {
    const { rows, notes } = parseRows(values, (index) => `${source} row ${index + 1}`);
    return new Dataset(rows, { origins: originsOf(rows, source), notes });
  }

  /** The dataset in a danfojs DataFrame whose columns are those of a dataset file. */
  static fromDataFrame(frame: Pick<DataFrame, 'columns' | 'values'>): Dataset {
    const { rows, notes } = rowsOfDataFrame(frame);
    return new Dataset(rows, { origins: originsOf(rows, 'DataFrame'), notes });
  }

  /** Number of rows. */
  get length(): number {
    return this.rows.length;
  }

  [Symbol.iterator](): Iterator<Row> {
    return this.rows[Symbol.iterator]();
  }

  /** Where a row came from, for a message: `data.jsonl line 12`; `row 12` of a dataset that was made in memory. */
  placeOf(index: number): string {
    const origin = this.origins?.[index];
    return origin ? `${origin.source} ${origin.unit ?? 'row'} ${origin.row}` : `row ${index + 1}`;
  }

  /** Where a row came from. */
  originOf(index: number): RowOrigin {
    return this.origins?.[index] ?? { source: 'dataset', row: index + 1 };
  }

  /** The same dataset with its rows typed as one kind. @throws UserError where a row is of another kind */
  as<F extends ExampleFormat>(format: F): Dataset<ExampleOf[F]> {
    const other = this.rows.findIndex((row) => formatOf(row) !== format);
    if (other >= 0) throw new UserError(`${this.placeOf(other)} is of format ${formatOf(this.rows[other])}, but ${format} was expected.`);
    return this as unknown as Dataset<ExampleOf[F]>;
  }

  /** Cuts the rows in two, shuffled: the parts that `train_test_split` of Hugging Face's datasets makes with the same size and seed. */
  split(options: SplitOptions): { train: Dataset<Row>; test: Dataset<Row> } {
    checkOptions('split', options, SPLIT_OPTIONS, { test_size: 'test', testSize: 'test' });
    const { test, seed = 0 } = options;
    const count = test < 1 ? Math.ceil(test * this.length) : test;
    if (!(test > 0) || !Number.isInteger(count) || count < 1 || count >= this.length) {
      if (this.length < 2) throw new UserError(`${this.length === 0 ? 'No rows' : 'One row'} cannot be split in two; give more rows.`);
      throw new UserError(
        `split({ test: ${showValue(test)} }) of ${this.length} rows leaves no row on one side; give a fraction between 0 and 1, or a whole number from 1 to ${this.length - 1}.`,
      );
    }
    const order = this.order(seed);
    return { train: this.pick(order.slice(count)), test: this.pick(order.slice(0, count)) };
  }

  /** The rows in an order that the seed alone determines: that of `shuffle(seed)` of Hugging Face's datasets. */
  shuffle(seed = 0): Dataset<Row> {
    return this.pick(this.order(seed));
  }

  private order(seed: number): number[] {
    checkSeed(seed);
    return permutation(this.length, seed);
  }

  /** The first n rows; all of them where there are fewer. */
  take(n: number): Dataset<Row> {
    if (!Number.isInteger(n) || n < 0) throw new UserError(`take(${showValue(n)}) needs a whole number from 0 up.`);
    return this.pick([...this.rows.keys()].slice(0, n));
  }

  /** All but the first n rows. */
  skip(n: number): Dataset<Row> {
    if (!Number.isInteger(n) || n < 0) throw new UserError(`skip(${showValue(n)}) needs a whole number from 0 up.`);
    return this.pick([...this.rows.keys()].slice(n));
  }

  /** The rows for which `keep` holds. */
  filter(keep: (row: Row, index: number) => boolean): Dataset<Row> {
    return this.pick([...this.rows.keys()].filter((i) => keep(this.rows[i], i)));
  }

  /** Every row changed by `change`; rows remember where they came from. */
  map<Out extends Example>(change: (row: Row, index: number) => Out): Dataset<Out> {
    return new Dataset(this.rows.map(change), { origins: this.origins, notes: this.notes });
  }

  /** Shows the first n rows: as a table in a notebook, as text in a terminal. */
  preview(n = 5): void {
    displayHtml(this.toHtml(n), this.toText(n));
  }

  /** The first n rows as an HTML table. */
  toHtml(n = 5): string {
    return rowsHtml(this.rows.slice(0, n), this.length);
  }

  /** The first n rows as text. */
  toText(n = 5): string {
    return rowsText(this.rows.slice(0, n), this.length);
  }

  /** The rows as a danfojs DataFrame, with a column for each field. */
  toDataFrame(): Promise<DataFrame> {
    return toDataFrame(this.rows);
  }

  /** `Dataset: 2412 rows (alpaca)`, where it is a cell's last expression. */
  [printed](): string {
    const others = this.rows.some((row) => formatOf(row) !== this.format) ? ' and others' : '';
    return `Dataset: ${this.length} row${this.length === 1 ? '' : 's'} (${this.format}${others})`;
  }

  private pick(indices: readonly number[]): Dataset<Row> {
    return new Dataset(
      indices.map((i) => this.rows[i]),
      { origins: this.origins && indices.map((i) => (this.origins as readonly RowOrigin[])[i]), notes: this.notes },
    );
  }
}

function originsOf(rows: readonly Example[], source: string): RowOrigin[] {
  return rows.map((_, index) => ({ source, row: index + 1 }));
}
