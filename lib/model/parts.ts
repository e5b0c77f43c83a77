/**
 * Parameters that checkpoints hold in parts: what experts have is one tensor here, as products of one after the other want it, and there often a matrix
 * of each expert; so have the norms of StableLM's heads a vector each.
 */
import { UserError } from '../errors';
import type { SafetensorsFile, TensorEntry, TensorToWrite } from './safetensors';

/** A parameter that checkpoints hold in parts. */
export interface InParts {
  /** Of the whole. */
  shape: readonly number[];
  /** Names of its parts, which lie one below the other. */
  names: readonly string[];
}

/** The shape of a part: of matrices one, or one half; of a matrix whose rows are the parts a vector. */
function partShape(whole: readonly number[], count: number): number[] {
  const columns = whole[whole.length - 1];
  return whole.length === 2 ? [columns] : [sizeOf(whole) / columns / count, columns];
}

/** A part: a matrix or vector in one of several files. */
interface Part {
  file: SafetensorsFile;
  name: string;
  shape: readonly number[];
}

/**
 * Files as if they held whole what they hold in parts; one more has that.
 * @param inParts by name
 * @param namesOf names under which a file may have a part, the usual one first
 * @throws UserError when some of a parameter's parts are missing, or have another shape
 */
export function readWhole(
  files: readonly SafetensorsFile[],
  inParts: ReadonlyMap<string, InParts>,
  namesOf: (part: string) => readonly string[] = (part) => [part],
): SafetensorsFile[] {
  const wholes: Whole[] = [];
  for (const [name, { names, shape }] of inParts) {
    const found = names.map((part) => findPart(namesOf(part), files));
    if (found.some((part) => part !== undefined)) wholes.push({ name, shape, parts: checkParts(found, names, shape) });
  }
  if (wholes.length === 0) return [...files];
  const taken = new Set(wholes.flatMap(({ parts }) => parts.map(({ name }) => name)));
  const others = files.map((file) => ({ ...file, tensors: new Map([...file.tensors].filter(([name]) => !taken.has(name))) }));
  return [...others, fileOf(wholes)];
}

interface Whole {
  name: string;
  shape: readonly number[];
  parts: readonly Part[];
}

function findPart(names: readonly string[], files: readonly SafetensorsFile[]): Part | undefined {
  for (const name of names)
    for (const file of files) {
      const entry = file.tensors.get(name);
      if (entry) return { file, name, shape: entry.shape };
    }
  return undefined;
}

/** The parts, which must all be there, and alike. */
function checkParts(found: ReadonlyArray<Part | undefined>, names: readonly string[], whole: readonly number[]): Part[] {
  const asked = partShape(whole, names.length);
  const place = found.find((part) => part !== undefined)?.file.file;
  return found.map((part, index) => {
    if (!part)
      throw new UserError(
        `${place}: the tensor "${names[index]}" is missing from the weights; the checkpoint is incomplete or its config.json is another model's.`,
      );
    if (part.shape.join() === asked.join()) return part;
    throw new UserError(
      `${part.file.file}: the tensor "${part.name}" has shape [${part.shape}], but config.json asks for [${asked}]; one of the two is another model's.`,
    );
  });
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, n) => product * n, 1);

/** A file that reads its tensors part by part. */
function fileOf(wholes: readonly Whole[]): SafetensorsFile {
  const entryOf = ({ file, name }: Part): TensorEntry => file.tensors.get(name) as TensorEntry;
  const bytesOf = (part: Part): number => entryOf(part).end - entryOf(part).begin;
  const [{ file, metadata }] = wholes[0].parts.map((part) => part.file);
  const tensors = wholes.map(({ name, shape, parts }): [string, TensorEntry] => {
    const bytes = parts.reduce((sum, part) => sum + bytesOf(part), 0);
    return [name, { dtype: entryOf(parts[0]).dtype, shape, begin: 0, end: bytes }];
  });
  const byName = new Map(wholes.map((whole) => [whole.name, whole]));
  return {
    ...{ file, metadata, tensors: new Map(tensors), close: async () => {} },
    read: async (name, onBytes) => {
      const { shape, parts } = byName.get(name) as Whole;
      const values = new Float32Array(sizeOf(shape));
      let at = 0;
      for (const part of parts) {
        const read = await part.file.read(part.name, onBytes);
        values.set(read, at);
        at += read.length;
      }
      return values;
    },
    readBits: (name, onBytes) => {
      const { shape, parts } = byName.get(name) as Whole;
      const are16Bits = parts.every((part) => entryOf(part).dtype === entryOf(parts[0]).dtype && 2 * sizeOf(part.shape) === bytesOf(part));
      return are16Bits ? joinBits(parts, sizeOf(shape), onBytes) : undefined;
    },
  };
}

async function joinBits(parts: readonly Part[], size: number, onBytes?: (bytes: number) => void): Promise<Uint16Array> {
  const bits = new Uint16Array(size);
  let at = 0;
  for (const { file, name } of parts) {
    const read = await file.readBits?.(name, onBytes);
    if (!read) throw new Error(`The bits of ${name} cannot be read.`);
    bits.set(read, at);
    at += read.length;
  }
  return bits;
}

/** Tensors to write, of which some go into a file in parts. */
export function cutIntoParts(tensors: readonly TensorToWrite[], inParts: ReadonlyMap<string, InParts>): TensorToWrite[] {
  return tensors.flatMap((tensor) => {
    const { names } = inParts.get(tensor.name) ?? {};
    if (!names) return [tensor];
    const shape = partShape(tensor.shape, names.length);
    const size = sizeOf(shape);
    const values = readOnce(tensor.data, names.length);
    return names.map((name, index) => ({
      name,
      shape,
      data: async () => (await values()).subarray(index * size, (index + 1) * size),
    }));
  });
}

/** What is read, for so many readers: for the first of them, and let go with the last. */
function readOnce<T>(read: () => T | Promise<T>, readers: number): () => Promise<T> {
  let found: Promise<T> | undefined;
  let left = readers;
  return async () => {
    found ??= Promise.resolve(read());
    const value = await found;
    left--;
    if (left === 0) [found, left] = [undefined, readers];
    return value;
  };
}
