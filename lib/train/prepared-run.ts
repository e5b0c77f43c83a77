/** The examples of a run, made ready as its settings say, at the time at which it began: chat templates may write the date. */
import { checkExamples } from '../arguments';
import { UserError } from '../errors';
import type { CausalLM } from '../model';
import { type PromptTemplate, readTemplateFile, tokenizerAt } from '../text';
import { startAdapter } from './adapter';
import { planRun, type RunPlan } from './batches';
import { type RunIdentity, readBeginning } from './checkpoint';
import { parseConfig, type SFTConfig } from './config';
import { checkEvaluation, evaluatedItems } from './evaluation';
import { type Examples, fingerprint, type Item, type PreparedDataset, prepareExamples } from './examples';
import { dropoutNotes, targetNotes } from './notes';
import type { SFTTrainerOptions } from './options';

/** What the examples of a run are made of. */
export interface RunData {
  readonly model: CausalLM;
  readonly config: SFTConfig;
  readonly trainDataset: Examples;
  readonly evalDataset?: Examples;
  readonly template?: PromptTemplate;
  /** The one of chat_template_path. */
  readonly chatTemplate?: string;
}

/** Examples, and how the run is divided into epochs and steps. */
export class PreparedRun {
  readonly trainItems: readonly Item[];
  readonly evalItems?: readonly Item[];
  readonly plan: RunPlan;
  /** What the preparation has to say, such as how many examples were cut. */
  readonly notes: readonly string[];
  private fingerprints?: Omit<RunIdentity, 'config'>;

  /**
   * @param began local time of the run's beginning: `2026-11-28T16:20:50`
   * @throws UserError as prepareExamples does
   */
  constructor(
    private readonly data: RunData,
    readonly began = localTime(new Date()),
  ) {
    const { config, trainDataset, evalDataset } = data;
    const train = this.prepare(trainDataset, config.packing);
    const evaluation = evalDataset && this.prepareEvaluation(evalDataset);
    this.trainItems = train.items;
    this.evalItems = evaluation?.items;
    this.notes = [...train.notes, ...(evaluation?.notes ?? []).map((note) => `Evaluation: ${note}`)];
    this.plan = planRun(this.trainItems.length, config);
  }

  /** A dataset to evaluate on, made ready as the run's own is. @throws UserError as prepareExamples does */
  prepareEvaluation(examples: Examples): PreparedDataset {
    const { config } = this.data;
    checkExamples('evaluate', 'dataset', examples);
    if (examples.length === 0) throw new UserError('The evaluation dataset has no examples; give at least one, or leave it out.');
    const { items, notes } = this.prepare(examples, config.evalPacking ?? config.packing);
    return { items: evaluatedItems(items, config), notes };
  }

  /** Equal for equal examples. */
  get tokens(): Omit<RunIdentity, 'config'> {
    this.fingerprints ??= { tokens: fingerprint(this.trainItems), evalTokens: this.evalItems && fingerprint(this.evalItems) };
    return this.fingerprints;
  }

  /** The examples with the date at which the run of a checkpoint began, where they are then those that it was written with; else these. */
  asIn(folder: string): PreparedRun {
    const { began, identity } = readBeginning(folder);
    const isOf = ({ tokens }: PreparedRun): boolean => tokens.tokens === identity.tokens && tokens.evalTokens === identity.evalTokens;
    if (began === undefined || began === this.began || isOf(this)) return this;
    const then = new PreparedRun(this.data, began);
    return isOf(then) ? then : this;
  }

  private prepare(examples: Examples, packing: boolean): PreparedDataset {
    const { model, config, template, chatTemplate } = this.data;
    const { maxLength, dropFullyMasked, completionOnlyLoss, assistantOnlyLoss, packingStrategy } = config;
    const shuffleSeed = config.shuffleDataset ? config.seed : undefined;
    const { positionLimit, vocabSize } = model.config;
    return prepareExamples(examples, tokenizerAt(model.tokenizer, new Date(this.began)), {
      ...{ maxLength, dropFullyMasked, completionOnlyLoss, assistantOnlyLoss, packing, packingStrategy, shuffleSeed },
      ...{ template, chatTemplate, positionLimit, vocabSize },
      showsProgress: !config.disableTqdm,
    });
  }
}

/** What a trainer begins with. */
export interface PreparedTraining {
  readonly config: SFTConfig;
  readonly examples: PreparedRun;
  readonly notes: readonly string[];
}

/**
 * Reads the settings of a trainer, makes its examples ready, and gives the model what it trains.
 * @throws UserError when the settings are wrong, contradict each other, or leave nothing to learn; the model is then as it was
 */
export function prepareTraining(options: SFTTrainerOptions): PreparedTraining {
  const { model, evalDataset, peftConfig } = options;
  const notes: string[] = [...model.tokenizer.notes];
  const config = parseConfig(options.config, { onNote: (line) => notes.push(line) });
  checkEvaluation(config, evalDataset);
  const chatTemplate = config.chatTemplatePath === null ? undefined : readTemplateFile(config.chatTemplatePath);
  const examples = new PreparedRun({ ...options, config, chatTemplate });
  // last: what refuses the run leaves the model as it was
  notes.push(...startAdapter(model, peftConfig, config.seed));
  if (chatTemplate !== undefined) model.tokenizer.useChatTemplate(chatTemplate);
  return { config, examples, notes: [...notes, ...examples.notes, ...dropoutNotes(model), ...targetNotes(model)] };
}

/** As the clock on the wall shows it: a run that goes on elsewhere writes the date that it began with. */
function localTime(time: Date): string {
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
