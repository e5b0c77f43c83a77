/** Training: the same steps on every engine, one after the other. */
import { type Bench, type Ceilings, say } from './bench';
import { type Outcome, resultOf } from './child';
import { RECIPE, type ScoreJob, type ScoreResult, type TrainJob, type TrainResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { disagreements, median, secondsOf, steadyStep, tokensOf, tokensPerSecond } from './summary';
import { fixed, gigabytes, percent, type Row, type Section } from './table';
import { type Measure, ratio, TARGETS, TRAINING_SPEED, verdictRow } from './targets';
import type { BenchModel } from './workspace';

/** One engine's run. */
export interface TrainingRun {
  engine: string;
  /** The losses of all float32 runs must be the same. */
  precision: TrainJob['precision'];
  outcome: Outcome<TrainResult>;
  /** What is worth saying beside its figures. */
  note?: string;
}

const OWN = 'Tunebook';
const PEER = 'TRL float32';
/** Where a processor has no instructions for bf16, PyTorch takes tens of times as long with it: it is ended after so many times. */
const PATIENCE = 1.5;
/** Examples that are scored on WebAssembly where it cannot train. */
const WASM_EXAMPLES = 8;

/** Measures every engine, one after the other; one that fails says why, and the others go on. */
export async function measureTraining(bench: Bench, folder: string): Promise<TrainingRun[]> {
  const { workspace, threads, steps, python, tfjsLimit } = bench;
  const base: TrainJob = { engine: 'tunebook', model: folder, rows: workspace.rows, threads, recipe: RECIPE, steps, precision: 'float32' };
  const runs = middleRound(await trainInRounds(bench, base));
  const tfjsNode = async (): Promise<TrainingRun> => {
    say('training with tfjs-node');
    const outcome = await runOwn<TrainResult>('train', { ...base, engine: 'tfjs-node' }, { limit: tfjsLimit });
    return { engine: 'tfjs-node', precision: 'float32', outcome };
  };
  return [
    ...runs,
    ...(python === undefined ? [] : [await trainInBf16(python, base, runs)]),
    await tfjsNode(),
    await trainOnWasm(bench, folder),
  ];
}

/** This engine and TRL in float32, in turn: a machine that others use, too, is not equally fast all the time. */
async function trainInRounds({ python, rounds }: Bench, base: TrainJob): Promise<TrainingRun[][]> {
  const done: TrainingRun[][] = [];
  for (let round = 1; round <= rounds; round++) {
    const which = rounds === 1 ? '' : `, round ${round} of ${rounds}`;
    say(`training with ${OWN}${which}`);
    const runs: TrainingRun[] = [{ engine: OWN, precision: 'float32', outcome: await runOwn('train', base) }];
    if (python !== undefined) {
      say(`training with ${PEER}${which}`);
      runs.push({ engine: PEER, precision: 'float32', outcome: await runPeer(python, 'train', base) });
    }
    done.push(runs);
  }
  return done;
}

/**
 * The round whose ratio of the engines' speeds is in the middle, and what the ratios were; without a peer, the one of middle speed.
 * Where a run failed, its round is the one to show.
 * @param rounds an odd number of them
 */
export function middleRound(rounds: readonly TrainingRun[][]): TrainingRun[] {
  const speeds = rounds.map((runs) => runs.map(({ outcome }) => speedOf(resultOf(outcome))));
  const ratios = speeds.map(([own, peer]) => (peer === undefined ? own : ratio(own, peer)));
  const failed = rounds.find((_, i) => speeds[i].includes(undefined));
  if (failed || rounds.length === 1) return failed ?? rounds[0];
  const [own, ...peers] = rounds[ratios.indexOf(median(ratios as number[]))];
  const inOrder = ratios.map((value) => fixed(value, peers.length > 0 ? 2 : 1)).join(', ');
  const note =
    peers.length > 0 ? `times ${PEER} in ${rounds.length} rounds: ${inOrder}` : `tokens/s in ${rounds.length} rounds: ${inOrder}`;
  return [{ ...own, note }, ...peers];
}

/** TRL in bf16, which is ended where it takes much longer than in float32. */
async function trainInBf16(python: string, base: TrainJob, runs: readonly TrainingRun[]): Promise<TrainingRun> {
  const engine = 'TRL bf16';
  say(`training with ${engine}`);
  const float32 = resultOf(runs.find((run) => run.engine === PEER)?.outcome);
  const limit = float32 && Math.ceil(PATIENCE * secondsOf(float32.steps));
  return { engine, precision: 'bf16', outcome: await runPeer(python, 'train', { ...base, precision: 'bf16' }, { limit }) };
}

/** One step on tfjs's WebAssembly backend; where that fails, the loss of a few examples without gradients. */
async function trainOnWasm({ workspace: { rows }, threads, tfjsLimit: limit }: Bench, model: string): Promise<TrainingRun> {
  const engine = 'tfjs WebAssembly, 1 step';
  say(`training with ${engine}`);
  const shared = { engine: 'tfjs-wasm', model, rows, threads, recipe: RECIPE } as const;
  const training: TrainJob = { ...shared, steps: 1, precision: 'float32' };
  const outcome = await runOwn<TrainResult>('train', training, { limit });
  if ('result' in outcome) return { engine, precision: 'float32', outcome };
  const scoring: ScoreJob = { ...shared, examples: WASM_EXAMPLES, evalBatchSize: WASM_EXAMPLES };
  const note = scoringNote(outcome.failure, await runOwn<ScoreResult>('score', scoring, { limit }));
  return { engine, precision: 'float32', outcome, note };
}

/** What WebAssembly can do although it cannot train. */
function scoringNote(failure: string, scored: Outcome<ScoreResult>): string {
  if ('failure' in scored) {
    const reason = scored.failure === failure ? 'for the same reason.' : scored.failure;
    return `Nor does it compute the loss without gradients: ${reason}`;
  }
  const { tokens, seconds } = scored.result;
  return `Without gradients it reads ${WASM_EXAMPLES} examples at ${fixed(tokens / seconds, 1)} tokens/s.`;
}

/** The tables of a model's training. */
export function trainingSection({ name, shape }: BenchModel, runs: readonly TrainingRun[], ceilings: Ceilings): Section {
  const own = runs.find(({ engine }) => engine === OWN);
  return {
    title: `Training ${name}`,
    tables: [runs.map((run) => engineRow(run, ceilings)), measuresOf(runs, ceilings, shape).map(verdictRow), lossRows(runs)],
    problems: own ? problemsOf(name, own, runs) : [],
    data: { runs },
  };
}

function engineRow({ engine, outcome, note = '' }: TrainingRun, ceilings: Ceilings): Row {
  const result = resultOf(outcome);
  const steady = result && steadyStep(result);
  const failure = 'failure' in outcome ? outcome.failure : '';
  return {
    engine,
    'tokens/s': fixed(result && tokensPerSecond(result), 1),
    'steady step, s': fixed(steady?.seconds, 2),
    'peak GB': gigabytes(result?.peakBytes),
    'compilation, s': fixed(result?.steps[0].compileSeconds, 2),
    "of ONNX Runtime's product": percent(ratio(steady?.gflops, ceilings.onnxruntime?.gflops)),
    "of torch's product": percent(ratio(steady?.gflops, ceilings.torch?.gflops)),
    JavaScript: percent(steady?.javascript),
    note: [failure, note].filter((text) => text !== '').join(' '),
  };
}

function measuresOf(runs: readonly TrainingRun[], ceilings: Ceilings, shape: BenchModel['shape']): Measure[] {
  const resultFor = (name: string) => resultOf(runs.find(({ engine }) => engine === name)?.outcome);
  const own = resultFor(OWN);
  const timesPeer = (peer: string): Pick<Measure, 'value' | 'isBound'> => {
    const known = speedOf(resultFor(peer));
    const fastest = fastestPossible(runs.find(({ engine }) => engine === peer)?.outcome, resultFor(PEER));
    return { value: ratio(speedOf(own), known ?? fastest), isBound: known === undefined };
  };
  const targets = shape === undefined ? {} : TRAINING_SPEED[shape];
  const peers = new Set([...Object.keys(targets), ...runs.filter(({ outcome }) => 'result' in outcome).map(({ engine }) => engine)]);
  peers.delete(OWN);
  const steady = own && steadyStep(own);
  return [
    ...[...peers].map(
      (peer): Measure => ({
        name: `tokens/s, times ${peer}`,
        unit: 'times',
        ...timesPeer(peer),
        target: targets[peer],
      }),
    ),
    {
      name: `peak memory, times ${PEER}`,
      unit: 'times',
      value: ratio(own?.peakBytes, resultFor(PEER)?.peakBytes),
      target: TARGETS.peakMemory,
    },
    {
      name: "steady step, of ONNX Runtime's matrix product",
      unit: 'share',
      value: ratio(steady?.gflops, ceilings.onnxruntime?.gflops),
      target: TARGETS.ceilingShare,
    },
    { name: 'JavaScript in a steady step', unit: 'share', value: steady?.javascript, target: TARGETS.javascriptShare },
  ];
}

const speedOf = (result: TrainResult | undefined): number | undefined => result && tokensPerSecond(result);

/** Tokens per second that a run did not reach, which was ended before it had done the same work as another. */
function fastestPossible(outcome: TrainingRun['outcome'] | undefined, same: TrainResult | undefined): number | undefined {
  const seconds = outcome && 'failure' in outcome ? outcome.endedAfter : undefined;
  return ratio(same && tokensOf(same.steps), seconds);
}

/** The losses of each step side by side. */
function lossRows(runs: readonly TrainingRun[]): Row[] {
  const found = runs.flatMap(({ engine, outcome }) => ('result' in outcome ? [{ engine, steps: outcome.result.steps }] : []));
  const steps = Math.max(0, ...found.map((run) => run.steps.length));
  return Array.from({ length: steps }, (_, i) => ({
    'loss of step': String(i + 1),
    ...Object.fromEntries(found.map((run) => [run.engine, fixed(run.steps[i]?.loss, 6)])),
  }));
}

function problemsOf(model: string, own: TrainingRun, runs: readonly TrainingRun[]): string[] {
  if ('failure' in own.outcome) return [`${model}: ${OWN} did not train. ${own.outcome.failure}`];
  const { result } = own.outcome;
  return runs.flatMap(({ engine, precision, outcome }) =>
    precision === 'float32' && engine !== OWN && 'result' in outcome
      ? disagreements(result, outcome.result).map((what) => `${model}, ${OWN} and ${engine}: ${what}.`)
      : [],
  );
}
