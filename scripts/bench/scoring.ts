/** Scoring: the loss of examples without gradients, beside the evaluation of TRL's trainer with its default padding. */
import { type Bench, say } from './bench';
import { type Outcome, resultOf } from './child';
import { RECIPE, type ScoreJob, type ScoreResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { LOSS_TOLERANCE, relativeDifference } from './summary';
import { fixed, outcomeRow, type Section } from './table';
import { ratio, TARGETS, verdictRow } from './targets';

const EXAMPLES = 100;
/** The default of transformers. */
const EVAL_BATCH_SIZE = 8;

export async function measureScoring({ workspace, threads, python }: Bench, name: string, folder: string): Promise<Section> {
  const examples = Math.min(EXAMPLES, workspace.examples);
  const job: ScoreJob = {
    engine: 'tunebook',
    model: folder,
    rows: workspace.rows,
    threads,
    recipe: RECIPE,
    examples,
    evalBatchSize: EVAL_BATCH_SIZE,
  };
  say('scoring with Tunebook');
  const own = await runOwn<ScoreResult>('score', job);
  if (python !== undefined) say('scoring with TRL float32');
  const peer = python === undefined ? undefined : await runPeer<ScoreResult>(python, 'score', job);
  const [ours, theirs] = [resultOf(own), resultOf(peer)];
  const row = (engine: string, outcome: Outcome<ScoreResult>) => ({
    ...outcomeRow(engine, outcome, ({ tokens }) => tokens),
    'mean loss': fixed(resultOf(outcome)?.loss, 6),
  });
  const speed = (result: ScoreResult | undefined) => result && result.tokens / result.seconds;
  const value = ratio(speed(ours), speed(theirs));
  return {
    title: `Scoring ${examples} examples, ${name}, float32`,
    tables: [
      [row('Tunebook', own), ...(peer ? [row('TRL float32', peer)] : [])],
      [verdictRow({ name: 'tokens/s, times TRL float32', unit: 'times', value, target: TARGETS.scoring })],
    ],
    problems: problemsOf(name, own, theirs),
    data: { own, peer },
  };
}

function problemsOf(name: string, own: Outcome<ScoreResult>, theirs: ScoreResult | undefined): string[] {
  if ('failure' in own) return [`${name}: Tunebook did not score. ${own.failure}`];
  const { loss } = own.result;
  if (!theirs || relativeDifference(loss, theirs.loss) <= LOSS_TOLERANCE) return [];
  return [`${name}: the mean losses of scoring are ${loss} (Tunebook) and ${theirs.loss} (TRL float32).`];
}
