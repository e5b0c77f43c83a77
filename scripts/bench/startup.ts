/** Start-up: importing the library in a fresh process, and compiling the first training step. */
import { type Bench, say } from './bench';
import { type Outcome, resultOf } from './child';
import { type ImportResult, RECIPE, type TrainJob, type TrainResult } from './jobs';
import { runOwn } from './peers';
import { median } from './summary';
import type { Section } from './table';
import { TARGETS, verdictRow } from './targets';

/** Fresh processes that import the library; the middle one counts. */
const IMPORTS = 3;

/** @param trained this project's training of the model in the same sitting, if there was one */
export async function measureStartup(
  { workspace: { rows }, threads }: Bench,
  name: string,
  folder: string,
  trained: Outcome<TrainResult> | undefined,
): Promise<Section> {
  say('starting up');
  const imports: Outcome<ImportResult>[] = [];
  for (let i = 0; i < IMPORTS; i++) imports.push(await runOwn<ImportResult>('import', {}));
  const seconds = imports.flatMap((outcome) => resultOf(outcome)?.seconds ?? []);
  const job: TrainJob = { engine: 'tunebook', device: 'cpu', model: folder, rows, threads, recipe: RECIPE, steps: 1, precision: 'float32' };
  const training = trained ?? (await runOwn<TrainResult>('train', job));
  const compilation = resultOf(training)?.steps[0].compileSeconds;
  const failures = [...imports, training].flatMap((outcome) => ('failure' in outcome ? [outcome.failure] : []));
  return {
    title: `Start-up, ${name}`,
    tables: [
      [
        verdictRow({
          name: 'importing the library',
          unit: 'seconds',
          value: seconds.length === IMPORTS ? median(seconds) : undefined,
          target: TARGETS.import,
        }),
        verdictRow({ name: "compiling the first step's graphs", unit: 'seconds', value: compilation, target: TARGETS.compilation }),
      ],
    ],
    problems: failures.map((failure) => `${name}: Tunebook did not start. ${failure}`),
    data: { importSeconds: seconds, compileSeconds: compilation },
  };
}
