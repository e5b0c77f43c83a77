/** Training: the same steps on every engine, one after the other. */
import { type Bench, type Ceilings, say } from './bench';
import { type Outcome, resultOf } from './child';
import { type EngineName, RECIPE, type ScoreJob, type ScoreResult, type TrainJob, type TrainResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { disagreements, secondsOf, steadyStep, tokensOf, tokensPerSecond } from './summary';
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
  const own = async (name: string, engine: EngineName, limit?: number): Promise<TrainingRun> => {
    say(`training with ${name}`);
    return { engine: name, precision: 'float32', outcome: await runOwn('train', { ...base, engine }, { limit }) };
  };
  return [
    await own(OWN, 'tunebook'),
    ...(python === undefined ? [] : await trainPeers(python, base)),
    await own('tfjs-node', 'tfjs-node', tfjsLimit),
    await trainOnWasm(bench, folder),
  ];
}

/** TRL in float32, then in bf16. */
async function trainPeers(python: string, base: TrainJob): Promise<TrainingRun[]> {
  const peer = async (engine: string, precision: TrainJob['precision'], limit?: number): Promise<TrainingRun> => {
    say(`training with ${engine}`);
    return { engine, precision, outcome: await runPeer(python, 'train', { ...base, precision }, { limit }) };
  };
  const float32 = await peer(PEER, 'float32');
  const result = resultOf(float32.outcome);
  return [float32, await peer('TRL bf16', 'bf16', result && Math.ceil(PATIENCE * secondsOf(result.steps)))];
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
  const speed = (result: TrainResult | undefined) => result && tokensPerSecond(result);
  const timesPeer = (peer: string): Pick<Measure, 'value' | 'isBound'> => {
    const known = speed(resultFor(peer));
    const fastest = fastestPossible(runs.find(({ engine }) => engine === peer)?.outcome, resultFor(PEER));
    return { value: ratio(speed(own), known ?? fastest), isBound: known === undefined };
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
