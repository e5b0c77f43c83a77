/** `tunebook merge`: adds an adapter to the weights of its base model, and saves that as a model of its own. */
import { UserError } from '../errors';
import { realPath } from '../files';
import { checkOutputFolder, mergeAdapter, saveModel } from '../model';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { endOnSignals } from './signals';
import { bytesOfModel, checkSpace } from './space';
import { mergeFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook merge';

export async function run(words: readonly string[], _output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), mergeFlags, COMMAND);
  endOnSignals();
  const { model: name, output_dir: folder, dtype } = flags;
  checkOutputFolder(folder);
  const model = await loadModelOn(flags);
  if (!model.adapter) throw new UserError(`--model ${name} is a whole model, so there is nothing to merge; name the folder of an adapter.`);
  for (const source of [name, model.directory]) checkApart(folder, source);
  mergeAdapter(model);
  checkSpace(folder, bytesOfModel(model, dtype));
  await saveModel(model, folder, { dtype });
  return { json: { output_dir: folder }, text: `The merged model is in ${folder}.` };
}

/** @throws UserError when the merged model would replace what it is made of */
function checkApart(folder: string, source: string | undefined): void {
  if (source === undefined || realPath(folder) !== realPath(source)) return;
  throw new UserError(`--output_dir ${folder} is where the adapter or its base model lies, which would be replaced; name another folder.`);
}
