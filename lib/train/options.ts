/** What a trainer and a run are told. */
import { checkExamples, checkModel, checkOptions, isModel, type OptionNames } from '../arguments';
import { UserError } from '../errors';
import type { CausalLM, LoraConfig } from '../model';
import type { PromptTemplate } from '../text';
import { checkCallbacks, type TrainerCallback } from './callbacks';
import { fieldList, type SFTConfig } from './config';
import type { Examples } from './examples';

/** What a trainer is made of. */
export interface SFTTrainerOptions {
  /** Trained in place. */
  model: CausalLM;
  /** The examples to learn from: a dataset, or rows. */
  trainDataset: Examples;
  /** Examples to measure the model on while it trains, as `evalStrategy` says, and with `evaluate`. Never trained on. */
  evalDataset?: Examples;
  /** Settings that differ from the defaults of `SFTConfig`. */
  config?: Partial<SFTConfig>;
  /**
   * Trains a LoRA adapter, which is added to the model, in the place of its weights (PEFT's LoraConfig, as TRL's trainer takes it). A model
   * that has an adapter already is trained further without this.
   */
  peftConfig?: LoraConfig;
  /** Listeners beside the progress bar, which `disableTqdm` switches off. */
  callbacks?: readonly TrainerCallback[];
  /** Makes prompt and completion of a row; default: the Alpaca template for Alpaca rows, other rows as they are. */
  template?: PromptTemplate;
}

/** How a run begins. */
export interface TrainOptions {
  /** True: continue from the newest checkpoint of `outputDir` (from the start where there is none yet); or a checkpoint's path. */
  resumeFromCheckpoint?: boolean | string | null;
}

const TRAINER_OPTIONS: OptionNames<SFTTrainerOptions> = {
  model: true,
  trainDataset: true,
  evalDataset: true,
  config: true,
  peftConfig: true,
  callbacks: true,
  template: true,
};

/** TRL's names for the same, and settings that stand beside the configuration instead of in it. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  ...{ args: 'config', formatting_func: 'template', formattingFunc: 'template' },
  ...Object.fromEntries(fieldList.flatMap(({ key, name }) => [key, name].map((word) => [word, `config: { ${name}: ... }`]))),
};

/** @throws UserError when an option is none of a trainer's, or model or data are missing or something else */
export function checkedOptions(options: SFTTrainerOptions): SFTTrainerOptions {
  if (isModel(options)) throw new UserError('SFTTrainer takes one table: new SFTTrainer({ model, trainDataset, config }).');
  checkOptions('SFTTrainer', options, TRAINER_OPTIONS, ELSEWHERE);
  checkModel('SFTTrainer', options.model);
  checkExamples('SFTTrainer', 'trainDataset', options.trainDataset);
  if (options.evalDataset !== undefined && options.evalDataset !== null) checkExamples('SFTTrainer', 'evalDataset', options.evalDataset);
  checkCallbacks(options.callbacks);
  return options;
}

/** What a run continues from. @throws UserError when an option is none of `train` */
export function resumesFrom(options: TrainOptions, config: SFTConfig): boolean | string | null {
  checkOptions('train', options, { resumeFromCheckpoint: true });
  return options.resumeFromCheckpoint === undefined ? config.resumeFromCheckpoint : options.resumeFromCheckpoint;
}
