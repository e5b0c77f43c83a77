/**
 * The GGUF format, in which llama.cpp, Ollama and LM Studio read models: one file with keys that say what the model and its tokenizer are, and
 * the weights (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Values lie in it as llama.cpp's own converter writes them.
 */
import { checkModel, checkOptions, checkPath } from '../arguments';
import { UserError } from '../errors';
import { checkWritable, writePiecesAtomic } from '../files';
import { refuseCompact } from './compact-weights';
import { DEFAULT_GGUF_DTYPE, formatOf, GGUF_DTYPES, GGUF_FORMATS, type GgufDtype } from './gguf-dtypes';
import { ggufLayoutOf } from './gguf-families';
import { type GgufKeys, text, whole } from './gguf-keys';
import type { GgufLayout } from './gguf-layout';
import { partOfEach } from './gguf-order';
import { ggufVocabulary } from './gguf-vocabulary';
import { HEAD } from './names';
import type { CausalLM } from './types';

export interface GgufOptions {
  /**
   * Number format of the matrices, under llama.cpp's name: f32, f16, bf16, or q8_0, a little more than a quarter of f32's size. Vectors stay in
   * float32. Default: f16.
   */
  dtype?: GgufDtype;
}

/** Where each tensor begins is a multiple of so many bytes. */
const ALIGNMENT = 32;

/** A tensor of the file. */
interface GgufTensor {
  name: string;
  shape: readonly number[];
  dtype: GgufDtype;
  values(): Promise<Float32Array>;
}

/**
 * Writes a model and its tokenizer as one GGUF file, for llama.cpp and what is built on it (Ollama, LM Studio). An adapter is merged into the
 * model first (`mergeAdapter`). The file is written under another name and renamed when it is whole.
 * @param file for example `runs/tuned.gguf`
 * @throws UserError when there is no such option; when the file would replace something else; when the model has an adapter, weights in 4 bits, or a number beyond the
 *   format's range; when llama.cpp does not compute such a model, or has no rule for its tokenizer; when the system refuses to write
 */
export async function exportGguf(model: CausalLM, file: string, options: GgufOptions = {}): Promise<void> {
  checkModel('exportGguf', model);
  checkPath('exportGguf', 'file', file);
  checkOptions('exportGguf', options, { dtype: true }, { outtype: 'dtype' });
  const { dtype = DEFAULT_GGUF_DTYPE } = options;
  checkGguf(file, dtype);
  refuseCompact(model, 'cannot be exported');
  if (model.adapter)
    throw new UserError(`${model.source} has an adapter, which a GGUF file has no place for; merge it first (mergeAdapter(model)).`);
  const layout = ggufLayoutOf(model);
  const tensors = tensorsFor(model, layout, dtype);
  const keys = keysFor(model, layout, dtype);
  await writePiecesAtomic(file, piecesOf(keys, tensors));
}

/** Makes sure that a model can be exported as a file. @throws UserError when its name is another kind's, it is a folder or cannot be written, or the number format is none */
export function checkGguf(file: string, dtype: string): void {
  if (!(GGUF_DTYPES as readonly string[]).includes(dtype))
    throw new UserError(
      `There is no dtype ${JSON.stringify(dtype)} of a GGUF file; choose from ${new Intl.ListFormat('en').format(GGUF_DTYPES)}.`,
    );
  if (!file.endsWith('.gguf')) throw new UserError(`${file} is no name of a GGUF file; let it end in .gguf.`);
  checkWritable(file);
}

/** Bytes of the tensors in the file. */
export function bytesOfGguf(model: CausalLM, dtype: GgufDtype): number {
  return tensorsFor(model, ggufLayoutOf(model), dtype).reduce((sum, tensor) => sum + aligned(bytesIn(tensor)), 0);
}

/** llama.cpp adds positions up in float32, weighs what is normalized in it, and its own converter leaves what chooses experts in it. */
const IN_FLOAT32 = /^position_embd\.weight$|\.ffn_gate_inp(?:_shexp)?\.weight$|_norm\.weight$/;

function keysFor(model: CausalLM, { architecture, keys }: GgufLayout, dtype: GgufDtype): GgufKeys {
  const own = Object.entries(keys).map(([key, value]) => [`${architecture}.${key}`, value]);
  return {
    'general.architecture': text(architecture),
    'general.type': text('model'),
    'general.file_type': whole(GGUF_FORMATS[dtype].fileType),
    'general.quantization_version': whole(2),
    ...Object.fromEntries(own),
    ...ggufVocabulary(model.tokenizer, model.embeddings[0].weight.shape[0]),
  };
}

function tensorsFor(
  model: CausalLM,
  { names, change = (_, values) => values, parts = {}, vectors = {}, more = {}, repeatsHead }: GgufLayout,
  dtype: GgufDtype,
): GgufTensor[] {
  const tensors = [...model.parameters].flatMap(([name, variable]): GgufTensor[] => {
    const values = async () => change(name, (await variable.data()) as Float32Array);
    const namesInFile = ggufNames(name, names, parts);
    const { matrices, rows, columns, isConvolution } = sizesOf(variable.shape);
    const shape = [...matrices, rows / namesInFile.length, ...columns];
    const inFloat32 = isConvolution || variable.rank === 1 || namesInFile.some((inFile) => IN_FLOAT32.test(inFile));
    return namesInFile.map((inFile, i) => ({
      name: inFile,
      shape: vectors[inFile.replace(/\.\d+\./, '.#.')] ?? shape,
      dtype: inFloat32 ? 'f32' : formatOf(shape, dtype),
      values: async () => partOfEach(await values(), matrices[0] ?? 1, namesInFile.length, i),
    }));
  });
  if (repeatsHead && !tensors.some(({ name }) => name === 'output.weight')) {
    const { outputHead: head } = model;
    const values = async () => change(`${HEAD}.weight`, await head.data<'float32'>());
    tensors.push({ name: 'output.weight', shape: head.shape, dtype: formatOf(head.shape, dtype), values });
  }
  for (const [name, values] of Object.entries(more))
    tensors.push({ name, shape: [values.length], dtype: 'f32', values: async () => values });
  return tensors;
}

/** How what lies in a file is to be seen: of experts there are as many matrices, of others one, or a vector. */
function sizesOf(shape: readonly number[]): { matrices: number[]; rows: number; columns: number[]; isConvolution: boolean } {
  // weights of a convolution for each feature by itself are a matrix there, in float32
  const isConvolution = shape.length === 3 && shape[1] === 1;
  const seen = isConvolution ? [shape[0], shape[2]] : shape;
  const matrices = seen.slice(0, Math.max(seen.length - 2, 0));
  const [rows, ...columns] = seen.slice(matrices.length);
  return { matrices, rows, columns, isConvolution };
}

function ggufNames(name: string, names: GgufLayout['names'], parts: NonNullable<GgufLayout['parts']>): string[] {
  const layer = /\.(\d+)\./.exec(name)?.[1] ?? '';
  const anyLayer = name.replace(`.${layer}.`, '.#.');
  const inLayer = (known: string): string => known.replace('#', layer);
  // a parameter of another kind has a name of its own, and so may one of these
  const [, module, kind] = anyLayer in names || anyLayer in parts ? [] : (/^(.*)(\.weight|\.bias)$/.exec(anyLayer) ?? []);
  if (module === undefined) return known(parts[anyLayer] ?? [names[anyLayer]], name).map(inLayer);
  return known(parts[module] ?? [names[module]], name).map((found) => `${inLayer(found)}${kind}`);
}

function known(names: ReadonlyArray<string | undefined>, name: string): string[] {
  const found = names.filter((each) => each !== undefined);
  if (found.length === 0) throw new Error(`llama.cpp has no name for ${name}.`);
  return found;
}

const aligned = (bytes: number): number => ALIGNMENT * Math.ceil(bytes / ALIGNMENT);

const bytesIn = ({ shape, dtype }: GgufTensor): number => GGUF_FORMATS[dtype].bytes(shape.reduce((product, n) => product * n, 1));

/** The header and the tensors, each filled up so that the next one begins where it may. */
async function* piecesOf(keys: GgufKeys, tensors: readonly GgufTensor[]): AsyncGenerator<Uint8Array> {
  yield* padded(await headerOf(keys, tensors));
  for (const tensor of tensors) yield* padded(encoded(tensor, await tensor.values()));
}

/** Magic, counts and keys, then of each tensor its name, shape (columns first), format, and where it begins behind all this. */
async function headerOf(keys: GgufKeys, tensors: readonly GgufTensor[]): Promise<Uint8Array> {
  // loaded when it is needed: it brings a list of all tasks of the Hub along
  const { serializeGgufMetadata } = await import('@huggingface/gguf');
  const counts = {
    version: { value: 3, type: 4 },
    tensor_count: { value: BigInt(tensors.length), type: 10 },
    kv_count: { value: BigInt(Object.keys(keys).length), type: 10 },
  };
  const typed = { ...counts, ...keys } as unknown as Parameters<typeof serializeGgufMetadata>[0];
  const parts: Uint8Array[] = [serializeGgufMetadata(typed, { alignment: 1 })];
  let at = 0;
  for (const tensor of tensors) {
    parts.push(tensorInfo(tensor, at));
    at += aligned(bytesIn(tensor));
  }
  return Buffer.concat(parts);
}

function tensorInfo({ name, shape, dtype }: GgufTensor, at: number): Buffer {
  const bytes = Buffer.alloc(8 + name.length + 4 + 8 * shape.length + 4 + 8);
  let offset = bytes.writeBigUInt64LE(BigInt(name.length));
  offset += bytes.write(name, offset, 'latin1');
  offset = bytes.writeUInt32LE(shape.length, offset);
  for (const size of shape.toReversed()) offset = bytes.writeBigUInt64LE(BigInt(size), offset);
  offset = bytes.writeUInt32LE(GGUF_FORMATS[dtype].tensorType, offset);
  bytes.writeBigUInt64LE(BigInt(at), offset);
  return bytes;
}

const padded = (bytes: Uint8Array): Uint8Array[] => [bytes, new Uint8Array(aligned(bytes.length) - bytes.length)];

function encoded({ name, dtype }: GgufTensor, values: Float32Array): Uint8Array {
  const wrong = values.find((value) => !Number.isFinite(value));
  if (wrong !== undefined)
    throw new UserError(`The tensor ${name} holds ${wrong}, so that the model would answer nothing; train it again.`);
  const { largest } = GGUF_FORMATS[dtype];
  const beyond = values.find((value) => Math.abs(value) > largest);
  if (beyond !== undefined)
    throw new UserError(`The tensor ${name} holds ${beyond}, beyond the range of ${dtype} (±${largest}); choose the dtype bf16 or f32.`);
  return GGUF_FORMATS[dtype].encode(values);
}
