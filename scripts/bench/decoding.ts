/** Decoding: one prompt continued greedily, beside transformers' `generate` on the same checkpoint. */
import { type Bench, say } from './bench';
import { type Outcome, resultOf } from './child';
import type { DecodeJob, DecodeResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { outcomeRow, type Row, type Section } from './table';
import { ratio, TARGETS, verdictRow } from './targets';

const NEW_TOKENS = 128;

/**
 * Greedy text of random weights soon repeats itself: the best case for prompt lookup, and a good one for drafts. A text that repeats
 * nothing is written with drafts by default, at the speed of each token alone where they are wrong or the answers few.
 */
const WAYS = [
  { name: 'each token alone', promptLookup: false, draft: false, target: undefined },
  { name: 'drafts in 8 bits', promptLookup: false, draft: true, target: TARGETS.decoding },
  { name: 'prompt lookup, text that repeats itself', promptLookup: true, draft: false, target: undefined },
];

export async function measureDecoding({ workspace, threads, python }: Bench, name: string, folder: string): Promise<Section> {
  const rows: Row[] = [];
  const verdicts: Row[] = [];
  const problems: string[] = [];
  const data: Record<string, object> = {};
  let plainPeer: Outcome<DecodeResult> | undefined;
  for (const { name: way, promptLookup, draft, target } of WAYS) {
    const job: DecodeJob = { model: folder, rows: workspace.rows, threads, newTokens: NEW_TOKENS, promptLookup, draft };
    say(`decoding with Tunebook, ${way}`);
    const own = await runOwn<DecodeResult>('decode', job);
    const decodeWithPeer = async (): Promise<Outcome<DecodeResult> | undefined> => {
      if (python === undefined) return undefined;
      say(`decoding with transformers, ${way}`);
      return runPeer<DecodeResult>(python, 'decode', job);
    };
    const peer = draft ? plainPeer : await decodeWithPeer();
    plainPeer ??= peer;
    const [ours, theirs] = [resultOf(own), resultOf(peer)];
    const agreed = ours && theirs && { 'same tokens as transformers': `${commonStart(ours.ids, theirs.ids)} of ${NEW_TOKENS}` };
    const row = (engine: string, outcome: Outcome<DecodeResult>) => outcomeRow(`${engine}, ${way}`, outcome, ({ ids }) => ids.length);
    rows.push({ ...row('Tunebook', own), ...agreed }, ...(peer && !draft ? [row('transformers', peer)] : []));
    const value = ratio(theirs?.seconds, ours?.seconds);
    verdicts.push(verdictRow({ name: `tokens/s, times transformers, ${way}`, unit: 'times', value, target }));
    if ('failure' in own) problems.push(`${name}: Tunebook did not decode. ${own.failure}`);
    data[promptLookup ? 'promptLookup' : draft ? 'drafts' : 'alone'] = { own, peer };
  }
  return { title: `Decoding ${NEW_TOKENS} tokens, ${name}, float32, one prompt`, tables: [rows, verdicts], problems, data };
}

/** How many tokens are the same before the first that is not. */
function commonStart(a: readonly number[], b: readonly number[]): number {
  const first = a.findIndex((id, i) => id !== b[i]);
  return first < 0 ? a.length : first;
}
