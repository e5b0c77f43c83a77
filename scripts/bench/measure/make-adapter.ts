/** Child: writes an adapter of all linear layers, as it is before training, in PEFT's files. */

import { loadModel, saveModel } from '../../../lib/index';
import { addAdapter } from '../../../lib/model';
import { serve } from '../child';
import type { MakeAdapterJob, MakeModelResult } from '../jobs';
import { useEngine } from './engine';

serve(async ({ model: folder, rank, directory }: MakeAdapterJob): Promise<MakeModelResult> => {
  await useEngine('tunebook');
  const model = await loadModel(folder);
  addAdapter(model, { r: rank, loraAlpha: 2 * rank, targetModules: 'all-linear' }, { seed: 0 });
  await saveModel(model, directory);
  const parameters = [...(model.adapter?.parameters.values() ?? [])].reduce((sum, { size }) => sum + size, 0);
  return { parameters };
});
