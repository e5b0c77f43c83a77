/** `tunebook sft`: fine-tunes a model by a recipe and writes model, metrics, plots and run.json into output_dir. */
import * as path from 'node:path';
import { UserError } from '../errors';
import { checkOutputFolder } from '../model';
import { plotTraining } from '../plots';
import { CURVES, hasCurve } from '../plots/curves';
import { isTemplateFile } from '../text';
import { SFTTrainer, type TrainerCallback, type TrainOutput } from '../train';
import { listCheckpoints } from '../train/checkpoint';
import { toSnakeCase } from '../train/config';
import { checkFolder } from '../train/run-folder';
import { loadRecipeData } from './datasets';
import { loadModelOn } from './device';
import type { Output } from './output';
import { type Recipe, readRecipe } from './recipe';
import { peftConfigOf } from './script-fields';
import { stopOnSignals } from './signals';
import { bytesOfRun, checkSpace } from './space';
import type { VerbResult } from './verbs';

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const recipe = readRecipe(words);
  for (const note of recipe.notes) output.note(note);
  const { trainer, outputDir } = await makeTrainer(recipe, output);
  output.note(summaryOf(trainer));
  const signals = stopOnSignals(() => trainer.stop(), output);
  try {
    const result = await trainer.train();
    const exitCode = signals.exitCode();
    if (result.stopped) return stopped(result, outputDir, exitCode ?? 1, output);
    const hasCurves = await drawPlots(trainer, outputDir, output);
    return finished(result, trainer, outputDir, hasCurves);
  } finally {
    signals.release();
  }
}

/** What is about to be done, before a first step that may take minutes. */
function summaryOf({ model, trainItems, plan }: SFTTrainer): string {
  const { source, numParameters, adapter } = model;
  const trained = adapter && [...adapter.parameters.values()].reduce((sum, { size }) => sum + size, 0);
  const share =
    trained === undefined ? '' : `, beside them an adapter of ${inMillions(trained)} (${((100 * trained) / numParameters).toFixed(2)}%)`;
  const counted = (count: number, what: string): string => `${new Intl.NumberFormat('en').format(count)} ${what}${count === 1 ? '' : 's'}`;
  return `Training ${source}, ${inMillions(numParameters)} parameters${share}: ${counted(plan.maxSteps, 'step')} on ${counted(trainItems.length, 'row')}.`;
}

const inMillions = (numbers: number): string => `${Number((numbers / 1e6).toPrecision(3))} million`;

/** Everything that can be wrong with model and data shows here, before the first step. */
async function makeTrainer({ config, script, device }: Recipe, output: Output): Promise<{ trainer: SFTTrainer; outputDir: string }> {
  const outputDir = config.outputDir as string;
  if (!config.overwriteOutputDir) checkOutputFolder(outputDir);
  checkFolder(config);
  const evaluates = config.evalStrategy !== 'no' || config.evalOnStart;
  for (const note of unusedEvaluation(script, evaluates)) output.note(note);
  const { train, test } = await loadRecipeData(script, evaluates, config.dataSeed ?? config.seed);
  for (const note of new Set([...train.notes, ...(test?.notes ?? [])])) output.note(note);
  const { model_name_or_path, model_revision, eos_token, load_in_4bit: loadIn4bit } = script;
  const dtype = (script.use_peft && script.dtype) || undefined;
  const { chatTemplatePath: template } = config;
  const chatTemplateFrom = template === null || isTemplateFile(template) ? undefined : template;
  const flags = { ...device, model: model_name_or_path, model_revision, eos_token };
  const model = await loadModelOn(flags, { chatTemplateFrom, loadIn4bit, dtype });
  // the run has finished when its model is saved, not before
  const saving: TrainerCallback = { onTrainEnd: (_, { stopped }) => (stopped ? undefined : saveTrained(trainer, outputDir)) };
  const peftConfig = peftConfigOf(script);
  const trainer: SFTTrainer = new SFTTrainer({
    ...{ model, trainDataset: train, evalDataset: test, peftConfig, callbacks: [saving] },
    // under the names of recipes, by which its messages then call them; another tokenizer's template has come with the model
    config: toSnakeCase(chatTemplateFrom === undefined ? config : { ...config, chatTemplatePath: null }),
  });
  checkSpace(outputDir, bytesOfRun(trainer));
  return { trainer, outputDir };
}

/** What is given for evaluations that there are not, or that are made on something else. */
function unusedEvaluation({ eval_dataset_name: evalName, test_split_size: size }: Recipe['script'], evaluates: boolean): string[] {
  const notes: string[] = [];
  if (evalName !== null && !evaluates) notes.push('eval_dataset_name has no effect: eval_strategy is no.');
  if (size !== null && evalName !== null) notes.push('test_split_size has no effect: eval_dataset_name names what to evaluate on.');
  else if (size !== null && !evaluates)
    notes.push(
      `test_split_size ${size} keeps rows from training that nothing evaluates, as eval_strategy is no; set it to steps or epoch, or leave test_split_size out.`,
    );
  return notes;
}

async function saveTrained(trainer: SFTTrainer, outputDir: string): Promise<void> {
  try {
    await trainer.saveModel(outputDir);
  } catch (error) {
    const last = listCheckpoints(outputDir).at(-1);
    if (!(error instanceof UserError) || last?.step !== trainer.plan.maxSteps) throw error;
    const sentence = error.message.replace(/[.]$/, '');
    throw new UserError(`${sentence} with --resume_from_checkpoint true (the trained weights are in ${last.folder}).`, { cause: error });
  }
}

/** @returns whether there are plots */
async function drawPlots(trainer: SFTTrainer, outputDir: string, output: Output): Promise<boolean> {
  const hasCurves = CURVES.some((name) => hasCurve(trainer.log, name));
  // who logs by another strategy has asked for it
  if (trainer.config.loggingStrategy === 'steps' && !trainer.log.some(({ loss }) => loss !== undefined))
    output.note(tooShort(trainer, hasCurves));
  if (!hasCurves) return false;
  try {
    await plotTraining(trainer, { saveTo: path.join(outputDir, 'plots') });
    return true;
  } catch (error) {
    // the model is what counts; curves can be drawn again from metrics.jsonl
    if (error instanceof UserError) throw error;
    output.note(`The plots could not be drawn (${(error as Error).message}); the model is saved, and metrics.jsonl has the figures.`);
    return false;
  }
}

/** @param hasCurves whether evaluations were logged */
function tooShort({ config, plan: { maxSteps } }: SFTTrainer, hasCurves: boolean): string {
  const drawn = hasCurves
    ? 'No loss of the training was logged and only evaluations were drawn'
    : 'No loss was logged and no curves were drawn';
  const steps = maxSteps === 1 ? '1 step' : `${maxSteps} steps`;
  return `${drawn}, as logging_steps is ${config.loggingSteps} and the run had ${steps}; set logging_steps: 1 to have ${hasCurves ? 'it' : 'them'}.`;
}

function finished({ globalStep, metrics }: TrainOutput, { model }: SFTTrainer, outputDir: string, hasCurves: boolean): VerbResult {
  return {
    json: { ...metrics, global_step: globalStep, output_dir: outputDir },
    text: `The trained ${model.adapter ? 'adapter' : 'model'} is in ${outputDir}${hasCurves ? `, its curves in ${path.join(outputDir, 'plots')}` : ''}.`,
  };
}

function stopped({ globalStep }: TrainOutput, outputDir: string, exitCode: number, output: Output): VerbResult {
  const last = listCheckpoints(outputDir).at(-1);
  const remedy = last ? `continue from ${last.folder} with --resume_from_checkpoint true` : 'no step was complete, so run it again';
  const sentence = `Stopped after step ${globalStep}; ${remedy}.`;
  output.note(sentence);
  return { json: { error: sentence, global_step: globalStep, output_dir: outputDir }, text: '', exitCode };
}
