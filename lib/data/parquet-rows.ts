/** Rows in Parquet, in which Hugging Face's datasets are kept. */
import { messageOf, UserError } from '../errors';
import type { RawRows } from './json-rows';

/** More do not fit into memory as objects; a file that says so is broken. */
const MOST_ROWS = 50_000_000;

/**
 * @param most so many rows are enough, the first ones; groups of rows behind them are not decoded
 * @throws UserError when the file is broken, or of a kind of Parquet that cannot be read
 */
export async function readParquetRows(file: string, most = Infinity): Promise<RawRows> {
  const [{ asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema }, { compressors }] = await Promise.all([
    import('hyparquet'),
    import('hyparquet-compressors'),
  ]);
  try {
    const buffer = await asyncBufferFromFile(file);
    const metadata = await parquetMetadataAsync(buffer);
    if (metadata.num_rows > MOST_ROWS) throw new Error(`${metadata.num_rows} rows are more than the ${MOST_ROWS} that can be`);
    checkLayout({ ...metadata, schema: parquetSchema(metadata) }, buffer.byteLength);
    const rowEnd = Math.min(Number(metadata.num_rows), most);
    const rows = await parquetReadObjects({ file: buffer, metadata, rowEnd, compressors, utf8: false, parsers: { stringFromBytes } });
    if (rows.length !== rowEnd) throw new Error(`${rows.length} rows instead of ${rowEnd}`);
    const values = rows.map(plain);
    return { values, origins: values.map((_, index) => ({ source: file, row: index + 1, unit: 'row' })) };
  } catch (error) {
    throw new UserError(`${file} cannot be read as Parquet (${messageOf(error)}); get it again, or write its rows as JSONL.`, {
      cause: error,
    });
  }
}

/** What a file says of its columns: the tree that a row is, and where each column's values are. */
interface Layout {
  schema: Tree;
  row_groups: ReadonlyArray<{ columns: ReadonlyArray<{ meta_data?: Chunk }> }>;
}

interface Tree {
  path: string[];
  children: Tree[];
}

interface Chunk {
  path_in_schema: string[];
  data_page_offset: bigint;
  dictionary_page_offset?: bigint;
  total_compressed_size: bigint;
}

/**
 * Columns are read side by side: one that turned out to be nowhere when nobody waits for it any more would end the process, so all are
 * looked for before.
 */
function checkLayout({ schema, row_groups }: Layout, size: number): void {
  const leaves = ({ path, children }: Tree): string[] => (children.length > 0 ? children.flatMap(leaves) : [path.join('\0')]);
  const names = leaves(schema).join('\n');
  const isInside = ({ data_page_offset, dictionary_page_offset = data_page_offset, total_compressed_size: length }: Chunk): boolean =>
    [data_page_offset, dictionary_page_offset].every((start) => start >= 0 && start <= size) && length >= 0 && length <= size;
  for (const { columns } of row_groups) {
    const chunks = columns.map(({ meta_data }) => meta_data).filter((chunk) => chunk !== undefined);
    if (chunks.map(({ path_in_schema }) => path_in_schema.join('\0')).join('\n') !== names)
      throw new Error('its columns are not those that it names');
    if (!chunks.every(isInside)) throw new Error('its columns are not in it');
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A text as it is: a mark U+FEFF at its beginning stays, and what is no UTF-8 is an error. */
function stringFromBytes(bytes: Uint8Array | undefined): string | undefined {
  return bytes && UTF8.decode(bytes);
}

/** A value as JSON would have it: whole numbers as numbers, times as texts; bytes, such as those of pictures, are left out. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (value instanceof Uint8Array) return undefined;
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>, Number);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, plain(inner)] as const);
  return Object.fromEntries(entries.filter(([, inner]) => inner !== undefined));
}
