/** Child: continues the first prompt greedily, twice; the end-of-text token does not end it. */
import { generateBatch, loadDataset, loadModel } from '../../../lib/index';
import { formatExample } from '../../../lib/text';
import { peakBytes, serve } from '../child';
import type { DecodeJob, DecodeResult } from '../jobs';
import { useEngine } from './engine';

serve(async ({ model: folder, rows, newTokens, promptLookup, draft }: DecodeJob): Promise<DecodeResult> => {
  await useEngine('tunebook');
  const model = await loadModel(folder);
  const { prompt } = formatExample((await loadDataset(rows)).rows[0]);
  const decode = async (): Promise<{ ids: number[]; seconds: number }> => {
    const started = performance.now();
    const [{ ids }] = await generateBatch(model, [prompt], { maxNewTokens: newTokens, ignoreEos: true, promptLookup, draft });
    return { ids, seconds: (performance.now() - started) / 1000 };
  };
  const first = await decode();
  const { ids, seconds } = await decode();
  return { ids, firstSeconds: first.seconds, seconds, peakBytes: peakBytes() };
});
