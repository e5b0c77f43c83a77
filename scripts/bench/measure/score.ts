/** Child: the loss of some examples without gradients, as `SFTTrainer.evaluate` computes it, twice. */
import { loadDataset, loadModel, SFTTrainer } from '../../../lib/index';
import { countTokens } from '../../../lib/train/examples';
import { peakBytes, serve } from '../child';
import type { ScoreJob, ScoreResult } from '../jobs';
import { useEngine } from './engine';

/** Tokens computed at once on WebAssembly, whose memory ends at 4 GB. */
const WASM_TOKENS = 256;

serve(async ({ engine, model: folder, rows, recipe, examples, evalBatchSize }: ScoreJob): Promise<ScoreResult> => {
  await useEngine(engine);
  const model = await loadModel(folder);
  const dataset = (await loadDataset(rows)).take(examples);
  const trainer = new SFTTrainer({
    model,
    trainDataset: dataset,
    evalDataset: dataset,
    config: {
      perDeviceEvalBatchSize: evalBatchSize,
      maxLength: recipe.maxLength,
      completionOnlyLoss: true,
      disableTqdm: true,
      ...(engine === 'tfjs-wasm' ? { tokensPerMicroBatch: WASM_TOKENS } : {}),
    },
  });
  const first = await trainer.evaluate();
  const second = await trainer.evaluate();
  return {
    loss: second.eval_loss,
    tokens: trainer.trainItems.reduce((sum, item) => sum + countTokens(item), 0),
    firstSeconds: first.eval_runtime,
    seconds: second.eval_runtime,
    peakBytes: peakBytes(),
  };
});
