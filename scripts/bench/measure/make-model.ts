/** Child: writes a checkpoint of a shape with random weights. */

import { UserError } from '../../../lib/errors';
import { createModel, loadTokenizer, saveModel } from '../../../lib/index';
import { serve } from '../child';
import type { MakeModelJob, MakeModelResult } from '../jobs';
import { isShapeName, SHAPES } from '../shapes';
import { useEngine } from './engine';

serve(async ({ shape, tokenizer: folder, directory }: MakeModelJob): Promise<MakeModelResult> => {
  if (!isShapeName(shape)) throw new UserError(`There is no shape ${shape}.`);
  await useEngine('tunebook');
  const tokenizer = await loadTokenizer(folder);
  const { bosId, eosId, padId } = tokenizer;
  const config = { ...SHAPES[shape], bos_token_id: bosId ?? eosId, eos_token_id: eosId, pad_token_id: padId };
  const model = createModel(config, { seed: 0, tokenizer });
  await saveModel(model, directory);
  return { parameters: model.numParameters };
});
