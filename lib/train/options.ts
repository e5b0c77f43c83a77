/** What a trainer and a run are told. */
import type { CausalLM, LoraConfig } from '../model';
import type { PromptTemplate } from '../text';
import type { TrainerCallback } from './callbacks';
import type { SFTConfig } from './config';
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
