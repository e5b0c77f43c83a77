/** Decoding: one prompt continued greedily, beside transformers' `generate` on the same checkpoint. */
import { type Bench, say } from './bench';
import { type Outcome, resultOf } from './child';
import type { DecodeJob, DecodeResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { outcomeRow, type Section } from './table';
import { ratio, TARGETS, verdictRow } from './targets';

const NEW_TOKENS = 128;

export async function measureDecoding({ workspace, threads, python }: Bench, name: string, folder: string): Promise<Section> {
  const job: DecodeJob = { model: folder, rows: workspace.rows, threads, newTokens: NEW_TOKENS };
  say('decoding with Tunebook');
  const own = await runOwn<DecodeResult>('decode', job);
  if (python !== undefined) say('decoding with transformers');
  const peer = python === undefined ? undefined : await runPeer<DecodeResult>(python, 'decode', job);
  const [ours, theirs] = [resultOf(own), resultOf(peer)];
  const agreed = ours && theirs && { 'same tokens as transformers': `${commonStart(ours.ids, theirs.ids)} of ${NEW_TOKENS}` };
  const row = (engine: string, outcome: Outcome<DecodeResult>) => outcomeRow(engine, outcome, ({ ids }) => ids.length);
  return {
    title: `Decoding ${NEW_TOKENS} tokens, ${name}, float32, one prompt`,
    tables: [
      [{ ...row('Tunebook', own), ...agreed }, ...(peer ? [row('transformers', peer)] : [])],
      [
        verdictRow({
          name: 'tokens/s, times transformers',
          unit: 'times',
          value: ratio(theirs?.seconds, ours?.seconds),
          target: TARGETS.decoding,
        }),
      ],
    ],
    problems: 'failure' in own ? [`${name}: Tunebook did not decode. ${own.failure}`] : [],
    data: { own, peer },
  };
}

/** How many tokens are the same before the first that is not. */
function commonStart(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((id, i) => id !== b[i]);
  return first < 0 ? a.length : first;
}
