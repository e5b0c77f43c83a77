/**
 * `npm run bench`: the same work on this engine and on its peers, side by side in one sitting, against the machine's own
 * ceiling. Every measurement is a process of its own, one after the other. CONTRIBUTING.md lists the flags.
 * Exit code 1 if losses that must agree do not, or if this project's own engine did not get through.
 */
import * as os from 'node:os';
import { messageOf, UserError } from '../../lib/errors';
import { writeFileAtomic } from '../../lib/files';
import { type Bench, type Ceilings, say } from './bench';
import { resultOf } from './child';
import { measureDecoding } from './decoding';
import { type BenchOptions, readFlags, type Work } from './flags';
import { type CeilingJob, type CeilingResult, RECIPE } from './jobs';
import { machineText } from './machine';
import { runOwn, runPeer } from './peers';
import { measureScoring } from './scoring';
import { ceilingProducts, readSizes, SHAPES } from './shapes';
import { measureStartup } from './startup';
import { problemsText, type Section, sectionText } from './table';
import { measureTraining, trainingSection } from './training';
import { type BenchModel, checkpointOf, modelsOf, openWorkspace, removeCheckpoint } from './workspace';

async function main(): Promise<number> {
  const options = readFlags(process.argv.slice(2));
  const models = modelsOf(options);
  const workspace = await openWorkspace(options);
  const threads = os.availableParallelism();
  const { device, steps, rounds, lora, python, tfjsLimit } = options;
  const ceilings = device === 'cpu' ? await measureCeilings(models, threads, python) : {};
  print(machineText(ceilings, options));
  const bench: Bench = { workspace, device, threads, steps, rounds, lora, python, tfjsLimit, ceilings };
  const sections: Section[] = [];
  for (const [index, model] of models.entries()) {
    const works = worksFor(index, options);
    if (works.size > 0) sections.push(...(await measureModel(bench, model, works, options)));
  }
  const problems = sections.flatMap((section) => section.problems);
  print(problemsText(problems));
  if (options.json !== undefined) writeFileAtomic(options.json, jsonOf(ceilings, options, sections));
  return problems.length > 0 ? 1 : 0;
}

/** All but training is measured on the first model only, and on the CPU only. */
function worksFor(index: number, { only, device }: BenchOptions): ReadonlySet<Work> {
  return index === 0 && device === 'cpu' ? only : new Set([...only].filter((work) => work === 'train'));
}

async function measureModel(bench: Bench, model: BenchModel, works: ReadonlySet<Work>, options: BenchOptions): Promise<Section[]> {
  const { name } = model;
  if (model.directory === undefined) say(`making a model of the shape ${name}`);
  const folder = await checkpointOf(model, bench.workspace, options.tokenizer);
  const sections: Section[] = [];
  const add = (section: Section): void => {
    sections.push(section);
    print(sectionText(section));
  };
  const runs = works.has('train') ? await measureTraining(bench, folder) : [];
  if (runs.length > 0) add(trainingSection(trainedModel(model, bench), runs, bench.ceilings, bench.device));
  if (works.has('decode')) add(await measureDecoding(bench, name, folder));
  if (works.has('score')) add(await measureScoring(bench, name, folder));
  if (works.has('startup')) add(await measureStartup(bench, name, folder, runs[0]?.outcome));
  removeCheckpoint(model, folder);
  return sections;
}

/** What is trained, by its name; the targets of a shape are those of all its weights. */
function trainedModel(model: BenchModel, { lora }: Bench): BenchModel {
  return lora === undefined ? model : { name: `${model.name}, adapters of rank ${lora}` };
}

async function measureCeilings(models: readonly BenchModel[], threads: number, python: string | undefined): Promise<Ceilings> {
  const sizes = models.map(({ shape, directory }) =>
    directory === undefined && shape !== undefined ? SHAPES[shape] : readSizes(`${directory}/config.json`),
  );
  const job: CeilingJob = { products: ceilingProducts(sizes), threads };
  say('measuring matrix products');
  const own = await runOwn<CeilingResult>('ceiling', job);
  const peer = python === undefined ? undefined : await runPeer<CeilingResult>(python, 'ceiling', job);
  for (const outcome of [own, peer])
    if (outcome && 'failure' in outcome) say(`The matrix products could not be measured. ${outcome.failure}`);
  return { onnxruntime: resultOf(own), torch: resultOf(peer) };
}

function jsonOf(ceilings: Ceilings, { device, data, steps, lora }: BenchOptions, sections: readonly Section[]): string {
  const machine = { cpu: os.cpus()[0]?.model, cores: os.availableParallelism(), memoryBytes: os.totalmem(), node: process.versions.node };
  return `${JSON.stringify({ machine, ceilings, work: { device, data, steps, lora, ...RECIPE }, sections }, null, 2)}\n`;
}

function print(text: string): void {
  if (text !== '') process.stdout.write(`${text}\n\n`);
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    console.error(error instanceof UserError ? messageOf(error) : error);
    process.exitCode = 1;
  },
);
