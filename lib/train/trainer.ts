/**
 * Supervised fine-tuning: `SFTTrainer`, with the semantics of TRL's trainer of that name.
 *
 * A step of the run: take the examples of the step, cut them into rows, add up the rows' gradients, scale them down if
 * their norm is too large, let the optimizer update the model. Everything else here is about when to log, evaluate and save.
 */
import * as path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { printed } from '../display';
import { currentDevice, currentPrecision, expectZeros, usePrecision } from '../engine';
import { UserError } from '../errors';
import { Interrupted, Interruption, unlessInterrupted } from '../interruption';
import { type CausalLM, checkAdapter, type Draw, drawsOf, ownWeights, type SaveOptions, saveModel } from '../model';
import { afterEvaluation, type RunPlan, type StepBatch } from './batches';
import { betterOf, keepsBest } from './best';
import { findBest, loadBest } from './best-checkpoint';
import { type Due, type DueBesideLog, dueAfterStep, stillDue } from './cadence';
import type { TrainerCallback, TrainerState } from './callbacks';
import {
  checkpointFolder,
  listCheckpoints,
  pruneCheckpoints,
  type RunIdentity,
  readCheckpoint,
  resolveCheckpoint,
  writeCheckpoint,
} from './checkpoint';
import type { SFTConfig } from './config';
import { averageBatches, type EvalMetrics, scoreItems } from './evaluation';
import { countTargets, countTokens, type Examples, type Item } from './examples';
import { GradientSums } from './gradients';
import { type Telling, Training, tell } from './in-training';
import { backwardRow } from './loss';
import { describeChange, firstLossScale, type LossScale, nextLossScale, startMixedPrecision } from './loss-scaling';
import { addScores, addStep, type BatchSums, emptySums, emptyWindow, type LogRecord, lossOfStep, stepRecord } from './metrics';
import { MetricsFile } from './metrics-file';
import { notFinite } from './not-finite';
import { clipFactor, Optimizer, shapesOfState } from './optimizer';
import { checkedOptions, resumesFrom, type SFTTrainerOptions, type TrainOptions } from './options';
import { type PreparedRun, prepareTraining } from './prepared-run';
import { defaultCallbacks } from './progress';
import { checkTensors, restoreOptimizer, restoreWeights } from './restore';
import { type Pace, summarize, type TrainOutput } from './results';
import { weightOfRouterLoss } from './router-loss';
import { checkBase, claimFolder, describeRun, foldersOf, isResuming, type RunRecord, settingsOf, writeRunRecord } from './run-folder';
import { freshRun, type RunState, stepsLeft, updatesOf } from './run-state';
import { makeSchedule, type Schedule } from './schedule';
import { inWords, type Spelling, spelled, spellingOf } from './spelling';
import { rowsOfStep } from './step-rows';
import { ruleOf } from './update-rules';

interface StepResult {
  loss: number;
  norm: number;
  sums: BatchSums[];
}

/** Supervised fine-tuning with the semantics of TRL's trainer of this name: `await new SFTTrainer({ model, trainDataset }).train()`. */
export class SFTTrainer {
  /** The model, with the weights that it has by now. */
  readonly model: CausalLM;
  /** All settings, those left out with their defaults. */
  readonly config: SFTConfig;
  /** What the preparation has to say, such as how many examples were cut. */
  readonly notes: readonly string[];

  private readonly options: SFTTrainerOptions;
  private readonly spell: Spelling;
  private callbacks: readonly TrainerCallback[];
  private examples: PreparedRun;
  private state: RunState;
  private pace: Pace = { steps: 0, tokens: 0, examples: 0, seconds: 0 };
  /** What every pass of the model in training draws. */
  private draws: readonly Draw[] = [];
  private runRecord?: RunRecord;
  private metricsFile?: MetricsFile;
  private releaseFolder?: () => void;
  private stepShare = 0;
  private evaluationShare = 0;
  private training?: Training;
  private finishing = false;
  private interruption = new Interruption();

  /**
   * Makes the examples ready; `await trainer.train()` then trains the model, in a notebook with its progress and the curves in the cell.
   * @throws UserError when the settings are wrong, contradict each other, or leave nothing to learn
   */
  constructor(options: SFTTrainerOptions) {
    this.options = checkedOptions(options);
    this.model = options.model;
    this.spell = spellingOf(options.config);
    const { config, examples, notes } = inWords(this.spell, () => prepareTraining(options));
    this.config = config;
    this.examples = examples;
    this.notes = notes.map(this.spell);
    this.state = freshRun(config.seed);
    this.callbacks = this.makeCallbacks();
  }

  /** Those that show the run begin in the cell that runs now. */
  private makeCallbacks(): TrainerCallback[] {
    return [...(this.config.disableTqdm ? [] : defaultCallbacks()), ...(this.options.callbacks ?? [])];
  }

  /** How the run is divided into epochs and steps. */
  get plan(): RunPlan {
    return this.examples.plan;
  }

  /** The prepared training examples; with packing, the packed rows. */
  get trainItems(): readonly Item[] {
    return this.examples.trainItems;
  }

  /** The prepared evaluation examples. */
  get evalItems(): readonly Item[] | undefined {
    return this.examples.evalItems;
  }

  /** Everything logged so far, oldest first: training records with `loss`, evaluation records with `eval_loss`. */
  get log(): readonly LogRecord[] {
    return this.state.log;
  }

  /**
   * Ends the run after the micro-batch at work, dropping an unfinished step; model and log stay usable, and with an
   * `outputDir` a checkpoint is written to continue from.
   */
  stop(): void {
    this.interruption.request();
  }

  /**
   * Trains the model in place. Called again, it starts a new run from the weights that the model has then. The stop button of a
   * notebook does what `stop` does, and then ends the cell.
   * @throws UserError when a checkpoint or the output folder does not fit, the disk is full, or a loss is not finite;
   *   the model then has the weights of the last complete step
   * @throws Interrupted at the end of a run that a notebook's stop button has ended
   */
  async train(options: TrainOptions = {}): Promise<TrainOutput> {
    this.training = new Training(this.model);
    this.interruption = new Interruption();
    this.finishing = false;
    this.callbacks = this.makeCallbacks();
    try {
      const output = await this.run(resumesFrom(options, this.config));
      if (this.interruption.wasPressed) throw new Interrupted();
      return output;
    } finally {
      this.training?.end();
      this.training = undefined;
    }
  }

  private async run(resume: boolean | string | null): Promise<TrainOutput> {
    const optimizer = new Optimizer(ownWeights(this.model), ruleOf(this.config), this.config.weightDecay);
    const gradients = new GradientSums();
    const precision = currentPrecision();
    const forgetZeros = expectZeros(shapesOfState(optimizer));
    try {
      const started = performance.now();
      const schedule = makeSchedule(this.config, this.plan.maxSteps);
      await this.begin(optimizer, resume);
      await this.runSteps(gradients, optimizer, schedule);
      if (this.interruption.came) await this.saveStopped(optimizer);
      return await this.finish((performance.now() - started) / 1000);
    } catch (error) {
      const told = spelled(error, this.spell);
      // what ended the run is told, whatever becomes of telling it
      await this.tell((callback) => callback.onTrainError?.(this.snapshot(), told)).catch(() => {});
      throw told;
    } finally {
      gradients.dispose();
      optimizer.dispose();
      forgetZeros();
      usePrecision(precision);
      this.metricsFile?.catchUp(this.state.log);
      this.metricsFile = undefined;
      this.releaseFolder?.();
      this.releaseFolder = undefined;
    }
  }

  /** The loop: epochs of steps, from wherever the run stands to its last step. */
  private async runSteps(gradients: GradientSums, optimizer: Optimizer, schedule: Schedule): Promise<void> {
    if (this.owesEvaluation()) await this.evaluateAndSave(this.dueNow(), optimizer);
    while (!this.isOver()) {
      for (const batch of stepsLeft(this.trainItems, this.config, this.state, this.plan)) {
        await this.tell((callback) => callback.onStepBegin?.(this.snapshot()));
        const learningRate = this.config.learningRate * schedule(updatesOf(this.state));
        const result = await unlessInterrupted(this.trainStep(batch, gradients, optimizer, learningRate));
        if (!result) return;
        await this.afterStep(batch, result, learningRate, optimizer);
        if (this.isOver()) break;
      }
    }
  }

  private isOver(): boolean {
    return this.state.step >= this.plan.maxSteps || this.interruption.came || this.finishing;
  }

  /** One optimizer step. @throws Interrupted when it is stopped before its end; the weights are then as before */
  private async trainStep(batch: StepBatch, gradients: GradientSums, optimizer: Optimizer, learningRate: number): Promise<StepResult> {
    const { model, draws, config, state, interruption } = this;
    const started = performance.now();
    const targets = batch.flat(2).reduce((sum, sequence) => sum + countTargets(sequence), 0);
    const scale = this.state.lossScale?.scale ?? 1;
    const share = tf.scalar(scale / targets);
    const { random } = state;
    const sums = emptySums(batch.length);
    const weight = weightOfRouterLoss(model, config);
    const router = weight === undefined ? undefined : { microBatches: batch.length, weight: tf.scalar(weight * scale) };
    try {
      for await (const { parts, chance, done } of rowsOfStep(batch, { model, draws, config, stream: state, interruption })) {
        this.stepShare = done;
        if (done > 0) await this.tell((callback) => callback.onSubstepEnd?.(this.snapshot()));
        addScores(sums, await backwardRow(model, parts, gradients, { ...config, share, chance, router }));
      }
      const loss = lossOfStep(sums, targets, weight);
      const norm = (await gradients.norm()) / scale;
      const overflowed = !Number.isFinite(norm);
      // A smaller scale of the loss can mend an overflow of its gradients, down to no scale at all.
      if (!Number.isFinite(loss) || (overflowed && scale <= 1)) throw notFinite({ loss, norm, learningRate }, this.state, this.config);
      if (!overflowed) {
        optimizer.update(gradients.entries(), learningRate, clipFactor(norm, this.config.maxGradNorm) / scale);
        gradients.wereUsed();
      }
      this.pace.seconds += (performance.now() - started) / 1000;
      return { loss, norm, sums };
    } catch (error) {
      state.random = random;
      throw error;
    } finally {
      this.stepShare = 0;
      share.dispose();
      router?.weight.dispose();
      gradients.reset();
    }
  }

  /** Counts a step and does what is due after it. */
  private async afterStep(batch: StepBatch, { loss, norm, sums }: StepResult, learningRate: number, optimizer: Optimizer): Promise<void> {
    const { state } = this;
    const { stepsPerEpoch, microBatchesPerEpoch } = this.plan;
    const tokens = batch.flat().reduce((sum, item) => sum + countTokens(item), 0);
    const microBatches = Math.min(((state.step % stepsPerEpoch) + 1) * this.config.gradientAccumulationSteps, microBatchesPerEpoch);
    state.epoch = Math.floor(state.step / stepsPerEpoch) + microBatches / microBatchesPerEpoch;
    state.step++;
    state.numTokens += tokens;
    state.totalLoss += loss;
    state.window = addStep(state.window, loss, sums);
    if (state.lossScale) await this.adjustLossScale(state.lossScale, norm);
    this.pace.steps++;
    this.pace.tokens += tokens;
    this.pace.examples += batch.flat().length;
    await this.tell((callback) => callback.onStepEnd?.(this.snapshot()));

    const due = this.dueNow();
    let logged = false;
    const logIfDue = async (): Promise<void> => {
      if (logged || !this.dueNow().log) return;
      logged = true;
      await this.logStep(norm, learningRate);
    };
    if (!due.evaluateFirst) await logIfDue();
    // who ends the run meanwhile ends its epoch, too
    await this.evaluateAndSave(due, optimizer, logIfDue);
    await logIfDue();
    await this.evaluateAndSave(stillDue(this.dueNow(), due), optimizer);
  }

  private dueNow(): Due {
    return dueAfterStep(this.config, this.state.step, this.plan, this.finishing);
  }

  /** Saving comes last, so that a checkpoint holds all that went before. */
  private async evaluateAndSave({ evaluate, save }: DueBesideLog, optimizer: Optimizer, beforeSaving?: () => Promise<void>): Promise<void> {
    const { state, config } = this;
    const metrics = evaluate ? await unlessInterrupted(this.evaluate()) : undefined;
    // what is due then is made up for when the run goes on
    if (evaluate && !metrics) return;
    const best = metrics && betterOf(state.best, metrics, state.step, config);
    if (best) state.best = best;
    await beforeSaving?.();
    if (!save && !(best && config.saveStrategy === 'best')) return;
    if (config.outputDir !== null && state.best?.step === state.step)
      state.bestCheckpoint = path.resolve(checkpointFolder(config.outputDir, state.step));
    await this.save(optimizer);
  }

  /** Whether the run was stopped in the evaluation after its last step. */
  private owesEvaluation(): boolean {
    const { step, log } = this.state;
    return step > 0 && this.dueNow().evaluate && !log.some((record) => record.step === step && record.eval_loss !== undefined);
  }

  /** Whether something is left to do when the loop has ended: the run was stopped. */
  private isUnfinished(): boolean {
    const ended = this.state.step >= this.plan.maxSteps || (this.finishing && !this.interruption.came);
    return !ended || this.owesEvaluation();
  }

  private async adjustLossScale(before: LossScale, norm: number): Promise<void> {
    const after = nextLossScale(before, norm);
    this.state.lossScale = after;
    const change = describeChange(before, after, this.state.step);
    if (change) await this.say(change);
  }

  private async logStep(norm: number, learningRate: number): Promise<void> {
    const { window, numTokens, epoch, step } = this.state;
    this.state.window = { ...emptyWindow };
    await this.record(stepRecord(window, { norm, learningRate, numTokens, epoch, step }));
  }

  /** Appends to the log, to metrics.jsonl while training, and tells the callbacks. */
  private async record(record: LogRecord): Promise<void> {
    this.state.log.push(record);
    const note = this.metricsFile?.append(record);
    if (note !== undefined) await this.say(note);
    await this.tell((callback) => callback.onLog?.(this.snapshot(), record));
  }

  /**
   * Loss, entropy and accuracy on the evaluation dataset, or on another one; logged too.
   * @throws UserError when there is no evaluation dataset
   * @throws Interrupted when it is stopped, or the run that it belongs to
   */
  async evaluate(dataset?: Examples): Promise<EvalMetrics> {
    const items = dataset ? inWords(this.spell, () => this.examples.prepareEvaluation(dataset)).items : this.evalItems;
    if (!items) throw new UserError('There is nothing to evaluate on; give SFTTrainer an evalDataset, or evaluate() a dataset.');
    await currentDevice();
    if (!this.training) this.callbacks = this.makeCallbacks();
    const started = performance.now();
    const { perDeviceEvalBatchSize: batchSize } = this.config;
    const interruption = this.training ? this.interruption : undefined;
    const onProgress = async (share: number): Promise<void> => {
      this.evaluationShare = share;
      await this.tell((callback) => callback.onPredictionStep?.(this.snapshot()));
    };
    const scored = scoreItems(this.model, items, { ...this.config, batchSize, interruption, onProgress });
    const batches = await scored.finally(() => {
      this.evaluationShare = 0;
    });
    const seconds = (performance.now() - started) / 1000;
    if (this.training) this.state.random = afterEvaluation(this.state.random);
    const { numTokens, epoch, step } = this.state;
    const found = averageBatches(batches, numTokens, weightOfRouterLoss(this.model, this.config));
    await this.record({ ...found, epoch, step });
    const speed = {
      eval_runtime: seconds,
      eval_samples_per_second: items.length / seconds,
      eval_steps_per_second: batches.length / seconds,
    };
    const metrics = { ...found, ...speed, epoch };
    await this.tell((callback) => callback.onEvaluate?.(this.snapshot(), metrics));
    return metrics;
  }

  /** Saves the model as it is now, in Hugging Face's layout. */
  async saveModel(folder: string, options?: SaveOptions): Promise<void> {
    this.training?.checkSaving();
    await saveModel(this.model, folder, options);
  }

  /** `SFTTrainer: 2412 examples, 302 steps, at step 0`, where it is a cell's last expression. */
  [printed](): string {
    return `SFTTrainer: ${this.options.trainDataset.length} examples, ${this.plan.maxSteps} steps, at step ${this.state.step}`;
  }

  // ---- beginning and end -----------------------------------------------------------------------------------------

  private async begin(optimizer: Optimizer, resume: boolean | string | null): Promise<void> {
    this.state = freshRun(this.config.seed);
    this.pace = { steps: 0, tokens: 0, examples: 0, seconds: 0 };
    const { mixed, notes } = await startMixedPrecision(this.config.fp16);
    const { outputDir, overwriteOutputDir: overwrite } = this.config;
    const onNote = (line: string): unknown => notes.push(line);
    const checkpoint = resolveCheckpoint(outputDir, resume, onNote);
    if (checkpoint !== undefined) {
      this.examples = this.examples.asIn(checkpoint);
      this.state = readCheckpoint(checkpoint, this.identity());
      const { folder, note } = findBest(this.state, checkpoint);
      this.state.bestCheckpoint = folder;
      await checkTensors(checkpoint, this.model, optimizer.rule);
      await checkBase(checkpoint, this.model);
      if (note !== undefined && keepsBest(this.config)) notes.push(note);
    }
    this.state.began = this.examples.began;
    // whatever refuses the run does so before the weights change
    if (outputDir !== null) {
      checkAdapter(this.model, outputDir);
      const resuming = isResuming(outputDir, resume, checkpoint);
      const needed = [...foldersOf(this.model), checkpoint, this.state.bestCheckpoint].filter((place) => typeof place === 'string');
      this.releaseFolder = claimFolder(outputDir, { from: resuming ? this.state.step : undefined, overwrite, needed, onNote });
      // run.json first: it is the sign by which the folder is known as a run's if this process dies now
      this.runRecord = await this.describeRun();
      writeRunRecord(outputDir, this.runRecord);
      this.metricsFile = new MetricsFile(outputDir, this.state.log);
    }
    if (checkpoint !== undefined) {
      await restoreWeights(checkpoint, this.model);
      await restoreOptimizer(checkpoint, optimizer, updatesOf(this.state));
    }
    if (!this.model.adapter) this.model.weightsChanged = true;
    this.draws = drawsOf(this.model, { carriesAll: weightOfRouterLoss(this.model, this.config) !== undefined });
    this.state.lossScale = mixed ? (this.state.lossScale ?? firstLossScale()) : undefined;
    for (const note of [...this.notes, ...notes]) await this.say(note);
    if (checkpoint !== undefined) await this.say(`Continuing from ${checkpoint}.`);
    await this.tell((callback) => callback.onTrainBegin?.(this.snapshot()));
    // not one of those that may be the best: no checkpoint holds the weights that it began with
    if (this.config.evalOnStart && this.state.step === 0) await unlessInterrupted(this.evaluate());
  }

  private async finish(runtime: number): Promise<TrainOutput> {
    const { outputDir, loadBestModelAtEnd } = this.config;
    const { step } = this.state;
    const stopped = this.isUnfinished();
    const note = loadBestModelAtEnd && !stopped ? await loadBest(this.state, this.config, this.model) : undefined;
    if (note !== undefined) await this.say(note);
    if (!stopped) this.prune({ atEnd: true });
    const metrics = summarize(this.state, this.pace, runtime);
    const output: TrainOutput = { globalStep: step, trainingLoss: metrics.train_loss, metrics, stopped };
    await this.tell((callback) => callback.onTrainEnd?.(this.snapshot(), output));
    // last: the checkpoints of a run that has not finished are kept, and one of the listeners may save the model
    if (outputDir !== null && this.runRecord && !stopped) {
      writeRunRecord(outputDir, { ...this.runRecord, finished: true, summary: metrics, best_model_checkpoint: this.state.bestCheckpoint });
    }
    return output;
  }

  // ---- checkpoints -----------------------------------------------------------------------------------------------

  private async save(optimizer: Optimizer): Promise<void> {
    const { outputDir } = this.config;
    if (outputDir === null) return;
    const folder = await writeCheckpoint(outputDir, this.model, optimizer, this.state, this.identity());
    this.prune({ atEnd: false });
    this.metricsFile?.catchUp(this.state.log);
    await this.tell((callback) => callback.onSave?.(this.snapshot(), folder));
  }

  private prune({ atEnd }: { atEnd: boolean }): void {
    const { outputDir, saveTotalLimit } = this.config;
    const { step, bestCheckpoint } = this.state;
    const best = keepsBest(this.config) ? bestCheckpoint : null;
    if (outputDir !== null) pruneCheckpoints(outputDir, saveTotalLimit, { step, best, needed: foldersOf(this.model), atEnd });
  }

  /** A run that is stopped early can be continued from where it stood, whatever its saving strategy. */
  private async saveStopped(optimizer: Optimizer): Promise<void> {
    const { outputDir } = this.config;
    const { step } = this.state;
    if (outputDir === null || step === 0 || !this.isUnfinished()) return;
    if (listCheckpoints(outputDir).every((checkpoint) => checkpoint.step !== step)) await this.save(optimizer);
  }

  /** What must be the same for a checkpoint to be continued. */
  private identity(): RunIdentity {
    return { config: settingsOf(this.config, this.model), ...this.examples.tokens };
  }

  private describeRun(): Promise<RunRecord> {
    const { model, trainItems, evalItems } = this;
    const { trainDataset, evalDataset } = this.options;
    const evaluation = evalDataset && evalItems && { examples: evalDataset, items: evalItems };
    const train = { examples: trainDataset, items: trainItems };
    return describeRun({ config: settingsOf(this.config, model), model, train, evaluation });
  }

  // ---- telling ---------------------------------------------------------------------------------------------------

  private tell(call: Telling): Promise<void> {
    return tell(this.callbacks, call, this.training);
  }

  private say(note: string): Promise<void> {
    return this.tell((callback) => callback.onNote?.(this.spell(note)));
  }

  private snapshot(): TrainerState {
    const { step, epoch, numTokens, log } = this.state;
    const { maxSteps } = this.plan;
    const { steps, tokens, seconds } = this.pace;
    return {
      ...{ config: this.config, step, maxSteps, epoch, numTokens, log },
      ...{ stepShare: this.stepShare, evaluationShare: this.evaluationShare },
      tokensPerSecond: seconds > 0 ? tokens / seconds : 0,
      secondsLeft: steps > 0 ? ((maxSteps - step) * seconds) / steps : undefined,
      stop: () => this.stop(),
      finish: () => {
        this.finishing = true;
      },
    };
  }
}
