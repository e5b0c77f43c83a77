/** Decoding: one prompt continued greedily, beside transformers' `generate` on the same checkpoint. */
import { type Bench, say } from './bench';
import { type Outcome, resultOf } from './child';
import type { DecodeJob, DecodeResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { outcomeRow, type Row, type Section } from './table';
import { ratio, TARGETS, verdictRow } from './targets';

const NEW_TOKENS = 128;

/** Greedy text of random weights soon repeats itself: the best case for prompt lookup, as text that never does is the worst. */
const WAYS = [
  { name: 'each token alone', promptLookup: false, target: TARGETS.decoding },
  { name: 'prompt lookup, text that repeats itself', promptLookup: true, target: undefined },
];

export async function measureDecoding({ workspace, threads, python }: Bench, name: string, folder: string): Promise<Section> {
  const rows: Row[] = [];
  const verdicts: Row[] = [];
  const problems: string[] = [];
  const data: Record<string, object> = {};
  for (const { name: way, promptLookup, target } of WAYS) {
    const job: DecodeJob = { model: folder, rows: workspace.rows, threads, newTokens: NEW_TOKENS, promptLookup };
    say(`decoding with Tunebook, ${way}`);
    const own = await runOwn<DecodeResult>('decode', job);
    if (python !== undefined) say(`decoding with transformers, ${way}`);
    const peer = python === undefined ? undefined : await runPeer<DecodeResult>(python, 'decode', job);
    const [ours, theirs] = [resultOf(own), resultOf(peer)];
    const agreed = ours && theirs && { 'same tokens as transformers': `${commonStart(ours.ids, theirs.ids)} of ${NEW_TOKENS}` };
    const row = (engine: string, outcome: Outcome<DecodeResult>) => outcomeRow(`${engine}, ${way}`, outcome, ({ ids }) => ids.length);
    rows.push({ ...row('Tunebook', own), ...agreed }, ...(peer ? [row('transformers', peer)] : []));
    const value = ratio(theirs?.seconds, ours?.seconds);
    verdicts.push(verdictRow({ name: `tokens/s, times transformers, ${way}`, unit: 'times', value, target }));
    if ('failure' in own) problems.push(`${name}: Tunebook did not decode. ${own.failure}`);
    data[promptLookup ? 'promptLookup' : 'alone'] = { own, peer };
  }
  return { title: `Decoding ${NEW_TOKENS} tokens, ${name}, float32, one prompt`, tables: [rows, verdicts], problems, data };
}

/** How many tokens are the same before the first that is not. */
function commonStart(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((id, i) => id !== b[i]);
  return first < 0 ? a.length : first;
}
