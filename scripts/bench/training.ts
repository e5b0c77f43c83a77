/** Training: the same steps on every engine, one after the other. */
import { type Bench, type Ceilings, say } from './bench';
import { type Outcome, resultOf } from './child';
import { type BenchDevice, RECIPE, type ScoreJob, type ScoreResult, type TrainJob, type TrainResult } from './jobs';
import { runOwn, runPeer } from './peers';
import { disagreements, median, secondsOf, shareOfProduct, steadyStep, tokensOf, tokensPerSecond } from './summary';
import { fixed, gigabytes, percent, type Row, type Section } from './table';
import { type Measure, ratio, TARGETS, type Target, TRAINING_SPEED, verdictRow } from './targets';
import { type BenchModel, makeAdapter } from './workspace';

/** One engine's run. */
export interface TrainingRun {
  engine: string;
  /** The losses of all float32 runs must be the same. */
  precision: TrainJob['precision'];
  outcome: Outcome<TrainResult>;
  /** Of several rounds, the outcomes of all of them. */
  rounds?: Array<Outcome<TrainResult>>;
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
  const { workspace, device, threads, steps, lora, python, tfjsLimit, ceilings } = bench;
  const base: TrainJob = {
    engine: 'tunebook',
    device,
    model: folder,
    rows: workspace.rows,
    threads,
    recipe: RECIPE,
    steps,
    precision: 'float32',
    ...(lora !== undefined && { adapter: await makeAdapter(folder, lora, workspace) }),
  };
  if (device === 'gpu') return trainOnGpu(bench, { ...base, engine: 'webgpu' });
  const { product, op } = ceilings.onnxruntime ?? {};
  const own: TrainJob = { ...base, ...(product && op && { beside: { product, op } }) };
  const runs = middleRound(await trainInRounds(bench, own));
  return [
    ...runs,
    ...(python === undefined ? [] : [await trainInBf16(python, base, runs)]),
    await train('tfjs-node', '', runOwn('train', { ...base, engine: 'tfjs-node' }, { limit: tfjsLimit })),
    await trainOnWasm(bench, base),
  ];
}

/** This engine and TRL in float32, in turn: a machine that others use, too, is not equally fast all the time. Ends at a round that fails. */
async function trainInRounds({ python, rounds }: Bench, base: TrainJob): Promise<TrainingRun[][]> {
  const done: TrainingRun[][] = [];
  while (done.length < rounds && done.flat().every(({ outcome }) => 'result' in outcome)) {
    const which = rounds === 1 ? '' : `, round ${done.length + 1} of ${rounds}`;
    const round = [await train(OWN, which, runOwn('train', base))];
    if (python !== undefined) round.push(await train(PEER, which, runPeer(python, 'train', base)));
    done.push(round);
  }
  return done;
}

/** A run in float32 that has just been started. */
async function train(engine: string, which: string, outcome: Promise<Outcome<TrainResult>>): Promise<TrainingRun> {
  say(`training with ${engine}${which}`);
  return { engine, precision: 'float32', outcome: await outcome };
}

/**
 * The round whose ratio of the engines' speeds is in the middle, with the outcomes and ratios of all; without a peer, the one of middle
 * speed. If the last one failed, it is the one to show.
 * @param rounds an odd number of them, or so many that the last one failed
 */
export function middleRound(rounds: readonly TrainingRun[][]): TrainingRun[] {
  const last = rounds[rounds.length - 1];
  if (rounds.length === 1 || last.some(({ outcome }) => 'failure' in outcome)) return last;
  const speeds = rounds.map((runs) => runs.map(({ outcome }) => speedOf(resultOf(outcome)) as number));
  const [what, figures] = last.length > 1 ? [`times ${PEER}`, speeds.map(([own, peer]) => own / peer)] : ['tokens/s', speeds.flat()];
  const note = `${what} in ${rounds.length} rounds: ${figures.map((figure) => fixed(figure, 2)).join(', ')}`;
  const middle = rounds[figures.indexOf(median(figures))];
  return middle.map((run, i) => ({ ...run, rounds: rounds.map((runs) => runs[i].outcome), ...(i === 0 && { note }) }));
}

/** On a GPU, in float32 and in the two kinds of mixed precision; this engine has float16 only. */
async function trainOnGpu(bench: Bench, base: TrainJob): Promise<TrainingRun[]> {
  const runs = middleRound(await trainInRounds(bench, base));
  const mixed = async (engine: string, precision: TrainJob['precision']): Promise<TrainingRun> => {
    say(`training with ${engine}`);
    const job: TrainJob = { ...base, precision };
    if (engine.startsWith(OWN)) return { engine, precision, outcome: await runOwn('train', job) };
    return { engine, precision, outcome: await runPeer(bench.python ?? '', 'train', job) };
  };
  runs.push(await mixed(`${OWN} fp16`, 'fp16'));
  if (bench.python !== undefined) runs.push(await mixed('TRL fp16', 'fp16'), await mixed('TRL bf16', 'bf16'));
  return runs;
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
async function trainOnWasm({ tfjsLimit: limit }: Bench, { model, rows, threads, adapter }: TrainJob): Promise<TrainingRun> {
  const engine = 'tfjs WebAssembly, 1 step';
  say(`training with ${engine}`);
  const shared = { engine: 'tfjs-wasm', device: 'cpu', model, rows, threads, recipe: RECIPE } as const;
  const training: TrainJob = { ...shared, adapter, steps: 1, precision: 'float32' };
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
export function trainingSection(
  { name, shape }: BenchModel,
  runs: readonly TrainingRun[],
  ceilings: Ceilings,
  device: BenchDevice = 'cpu',
): Section {
  const own = runs.find(({ engine }) => engine === OWN);
  return {
    title: `Training ${name}`,
    tables: [
      runs.map((run) => engineRow(run, ceilings)),
      (device === 'cpu' ? measuresOf(runs, ceilings, shape) : timesPeers(runs, {})).map(verdictRow),
      lossRows(runs),
    ],
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
    'of the product beside': percent(ratio(steady?.gflops, steady?.besideGflops)),
    "of ONNX Runtime's best": percent(ratio(steady?.gflops, ceilings.onnxruntime?.gflops)),
    "of torch's best": percent(ratio(steady?.gflops, ceilings.torch?.gflops)),
    JavaScript: percent(steady?.javascript),
    note: [failure, note].filter((text) => text !== '').join(' '),
  };
}

function measuresOf(runs: readonly TrainingRun[], ceilings: Ceilings, shape: BenchModel['shape']): Measure[] {
  const resultFor = (name: string) => resultOf(runs.find(({ engine }) => engine === name)?.outcome);
  const own = resultFor(OWN);
  const steady = own && steadyStep(own);
  return [
    ...timesPeers(runs, shape === undefined ? {} : TRAINING_SPEED[shape]),
    {
      name: `peak memory, times ${PEER}`,
      unit: 'times',
      value: ratio(own?.peakBytes, resultFor(PEER)?.peakBytes),
      target: TARGETS.peakMemory,
    },
    {
      name: "steady steps, of ONNX Runtime's matrix product beside them",
      unit: 'share',
      value: ratio(steady?.gflops, steady?.besideGflops),
      target: TARGETS.ceilingShare,
    },
    {
      name: 'steady steps, of its best half second before all',
      unit: 'share',
      value: ratio(steady?.gflops, ceilings.onnxruntime?.gflops),
      target: TARGETS.ceilingShare,
    },
    { name: 'JavaScript in a steady step', unit: 'share', value: steady?.javascript, target: TARGETS.javascriptShare },
  ];
}

/** This engine's speed in float32 as a multiple of the others'. */
function timesPeers(runs: readonly TrainingRun[], targets: Readonly<Record<string, Target>>): Measure[] {
  const resultFor = (name: string) => resultOf(runs.find(({ engine }) => engine === name)?.outcome);
  const own = resultFor(OWN);
  const timesPeer = (peer: string): Pick<Measure, 'value' | 'isBound'> => {
    const known = speedOf(resultFor(peer));
    const fastest = fastestPossible(runs.find(({ engine }) => engine === peer)?.outcome, resultFor(PEER));
    return { value: ratio(speedOf(own), known ?? fastest), isBound: known === undefined };
  };
  const peers = new Set([...Object.keys(targets), ...runs.filter(({ outcome }) => 'result' in outcome).map(({ engine }) => engine)]);
  peers.delete(OWN);
  return [...peers].map((peer): Measure => ({ name: `tokens/s, times ${peer}`, unit: 'times', ...timesPeer(peer), target: targets[peer] }));
}

const speedOf = (result: TrainResult | undefined): number | undefined => result && tokensPerSecond(result);

/** Tokens per second that a run did not reach, which was ended before it had done the same work as another. */
function fastestPossible(outcome: TrainingRun['outcome'] | undefined, same: TrainResult | undefined): number | undefined {
  const seconds = outcome && 'failure' in outcome ? outcome.endedAfter : undefined;
  return ratio(same && tokensOf(same.steps), seconds);
}

/** The losses of each step side by side, and how close each of this engine's came to the product beside it. */
function lossRows(runs: readonly TrainingRun[]): Row[] {
  const found = runs.flatMap(({ engine, outcome }) => ('result' in outcome ? [{ engine, steps: outcome.result.steps }] : []));
  const own = found.find(({ engine }) => engine === OWN)?.steps;
  const steps = Math.max(0, ...found.map((run) => run.steps.length));
  return Array.from({ length: steps }, (_, i) => ({
    'loss of step': String(i + 1),
    ...Object.fromEntries(found.map((run) => [run.engine, fixed(run.steps[i]?.loss, 6)])),
    ...(own && { [`${OWN}, of the product beside`]: percent(own[i] && shareOfProduct(own[i])) }),
  }));
}

/** What the losses of all runs in float32 have against those of this engine's. */
function problemsOf(model: string, own: TrainingRun, runs: readonly TrainingRun[]): string[] {
  if ('failure' in own.outcome) return [`${model}: ${OWN} did not train. ${own.outcome.failure}`];
  const { result } = own.outcome;
  const found = runs
    .filter(({ precision }) => precision === 'float32')
    .flatMap(({ engine, outcome, rounds = [outcome] }) =>
      rounds.flatMap((other) =>
        'result' in other ? disagreements(result, other.result).map((what) => `${model}, ${OWN} and ${engine}: ${what}.`) : [],
      ),
    );
  return [...new Set(found)];
}
