/**
 * SFTConfig: every setting of a training run, with TRL's names and defaults.
 *
 * One table says all: name, type, default, range, help. The typed record, the parser of YAML files and flags, and the
 * help text come from it. In TypeScript the names are camelCase; in YAML and on the command line they are TRL's snake_case.
 */
import { UserError } from '../errors';
import { showValue } from '../json';
import { orNearest } from '../nearest';
import { decidingMetric } from './best';
import { choice, either, type FieldValue, flag, folder, integer, interval, number, optional, snakeCase, text } from './fields';
import { foreignKeys, settleForeignKey } from './foreign';
import { EVAL_METRICS } from './metrics';
import { checkOptimizer, optimArgsField, optimField, settleOptimizer } from './optimizer-settings';
import { checkSchedule, LR_SCHEDULERS, lrSchedulerKwargsField, takesKwargs } from './schedule-settings';

/** Tokens computed at once, unless somebody asks for more or fewer. */
export const TOKENS_PER_MICRO_BATCH = 1280;

/**
 * The settings of supervised fine-tuning. The comment on a setting is its help once more, because that is what a notebook or an editor
 * shows where a setting is written; a test holds the two together.
 */
const FIELDS = {
  // where
  /** Folder for checkpoints, metrics.jsonl and run.json; without it nothing is written. */
  outputDir: optional(folder('Folder for checkpoints, metrics.jsonl and run.json; without it nothing is written.')),
  /** Start afresh in an output_dir that holds something else or an unfinished run (its checkpoints are removed). */
  overwriteOutputDir: flag(
    false,
    'Start afresh in an output_dir that holds something else or an unfinished run (its checkpoints are removed).',
  ),
  /** Continue an interrupted run: true for its newest checkpoint, or the path of one. */
  resumeFromCheckpoint: optional(
    either(flag(true, 'Continue an interrupted run: true for its newest checkpoint, or the path of one.'), text('', '')),
  ),

  // how long, how much at a time
  /** How often the training examples are seen. */
  numTrainEpochs: number(3, { above: 0 }, 'How often the training examples are seen.'),
  /** Number of optimizer steps; -1 lets num_train_epochs decide. */
  maxSteps: integer(-1, { min: -1 }, 'Number of optimizer steps; -1 lets num_train_epochs decide.'),
  /** Examples in one micro-batch (with packing: packed rows). */
  perDeviceTrainBatchSize: integer(8, { min: 1 }, 'Examples in one micro-batch (with packing: packed rows).'),
  /** Micro-batches whose gradients make one optimizer step. */
  gradientAccumulationSteps: integer(1, { min: 1 }, 'Micro-batches whose gradients make one optimizer step.'),
  /** Examples in one evaluation batch. */
  perDeviceEvalBatchSize: integer(8, { min: 1 }, 'Examples in one evaluation batch.'),
  /** Tokens computed at once; bounds memory, changes no result (own key, not in TRL). */
  tokensPerMicroBatch: integer(
    TOKENS_PER_MICRO_BATCH,
    { min: 1 },
    'Tokens computed at once; bounds memory, changes no result (own key, not in TRL).',
  ),
  /** Keep only the layers' inputs and compute the rest again for the gradient: less memory for more time, the same numbers. */
  gradientCheckpointing: flag(
    false,
    "Keep only the layers' inputs and compute the rest again for the gradient: less memory for more time, the same numbers.",
  ),
  /** Leave out the last micro-batch of an epoch, and the last batch of an evaluation, when it is not full. */
  dataloaderDropLast: flag(false, 'Leave out the last micro-batch of an epoch, and the last batch of an evaluation, when it is not full.'),

  // the optimizer
  /** What updates the weights: AdamW, or adafactor or sgd, which need 8 bytes less for each that is trained. */
  optim: optimField,
  /** Of sgd its momentum, dampening and nesterov. */
  optimArgs: optimArgsField,
  /** Highest learning rate. */
  learningRate: number(2e-5, { min: 0 }, 'Highest learning rate.'),
  /** Shape of the learning rate over the run. */
  lrSchedulerType: choice('linear', LR_SCHEDULERS, 'Shape of the learning rate over the run.'),
  /** What shapes a schedule further, such as {min_lr_rate: 0.1}, {num_cycles: 2} or {num_decay_steps: 100}. */
  lrSchedulerKwargs: lrSchedulerKwargsField,
  /** Steps in which the rate rises from 0; below 1, the share of all steps. */
  warmupSteps: number(0, { min: 0 }, 'Steps in which the rate rises from 0; below 1, the share of all steps.'),
  /** Share of all steps in which the rate rises from 0; warmup_steps wins. */
  warmupRatio: number(0, { min: 0, max: 1 }, 'Share of all steps in which the rate rises from 0; warmup_steps wins.'),
  /** Weight decay, on matrices and DoRA's lengths (not on biases and norms); of sgd a part of the gradient, else decoupled from it. */
  weightDecay: number(
    0,
    { min: 0 },
    "Weight decay, on matrices and DoRA's lengths (not on biases and norms); of sgd a part of the gradient, else decoupled from it.",
  ),
  /** Of AdamW, decay of the mean of gradients. */
  adamBeta1: number(0.9, { min: 0, below: 1 }, 'Of AdamW, decay of the mean of gradients.'),
  /** Of AdamW, decay of the mean of squared gradients. */
  adamBeta2: number(0.999, { min: 0, below: 1 }, 'Of AdamW, decay of the mean of squared gradients.'),
  /** Of AdamW, added to the denominator of the update. */
  adamEpsilon: number(1e-8, { above: 0 }, 'Of AdamW, added to the denominator of the update.'),
  /** Loss of a token: nll (chunked_nll is the same), or dft, which weighs it by the token's own probability (Dynamic Fine-Tuning). */
  lossType: optional(
    choice(
      'nll',
      ['nll', 'chunked_nll', 'dft'],
      "Loss of a token: nll (chunked_nll is the same), or dft, which weighs it by the token's own probability (Dynamic Fine-Tuning).",
    ),
    'nll',
  ),
  /** Share of the loss that all tokens of the vocabulary have alike, not the right one alone. */
  labelSmoothingFactor: number(
    0,
    { min: 0, max: 1 },
    'Share of the loss that all tokens of the vocabulary have alike, not the right one alone.',
  ),
  /** Of models with experts, weight of the loss that keeps all experts in use; 0: none. */
  routerAuxLossCoef: number(0.001, { min: 0 }, 'Of models with experts, weight of the loss that keeps all experts in use; 0: none.'),
  /** Noise in the embeddings while training, of at most this over the root of (tokens of the micro-batch · features) (NEFTune); null: none. */
  neftuneNoiseAlpha: optional(
    number(
      5,
      { min: 0 },
      'Noise in the embeddings while training, of at most this over the root of (tokens of the micro-batch · features) (NEFTune); null: none.',
    ),
  ),
  /** Mixed precision: products of matrices in float16, on a GPU that can; weights, gradient sums and the optimizer stay float32. */
  fp16: flag(
    false,
    'Mixed precision: products of matrices in float16, on a GPU that can; weights, gradient sums and the optimizer stay float32.',
  ),
  /** Gradients with a larger global norm are scaled down to it; 0 never scales. */
  maxGradNorm: number(1, { min: 0 }, 'Gradients with a larger global norm are scaled down to it; 0 never scales.'),

  // the examples
  /** Longest example in tokens; longer ones lose their end. With packing, the length of a row. */
  maxLength: optional(
    integer(1024, { min: 2 }, 'Longest example in tokens; longer ones lose their end. With packing, the length of a row.'),
    1024,
  ),
  /** Leave out examples that have nothing left to learn within max_length, as TRL does; false: the run is refused, and the first of them named (own key, not in TRL). */
  dropFullyMasked: flag(
    false,
    'Leave out examples that have nothing left to learn within max_length, as TRL does; false: the run is refused, and the first of them named (own key, not in TRL).',
  ),
  /** Learn completions only (true; of a conversation the last assistant turn, where TRL learns all), all tokens (false), or completions where rows have a prompt (null). */
  completionOnlyLoss: optional(
    flag(
      true,
      'Learn completions only (true; of a conversation the last assistant turn, where TRL learns all), all tokens (false), or completions where rows have a prompt (null).',
    ),
  ),
  /** Learn every assistant turn of a conversation, and nothing else. */
  assistantOnlyLoss: flag(false, 'Learn every assistant turn of a conversation, and nothing else.'),
  /** Fill rows of max_length with whole examples by best fit; no example sees another. */
  packing: flag(false, 'Fill rows of max_length with whole examples by best fit; no example sees another.'),
  /** What packing does with an example longer than a row: cut its end off (bfd) or continue it in another row (bfd_split). */
  packingStrategy: choice(
    'bfd',
    ['bfd', 'bfd_split'],
    'What packing does with an example longer than a row: cut its end off (bfd) or continue it in another row (bfd_split).',
  ),
  /** TRL's switch for batches without padding; here they never have any. */
  paddingFree: flag(false, "TRL's switch for batches without padding; here they never have any."),
  /** TRL fills its batches up to a multiple of so many tokens; here only what is drawn by chance depends on it. */
  padToMultipleOf: optional(
    integer(8, { min: 1 }, 'TRL fills its batches up to a multiple of so many tokens; here only what is drawn by chance depends on it.'),
  ),
  /** Pack the evaluation examples too; null: as packing. */
  evalPacking: optional(flag(true, 'Pack the evaluation examples too; null: as packing.')),
  /** File with a Jinja chat template that replaces the tokenizer's own; of sft also a folder or Hub id with the tokenizer that has it, whose tokens come along. */
  chatTemplatePath: optional(
    text(
      '',
      "File with a Jinja chat template that replaces the tokenizer's own; of sft also a folder or Hub id with the tokenizer that has it, whose tokens come along.",
    ),
  ),
  /** Shuffle training and evaluation examples once before everything else. */
  shuffleDataset: flag(false, 'Shuffle training and evaluation examples once before everything else.'),
  /** Order of the examples in an epoch. */
  trainSamplingStrategy: choice('random', ['random', 'sequential', 'group_by_length'], 'Order of the examples in an epoch.'),
  /** Seed of everything random; the same seed gives the same bits. */
  seed: integer(42, { min: 0 }, 'Seed of everything random; the same seed gives the same bits.'),
  /** Seed of a random order, and of evaluations with group_by_length (as in TRL neither its training nor shuffle_dataset go by it); null: seed. */
  dataSeed: optional(
    integer(
      0,
      { min: 0 },
      'Seed of a random order, and of evaluations with group_by_length (as in TRL neither its training nor shuffle_dataset go by it); null: seed.',
    ),
  ),

  // logging, evaluation, checkpoints
  /** Log every logging_steps, once an epoch, or never. */
  loggingStrategy: choice('steps', ['steps', 'epoch', 'no'], 'Log every logging_steps, once an epoch, or never.'),
  /** Optimizer steps between two log records. */
  loggingSteps: interval(10, 'Optimizer steps between two log records.'),
  /** Log the first step too. */
  loggingFirstStep: flag(false, 'Log the first step too.'),
  /** No progress bar. */
  disableTqdm: optional(flag(false, 'No progress bar.'), false),
  /** Evaluate every eval_steps, once an epoch, or never. */
  evalStrategy: choice('no', ['no', 'steps', 'epoch'], 'Evaluate every eval_steps, once an epoch, or never.'),
  /** Optimizer steps between two evaluations; null: logging_steps. */
  evalSteps: optional(interval(500, 'Optimizer steps between two evaluations; null: logging_steps.')),
  /** Steps, or with eval_strategy epoch epochs, before the first evaluation of the run. */
  evalDelay: number(0, { min: 0 }, 'Steps, or with eval_strategy epoch epochs, before the first evaluation of the run.'),
  /** Evaluate before the first step. */
  evalOnStart: flag(false, 'Evaluate before the first step.'),
  /** Write checkpoints every save_steps, once an epoch, at each best evaluation, or never. */
  saveStrategy: choice(
    'steps',
    ['steps', 'epoch', 'best', 'no'],
    'Write checkpoints every save_steps, once an epoch, at each best evaluation, or never.',
  ),
  /** Optimizer steps between two checkpoints. */
  saveSteps: interval(500, 'Optimizer steps between two checkpoints.'),
  /** Keep only so many checkpoints, the newest and the best; null keeps all. */
  saveTotalLimit: optional(integer(1, { min: 1 }, 'Keep only so many checkpoints, the newest and the best; null keeps all.')),
  /** End with the weights of the best evaluation. */
  loadBestModelAtEnd: flag(false, 'End with the weights of the best evaluation.'),
  /** Evaluation metric that decides what is best; null: loss. */
  metricForBestModel: optional(text('loss', 'Evaluation metric that decides what is best; null: loss.')),
  /** Whether a greater metric is better; null: not for losses. */
  greaterIsBetter: optional(flag(true, 'Whether a greater metric is better; null: not for losses.')),
};

/** A complete configuration: every setting has a value; null means left open. What `SFTTrainer` is given is a `Partial<SFTConfig>`: the settings that differ. */
export type SFTConfig = { [K in keyof typeof FIELDS]: FieldValue<(typeof FIELDS)[K]> };

/** A setting as help texts and command lines list it. */
export interface FieldInfo {
  /** TRL's key, as in YAML and on the command line. */
  key: string;
  /** The name in TypeScript. */
  name: keyof SFTConfig;
  help: string;
  range: string;
  default: unknown;
  /** Whether true is one of its values, so that a bare flag sets it. */
  isSwitch: boolean;
}

/** Every setting, in reading order. */
export const fieldList: readonly FieldInfo[] = (Object.keys(FIELDS) as Array<keyof SFTConfig>).map((name) => {
  const { help, range, default: initial, parse } = FIELDS[name];
  return { key: snakeCase(name), name, help, range, default: initial, isSwitch: parse(true) !== undefined };
});

/** What `parseConfig` may be told. */
export interface ParseOptions {
  /** Keys that the caller reads itself (such as `dataset_name`): skipped here, but offered when a name is misspelt. */
  otherKeys?: readonly string[];
  /** Takes one line for each key of TRL that is accepted without effect. */
  onNote?: (line: string) => void;
  /** Where a value was written, for messages: the path of a file, or a function that knows it for each key. */
  place?: string | ((key: string) => string | undefined);
}

/**
 * Reads a configuration: a YAML file's object (snake_case keys), flags, or a `Partial<SFTConfig>`.
 * @throws UserError for an unknown key (naming the nearest known one), a value out of range, or settings that contradict each other
 */
export function parseConfig(raw: unknown = {}, { otherKeys = [], onNote, place }: ParseOptions = {}): SFTConfig {
  const whereIs = (key: string): string => {
    const found = typeof place === 'function' ? place(key) : place;
    return found === undefined ? '' : `${found}: `;
  };
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new UserError(`${whereIs('')}a configuration is a table of settings such as "learning_rate: 1e-4", not ${showValue(raw)}.`);
  }
  const config = Object.fromEntries(fieldList.map(({ name }) => [name, FIELDS[name].default])) as SFTConfig;
  const set = new Set<string>();
  for (const [key, value] of Object.entries(raw)) {
    if (otherKeys.includes(key)) continue;
    const where = whereIs(key);
    const info = fieldList.find((field) => field.key === key || field.name === key);
    if (!info) {
      settleUnknown(key, value, otherKeys, where, onNote);
      continue;
    }
    // `{maxSteps: undefined}` means "not given", as everywhere in TypeScript
    if (value === undefined) continue;
    if (set.has(info.name)) throw new UserError(`${where}${info.key} is given twice (as ${info.key} and ${info.name}); keep one.`);
    set.add(info.name);
    const parsed = FIELDS[info.name].parse(value);
    if (!parsed) throw outOfRange(`${where}${key}`, value, info);
    Object.assign(config, { [info.name]: parsed.value });
  }
  checkTogether(config, typeof place === 'function' ? '' : whereIs(''));
  dropUnusedKwargs(config, onNote);
  settleLoss(config, onNote);
  settleOptimizer(config, onNote);
  return config;
}

function outOfRange(key: string, value: unknown, { range, default: initial }: FieldInfo): UserError {
  const usual = initial === null ? '' : ` (default ${JSON.stringify(initial)})`;
  return new UserError(`${key} is ${showValue(value)}, but must be ${range}${usual}.`);
}

function settleUnknown(key: string, value: unknown, otherKeys: readonly string[], where: string, onNote?: (line: string) => void): void {
  const verdict = settleForeignKey(key, value);
  if (verdict?.refusal) throw new UserError(`${where}${verdict.refusal}`);
  if (verdict) {
    if (verdict.note) onNote?.(verdict.note);
    return;
  }
  const camel = /[A-Z]/.test(key);
  const names = camel ? fieldList.map((field) => field.name) : [...fieldList.map((field) => field.key), ...otherKeys, ...foreignKeys];
  throw new UserError(`${where}${key} is not a known setting; ${orNearest(key, names, 'tunebook sft --help lists them all')}.`);
}

/** What no single field can know. */
function checkTogether(config: SFTConfig, where: string): void {
  const fail = (sentence: string): never => {
    throw new UserError(where + sentence);
  };
  if (config.maxSteps === 0) fail('max_steps is 0, but must be at least 1, or -1 so that num_train_epochs decides.');
  if (config.warmupSteps >= 1 && !Number.isInteger(config.warmupSteps)) {
    fail(`warmup_steps is ${config.warmupSteps}, but must be a whole number of steps, or a share of all steps below 1.`);
  }
  if ((config.packing || config.evalPacking) && config.maxLength === null) {
    fail(`${config.packing ? 'packing' : 'eval_packing'} needs a max_length, the length of a packed row; set it.`);
  }
  checkSchedule(config, fail);
  checkOptimizer(config, fail);
  if (config.saveStrategy === 'best' && config.evalStrategy === 'no') {
    fail('save_strategy is best, but eval_strategy is no, so nothing tells what is best; set eval_strategy to steps or epoch.');
  }
  if (config.evalStrategy !== 'no' && !decidingMetric(config)) {
    const known = EVAL_METRICS.map((name) => `eval_${name}`).join(', ');
    fail(`metric_for_best_model is ${config.metricForBestModel}, which no evaluation has; choose one of ${known}.`);
  }
  if (config.loadBestModelAtEnd) checkBest(config, fail);
}

/** TRL accepts them with the constant schedules and does nothing with them. */
function dropUnusedKwargs(config: SFTConfig, onNote?: (line: string) => void): void {
  const { lrSchedulerType: type, lrSchedulerKwargs } = config;
  if (takesKwargs(type) || Object.keys(lrSchedulerKwargs).length === 0) return;
  config.lrSchedulerKwargs = {};
  onNote?.(`lr_scheduler_kwargs has no effect: lr_scheduler_type ${type} uses none.`);
}

/** One name for one loss, so that checkpoints fit; and as in TRL, dft takes no smoothing. */
function settleLoss(config: SFTConfig, onNote?: (line: string) => void): void {
  if (config.lossType !== 'dft') config.lossType = 'nll';
  if (config.lossType === 'nll' || config.labelSmoothingFactor === 0) return;
  config.labelSmoothingFactor = 0;
  onNote?.('label_smoothing_factor has no effect: loss_type dft takes none.');
}

function checkBest(config: SFTConfig, fail: (sentence: string) => never): void {
  if (config.outputDir === null) fail('load_best_model_at_end needs an output_dir to keep the best checkpoint in; set it.');
  if (config.evalStrategy === 'no') fail('load_best_model_at_end needs evaluations; set eval_strategy to steps or epoch.');
  if (config.saveStrategy === 'best') return;
  if (config.saveStrategy !== config.evalStrategy) {
    fail(
      `load_best_model_at_end needs a checkpoint at each evaluation: save_strategy is ${config.saveStrategy} but eval_strategy is ${config.evalStrategy}; make them the same.`,
    );
  }
  const evalSteps = config.evalSteps ?? config.loggingSteps;
  if (config.evalStrategy === 'steps' && !isMultiple(config.saveSteps, evalSteps)) {
    fail(
      `load_best_model_at_end needs checkpoints at evaluations: save_steps (${config.saveSteps}) must be a multiple of eval_steps (${evalSteps}).`,
    );
  }
}

/** Whether one interval is a whole number of others: both numbers of steps, or both shares of all steps, which are not exact in binary. */
function isMultiple(interval: number, of: number): boolean {
  const times = interval / of;
  return interval < 1 === of < 1 && times > 0.5 && Math.abs(times - Math.round(times)) < 1e-9;
}

/** The settings as a help text, one per line: `--learning_rate  Highest learning rate. (default 0.00002)`. */
export function configHelp(): string {
  const width = Math.max(...fieldList.map(({ key }) => key.length)) + 4;
  const line = ({ key, help, range, default: initial }: FieldInfo) =>
    `  ${`--${key}`.padEnd(width)}${help} ${range[0].toUpperCase()}${range.slice(1)}${initial === null ? '' : `; default ${JSON.stringify(initial)}`}.`;
  return fieldList.map(line).join('\n');
}

/** The configuration under TRL's keys, for run.json and checkpoints. */
export function toSnakeCase(config: SFTConfig): Record<string, unknown> {
  return Object.fromEntries(fieldList.map(({ key, name }) => [key, config[name]]));
}
