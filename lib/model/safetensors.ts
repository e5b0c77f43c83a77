/**
 * The safetensors format: 8 bytes of header length, a JSON header with name, type, shape and place of each tensor,
 * then their values (https://github.com/huggingface/safetensors). Values are read as float32, piece by piece.
 */
import * as fs from 'node:fs/promises';
import type * as tf from '@tensorflow/tfjs-core';
import { ownedTensor } from '../engine';
import { UserError } from '../errors';
import { parseJson, readError, writePiecesAtomic } from '../files';
import { isObject, showValue } from '../json';
import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../number-formats';
import type { SavedDtype } from './types';

type Dtype = 'F32' | 'F16' | 'BF16';

/** Bytes of one value, for every type of the format; only the types of `Dtype` can be read. */
const BYTES: Readonly<Record<string, number>> = {
  ...{ F64: 8, I64: 8, U64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2, I16: 2, U16: 2 },
  ...{ I8: 1, U8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1 },
};
const SAVED: Readonly<Record<SavedDtype, Dtype>> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' };

/** The same limit as the reference implementation's: no header of a real checkpoint is near it. */
const LONGEST_HEADER = 100_000_000;
/** Bytes read at a time. */
const PIECE = 1 << 25;

/** One tensor as the header describes it. */
export interface TensorEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Where its values lie in the file, in bytes from its start. */
  readonly begin: number;
  readonly end: number;
}

/** An open safetensors file. The caller closes it. */
export interface SafetensorsFile {
  readonly file: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /**
   * The values of one tensor as float32.
   * @param onBytes told how many bytes each piece had
   * @throws UserError when its type is not a float of 16 or 32 bits, or the file ends early
   */
  read(name: string, onBytes?: (bytes: number) => void): Promise<Float32Array>;
  /** The bits of a tensor of 16-bit floats as they lie in the file; undefined where they do not lie so. */
  readBits?(name: string, onBytes?: (bytes: number) => void): Promise<Uint16Array> | undefined;
  close(): Promise<void>;
}

/** A named tensor to be written; the values are asked for when their turn comes. */
export interface TensorToWrite {
  name: string;
  shape: readonly number[];
  data: () => Float32Array | Promise<Float32Array>;
}

/** Variables to be written under their names. @param transposed those that the file is to hold transposed */
export function tensorsOf(variables: ReadonlyMap<string, tf.Variable>, transposed: ReadonlySet<string> = new Set()): TensorToWrite[] {
  return [...variables].map(([name, variable]) => {
    const data = async (): Promise<Float32Array> => (await variable.data()) as Float32Array;
    const { shape } = variable;
    if (!transposed.has(name)) return { name, shape, data };
    return { name, shape: shape.toReversed(), data: async () => transpose(await data(), shape[shape.length - 1]) };
  });
}

/** A file as if it held some matrices the other way round. */
export function readTransposed(file: SafetensorsFile, transposed: ReadonlySet<string>): SafetensorsFile {
  const turned = ([name, entry]: [string, TensorEntry]): [string, TensorEntry] =>
    transposed.has(name) ? [name, { ...entry, shape: entry.shape.toReversed() }] : [name, entry];
  return {
    ...file,
    tensors: new Map([...file.tensors].map(turned)),
    read: async (name, onBytes) => {
      const values = await file.read(name, onBytes);
      return transposed.has(name) ? transpose(values, file.tensors.get(name)?.shape[1] ?? 1) : values;
    },
    readBits: (name, onBytes) => (transposed.has(name) ? undefined : file.readBits?.(name, onBytes)),
  };
}

/** @param columns of the matrix as it is */
function transpose(values: Float32Array, columns: number): Float32Array {
  const rows = values.length / columns;
  const turned = new Float32Array(values.length);
  for (let row = 0, at = 0; row < rows; row++) for (let column = 0; column < columns; column++) turned[column * rows + row] = values[at++];
  return turned;
}

/**
 * Opens a file and checks its header against its size.
 * @throws UserError when the file is missing, truncated, or not safetensors
 */
export async function openSafetensors(file: string): Promise<SafetensorsFile> {
  const handle = await fs.open(file, 'r').catch((error: unknown) => {
    throw readError(file, error);
  });
  try {
    const { metadata, tensors } = await readHeader(file, handle);
    return {
      file,
      metadata,
      tensors,
      read: (name, onBytes) => readTensor(file, handle, name, tensors.get(name), onBytes),
      readBits: (name, onBytes) => readBits(file, handle, tensors.get(name), onBytes),
      close: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Gives a variable the values of a tensor of its size. */
export async function readInto(variable: tf.Variable, file: SafetensorsFile, name: string): Promise<void> {
  const value = ownedTensor(await file.read(name), variable.shape);
  variable.assign(value);
  value.dispose();
}

/** Reads all tensors of a file. */
export async function readSafetensors(file: string): Promise<Map<string, { shape: readonly number[]; data: Float32Array }>> {
  const opened = await openSafetensors(file);
  try {
    const result = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const [name, { shape }] of opened.tensors) result.set(name, { shape, data: await opened.read(name) });
    return result;
  } finally {
    await opened.close();
  }
}

async function readHeader(file: string, handle: fs.FileHandle): Promise<Pick<SafetensorsFile, 'metadata' | 'tensors'>> {
  const { size } = await handle.stat();
  if (size < 8) throw new UserError(`${file} has ${size} bytes, too few for a safetensors file; download or save it again.`);
  const start = Buffer.alloc(8);
  await readFully(file, handle, start, 0);
  const claimed = start.readBigUInt64LE();
  if (claimed > BigInt(size - 8)) {
    throw new UserError(
      `${file}: the header claims ${claimed} bytes, but the file has ${size}; it is truncated or not safetensors: download or save it again.`,
    );
  }
  const length = Number(claimed);
  if (length > LONGEST_HEADER)
    throw new UserError(
      `${file}: the header claims ${length} bytes, more than the ${LONGEST_HEADER} that are allowed; it is no safetensors file.`,
    );
  const text = Buffer.alloc(length);
  await readFully(file, handle, text, 8);
  const header = parseJson(text.toString('utf8').trimEnd(), `the header of ${file}`);
  if (!isObject(header)) throw new UserError(`${file}: the header is not a JSON object; it is no safetensors file.`);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, readEntry(file, name, value, 8 + length));
  }
  checkPlaces(file, tensors, 8 + length, size);
  return { metadata: readMetadata(header.__metadata__), tensors };
}

function readMetadata(value: unknown): Record<string, string> {
  return isObject(value)
    ? Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'))
    : {};
}

function readEntry(file: string, name: string, value: unknown, dataStart: number): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = isObject(value) ? value : {};
  const isPlace = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (
    typeof dtype !== 'string' ||
    !Array.isArray(shape) ||
    !shape.every(isPlace) ||
    !Array.isArray(offsets) ||
    offsets.length !== 2 ||
    !offsets.every(isPlace)
  ) {
    throw new UserError(
      `${file}: the header's entry for "${name}" needs dtype, shape and data_offsets, but is ${showValue(value)}; save the file again.`,
    );
  }
  const bytes = Object.hasOwn(BYTES, dtype) ? BYTES[dtype] : undefined;
  if (bytes === undefined)
    throw new UserError(`${file}: "${name}" has the unknown type ${dtype}; known are ${Object.keys(BYTES).join(', ')}.`);
  const expected = shape.reduce((product, n) => product * n, bytes);
  if (offsets[1] - offsets[0] !== expected) {
    throw new UserError(
      `${file}: "${name}" of shape [${shape}] and type ${dtype} needs ${expected} bytes, but its place has ${offsets[1] - offsets[0]}; save the file again.`,
    );
  }
  return { dtype, shape, begin: dataStart + offsets[0], end: dataStart + offsets[1] };
}

/** The tensors must lie end to end and fill the file: no overlap, no hole, nothing beyond the end. */
function checkPlaces(file: string, tensors: ReadonlyMap<string, TensorEntry>, dataStart: number, size: number): void {
  let at = dataStart;
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (end > size) {
      throw new UserError(
        `${file} is truncated: "${name}" should reach to byte ${end}, but the file has ${size}; download or save it again.`,
      );
    }
    if (begin !== at)
      throw new UserError(`${file}: "${name}" begins at byte ${begin}, but the tensor before it ends at ${at}; save the file again.`);
    at = end;
  }
  if (at !== size) throw new UserError(`${file} has ${size - at} bytes after its last tensor; it is damaged: download or save it again.`);
}

async function readTensor(
  file: string,
  handle: fs.FileHandle,
  name: string,
  entry: TensorEntry | undefined,
  onBytes?: (bytes: number) => void,
): Promise<Float32Array> {
  if (!entry) throw new UserError(`${file} has no tensor "${name}".`);
  const { dtype, begin, end } = entry;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
    throw new UserError(`${file}: "${name}" has type ${dtype}; only F32, F16 and BF16 weights can be read: convert the checkpoint.`);
  }
  const values = new Float32Array((end - begin) / BYTES[dtype]);
  const convert = dtype === 'F16' ? float16ToFloat32 : bfloat16ToFloat32;
  // 16-bit values pass through a scratch piece, float32 goes straight to its place
  const scratch = dtype === 'F32' ? undefined : new Uint16Array(Math.min(values.length, PIECE / 2));
  for (let at = begin; at < end; ) {
    const bytes = Math.min(PIECE, end - at);
    const piece = scratch ? new Uint8Array(scratch.buffer, 0, bytes) : new Uint8Array(values.buffer, at - begin, bytes);
    await readFully(file, handle, piece, at);
    if (scratch) convert(scratch.subarray(0, bytes / 2), values, (at - begin) / 2);
    at += bytes;
    onBytes?.(bytes);
  }
  return values;
}

function readBits(
  file: string,
  handle: fs.FileHandle,
  entry: TensorEntry | undefined,
  onBytes?: (bytes: number) => void,
): Promise<Uint16Array> | undefined {
  if (entry?.dtype !== 'F16' && entry?.dtype !== 'BF16') return undefined;
  const { begin, end } = entry;
  return (async () => {
    const bits = new Uint16Array((end - begin) / 2);
    for (let at = begin; at < end; ) {
      const bytes = Math.min(PIECE, end - at);
      await readFully(file, handle, new Uint8Array(bits.buffer, at - begin, bytes), at);
      at += bytes;
      onBytes?.(bytes);
    }
    return bits;
  })();
}

async function readFully(file: string, handle: fs.FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < target.length; ) {
    const { bytesRead } = await handle.read(target, at, target.length - at, position + at).catch((error: unknown) => {
      throw readError(file, error);
    });
    if (bytesRead === 0) throw new UserError(`${file} ended early, at byte ${position + at}; download or save it again.`);
    at += bytesRead;
  }
}

/**
 * Writes a file tensor by tensor, first under a temporary name beside it: `file` is always whole or absent.
 * @throws UserError when the system refuses, for example because the disk is full; then nothing is left behind
 */
export async function writeSafetensors(
  file: string,
  tensors: readonly TensorToWrite[],
  { metadata = { format: 'pt' }, dtype = 'float32' }: { metadata?: Record<string, string>; dtype?: SavedDtype } = {},
): Promise<void> {
  const sorted = [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1));
  async function* pieces(): AsyncGenerator<Uint8Array> {
    yield headerBytes(sorted, SAVED[dtype], metadata);
    for (const tensor of sorted) yield savedBytes(tensor, await tensor.data(), dtype);
  }
  await writePiecesAtomic(file, pieces());
}

function headerBytes(tensors: readonly TensorToWrite[], dtype: Dtype, metadata: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let at = 0;
  for (const { name, shape } of tensors) {
    const bytes = shape.reduce((product, n) => product * n, BYTES[dtype]);
    header[name] = { dtype, shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  const json = Buffer.from(JSON.stringify(header));
  // spaces at the end let the values begin at a multiple of 8
  const bytes = Buffer.alloc(8 + 8 * Math.ceil(json.length / 8), ' ');
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8));
  json.copy(bytes, 8);
  return bytes;
}

function savedBytes({ name, shape }: TensorToWrite, values: Float32Array, dtype: SavedDtype): Uint8Array {
  const expected = shape.reduce((product, n) => product * n, 1);
  if (values.length !== expected) throw new Error(`${name} has ${values.length} values, but its shape is [${shape}].`);
  const saved = dtype === 'float32' ? values : dtype === 'float16' ? float32ToFloat16(values) : float32ToBfloat16(values);
  return new Uint8Array(saved.buffer, saved.byteOffset, saved.byteLength);
}
