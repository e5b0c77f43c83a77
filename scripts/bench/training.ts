/** Training: the same steps on every engine, one after the other. */
import { type Bench, type Ceilings, say } from './bench';
import { type Outcome, resultOf } from './child';
import { type EngineName, RECIPE, type ScoreJob, type ScoreResult, type TrainJob, type TrainResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { disagreements, steadyStep, tokensPerSecond } from './summary';
import { fixed, gigabytes, percent, type Row, type Section } from './table';
import { type Measure, ratio, TARGETS, TRAINING_SPEED, verdictRow } from './targets';
import type { BenchModel } from './workspace';

/** One engine's run. */
export interface TrainingRun {
  engine: string;
  /** Whether its losses must be those of the others. */
  float32: boolean;
  outcome: Outcome<TrainResult>;
  /** What is worth saying beside its figures. */
  note?: string;
}

const OWN = 'Tunebook';
const PEER = 'TRL float32';
/** Examples that are scored on WebAssembly where it cannot train. */
const WASM_EXAMPLES = 8;

/** Measures every engine; one that fails says why, and the others go on. */
export async function measureTraining(bench: Bench, folder: string): Promise<TrainingRun[]> {
  const { threads, steps, python, tfjsLimit: limit } = bench;
  const base = { model: folder, rows: bench.workspace.rows, threads, recipe: RECIPE, steps, precision: 'float32' } as const;
  const own = (engine: EngineName, options = {}) => runOwn<TrainResult>('train', { ...base, engine } satisfies TrainJob, options);
  const runs: TrainingRun[] = [];
  const add = async (engine: string, work: () => Promise<Outcome<TrainResult>>) => {
    say(`training with ${engine}`);
    runs.push({ engine, float32: !engine.includes('bf16'), outcome: await work() });
  };
  await add(OWN, () => own('tunebook'));
  if (python !== undefined) {
    const peer = (precision: TrainJob['precision']) =>
      runPeer<TrainResult>(python, 'train', { ...base, engine: 'tunebook', precision } satisfies TrainJob);
    await add(PEER, () => peer('float32'));
    await add('TRL bf16', () => peer('bf16'));
  }
  await add('tfjs-node', () => own('tfjs-node', { limit }));
  runs.push(await trainOnWasm(bench, folder));
  return runs;
}

/** One step on tfjs's WebAssembly backend; where that fails, the loss of a few examples without gradients. */
async function trainOnWasm({ workspace: { rows }, threads, tfjsLimit: limit }: Bench, model: string): Promise<TrainingRun> {
  const engine = 'tfjs WebAssembly, 1 step';
  say(`training with ${engine}`);
  const shared = { engine: 'tfjs-wasm', model, rows, threads, recipe: RECIPE } as const;
  const outcome = await runOwn<TrainResult>('train', { ...shared, steps: 1, precision: 'float32' } satisfies TrainJob, { limit });
  if (!('failure' in outcome) || outcome.failure.includes('does not load')) return { engine, float32: true, outcome };
  const job: ScoreJob = { ...shared, examples: WASM_EXAMPLES, evalBatchSize: WASM_EXAMPLES };
  const scored = await runOwn<ScoreResult>('score', job, { limit });
  const note =
    'result' in scored
      ? `Without gradients it reads ${WASM_EXAMPLES} examples at ${fixed(scored.result.tokens / scored.result.seconds, 1)} tokens/s.`
      : `Nor does it compute the loss without gradients: ${scored.failure}`;
  return { engine, float32: true, outcome, note };
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
  const targets = shape === undefined ? {} : TRAINING_SPEED[shape];
  const peers = new Set([...Object.keys(targets), ...runs.filter(({ outcome }) => 'result' in outcome).map(({ engine }) => engine)]);
  peers.delete(OWN);
  const steady = own && steadyStep(own);
  return [
    ...[...peers].map(
      (peer): Measure => ({
        name: `tokens/s, times ${peer}`,
        unit: 'times',
        value: ratio(speed(own), speed(resultFor(peer))),
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
  return runs.flatMap(({ engine, float32, outcome }) =>
    float32 && engine !== OWN && 'result' in outcome
      ? disagreements(result, outcome.result).map((what) => `${model}, ${OWN} and ${engine}: ${what}.`)
      : [],
  );
}
