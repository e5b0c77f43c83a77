/** `tunebook export`: writes a model, with what its adapter adds, for transformers.js or as a GGUF file. */
import * as path from 'node:path';
import { UserError } from '../errors';
import {
  bytesOfGguf,
  checkExport,
  checkGguf,
  DEFAULT_GGUF_DTYPE,
  DEFAULT_ONNX_DTYPES,
  exportGguf,
  exportModel,
  type GgufDtype,
  mergeAdapter,
  type OnnxDtype,
} from '../model';
import { loadModelOn } from './device';
import { type FlagValues, readFlags, splitWords } from './flags';
import type { Output } from './output';
import { endOnSignals } from './signals';
import { bytesOfExport, checkSpace } from './space';
import { exportFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook export';

type ExportFlags = FlagValues<typeof exportFlags>;

export async function run(words: readonly string[], _output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), exportFlags, COMMAND);
  endOnSignals();
  const { output_dir: folder, gguf: file } = flags;
  if (folder !== null && file === null) return toFolder(folder, flags);
  if (file !== null && folder === null) return toFile(file, flags);
  const fault = folder === null ? 'needs a place to write to' : 'writes to one place at a time';
  throw new UserError(`${COMMAND} ${fault}; give --output_dir DIR for transformers.js, or --gguf FILE for llama.cpp.`);
}

async function toFolder(folder: string, flags: ExportFlags): Promise<VerbResult> {
  // what is no format of a folder, `checkExport` refuses
  const named = flags.dtype.flatMap((dtype) => (dtype === 'both' ? DEFAULT_ONNX_DTYPES : [dtype as OnnxDtype]));
  const dtypes = named.length === 0 ? DEFAULT_ONNX_DTYPES : [...new Set(named)];
  checkExport(folder, dtypes);
  const model = await loadModelOn({ ...flags, device: 'cpu', threads: null });
  checkSpace(folder, bytesOfExport(model, dtypes));
  await exportModel(model, folder, { dtypes });
  return {
    json: { output_dir: folder },
    text: `The exported model is in ${folder}; transformers.js opens it by pipeline('text-generation', ${JSON.stringify(asPath(folder))}).`,
  };
}

async function toFile(file: string, flags: ExportFlags): Promise<VerbResult> {
  const [dtype = DEFAULT_GGUF_DTYPE, ...others] = flags.dtype as GgufDtype[];
  if (others.length > 0)
    throw new UserError(
      `--dtype is ${flags.dtype.join(',')}, but a GGUF file has one format; name one, and write another file for the other.`,
    );
  checkGguf(file, dtype);
  const model = await loadModelOn({ ...flags, device: 'cpu', threads: null });
  if (model.adapter) mergeAdapter(model);
  checkSpace(file, bytesOfGguf(model, dtype));
  await exportGguf(model, file, { dtype });
  return { json: { gguf: file }, text: `The exported model is ${file}; llama.cpp opens it by llama-cli -m ${JSON.stringify(file)}.` };
}

/** transformers.js takes a name like `runs/tuned` for one on the Hub. */
function asPath(folder: string): string {
  return path.isAbsolute(folder) || folder.startsWith('.') ? folder : `./${folder}`;
}
