/** `tunebook export`: writes a model, with what its adapter adds, for transformers.js. */
import * as path from 'node:path';
import { checkExport, DEFAULT_ONNX_DTYPES, exportModel } from '../model';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { bytesOfExport, checkSpace } from './space';
import { exportFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook export';

export async function run(words: readonly string[], _output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), exportFlags, COMMAND);
  const { output_dir: folder, dtype } = flags;
  const dtypes = dtype === 'both' ? DEFAULT_ONNX_DTYPES : [dtype];
  checkExport(folder, dtypes);
  const model = await loadModelOn({ ...flags, device: 'cpu', threads: null });
  checkSpace(folder, bytesOfExport(model, dtypes));
  await exportModel(model, folder, { dtypes });
  return {
    json: { output_dir: folder },
    text: `The exported model is in ${folder}; transformers.js opens it by pipeline('text-generation', ${JSON.stringify(asPath(folder))}).`,
  };
}

/** transformers.js takes a name like `runs/tuned` for one on the Hub. */
function asPath(folder: string): string {
  return path.isAbsolute(folder) || folder.startsWith('.') ? folder : `./${folder}`;
}
