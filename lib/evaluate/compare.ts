/** Before and after: two models' answers to the same questions, side by side, as a Markdown file. */
import { checkExamples, checkModel, checkOptions, type OptionNames } from '../arguments';
import { Dataset, type Example } from '../data';
import { printsAs } from '../display';
import { atPlace, UserError } from '../errors';
import { checkWritable, writeFileAtomic } from '../files';
import { describe } from '../json';
import type { CausalLM } from '../model';
import { GENERATE_ELSEWHERE } from '../model/generate';
import type { PromptTemplate } from '../text';
import { scoreItems } from '../train/evaluation';
import { checkedRows, type Examples, type Item, prepareExamples } from '../train/examples';
import {
  ANSWER_OPTIONS,
  type Answer,
  type AnswerOptions,
  type AnswerScores,
  answerAll,
  ask,
  countOf,
  percent,
  scoreAnswer,
} from './answers';

/** Which models `compareModels` asks what, and where the comparison goes. */
export interface CompareOptions extends AnswerOptions {
  /** The model before. */
  base: CausalLM;
  /** The model after. */
  tuned: CausalLM;
  /** Questions as plain texts, which are asked as Alpaca instructions; or rows, whose own answers are the reference. */
  questions: Examples | readonly string[];
  /** Where to write the Markdown file; default: nowhere. */
  output?: string;
  /** Names of the two in the file. */
  names?: { base?: string; tuned?: string };
}

const OPTIONS: OptionNames<CompareOptions> = {
  base: true,
  tuned: true,
  questions: true,
  output: true,
  names: true,
  ...ANSWER_OPTIONS,
};

const NAMES: OptionNames<NonNullable<CompareOptions['names']>> = { base: true, tuned: true };

/** One model's answer to a question; scores where the question has a reference. */
export interface ComparedAnswer extends Partial<AnswerScores> {
  text: string;
  /** Mean negative log-likelihood of the reference's tokens, in nats. */
  referenceLoss?: number;
  /** How many tokens the reference has. */
  referenceTokens?: number;
}

/** A question with both answers. */
export interface ComparedQuestion {
  question: string;
  reference?: string;
  base: ComparedAnswer;
  tuned: ComparedAnswer;
}

/** Means over the questions with a reference (the loss: over all their tokens, as `perplexity` has it); undefined when none has one. */
export interface ComparedTotals {
  exactMatch: number;
  f1: number;
  referenceLoss: number;
  perplexity: number;
}

/** Two models' answers to the same questions. */
export interface Comparison {
  /** In the order in which they were asked. */
  questions: ComparedQuestion[];
  /** Means of the model before, where questions have references. */
  base?: ComparedTotals;
  /** Means of the model after. */
  tuned?: ComparedTotals;
  /** The same as text. */
  markdown: string;
}

/**
 * Asks two models the same questions and writes both answers and their scores (exact match, word F1, loss of the reference).
 * @throws UserError when there is no such option or no question, one has not the shape of a row, a reference is longer than a model can read, or the file cannot be written
 */
export async function compareModels(given: CompareOptions): Promise<Comparison> {
  checkOptions('compareModels', given, OPTIONS, GENERATE_ELSEWHERE);
  const { base, tuned, questions, output, names = {}, ...options } = given;
  checkModel('compareModels', base);
  checkModel('compareModels', tuned);
  checkExamples('compareModels', 'questions', questions);
  checkNames(names);
  if (output !== undefined) checkWritable(output);
  const dataset = asDataset(questions, options.template);
  if (dataset.length === 0) throw new UserError('There is no question to compare the models on; give at least one.');
  // for both before either answers: what is wrong with a row is said at once
  const referencesOfBase = prepareReferences(base, dataset, options.template);
  const referencesOfTuned = prepareReferences(tuned, dataset, options.template);
  const before = await answer(base, dataset, referencesOfBase, options);
  const after = await answer(tuned, dataset, referencesOfTuned, options);
  const compared = before.map(
    ({ question, reference, compared }, i): ComparedQuestion => ({
      question,
      reference: reference || undefined,
      base: compared,
      tuned: after[i].compared,
    }),
  );
  const found = {
    questions: compared,
    base: totals(compared.map((question) => question.base)),
    tuned: totals(compared.map((question) => question.tuned)),
  };
  const markdown = writeMarkdown(found, names.base ?? base.source, names.tuned ?? tuned.source);
  if (output !== undefined) writeFileAtomic(output, markdown);
  const means =
    found.base && found.tuned ? `exact match ${percent(found.base.exactMatch)} before, ${percent(found.tuned.exactMatch)} after; ` : '';
  return printsAs({ ...found, markdown }, () => `${countOf(compared.length, 'question')}: ${means}.markdown has both answers to each`);
}

function checkNames(names: NonNullable<CompareOptions['names']>): void {
  checkOptions('compareModels({ names })', names, NAMES);
  const other = Object.entries(names).find(([, name]) => name !== undefined && typeof name !== 'string');
  if (other) throw new UserError(`The name of ${other[0]} in compareModels({ names }) is ${describe(other[1])}; give a text.`);
}

function asDataset(questions: Examples | readonly string[], template?: PromptTemplate): Dataset {
  const rows = [...questions].map((question): Example => (typeof question === 'string' ? { instruction: question, output: '' } : question));
  const origins = rows.map((_, index) =>
    questions instanceof Dataset ? questions.originOf(index) : { source: 'questions', row: index + 1 },
  );
  return new Dataset(checkedRows(new Dataset(rows, { origins }), template), { origins });
}

/** The rows that have a reference, ready to be scored; `rows[i]` is the place of `items[i]` among all rows. */
interface References {
  rows: readonly number[];
  items: readonly Item[];
}

function prepareReferences(model: CausalLM, dataset: Dataset, template?: PromptTemplate): References {
  const { tokenizer, config } = model;
  // the end alone is no answer either
  const none = ['', tokenizer.eosToken];
  const referenceOf = (index: number): string => atPlace(dataset.placeOf(index), () => ask(dataset.rows[index], model, template).reference);
  const rows = [...dataset.rows.keys()].filter((index) => !none.includes(referenceOf(index)));
  if (rows.length === 0) return { rows, items: [] };
  const chosen = new Set(rows);
  const { items } = prepareExamples(
    dataset.filter((_, index) => chosen.has(index)),
    tokenizer,
    { template, completionOnlyLoss: true, positionLimit: config.positionLimit, vocabSize: config.vocabSize },
  );
  return { rows, items };
}

async function answer(
  model: CausalLM,
  dataset: Dataset,
  references: References,
  options: AnswerOptions,
): Promise<Array<Answer & { compared: ComparedAnswer }>> {
  const answers = await answerAll(model, dataset, options);
  const result = answers.map((given) => ({ ...given, compared: { text: given.answer } as ComparedAnswer }));
  const scored = await scoreItems(model, references.items, { batchSize: 1 });
  for (const [i, { loss, targets }] of scored.entries()) {
    const { answer: text, reference, compared } = result[references.rows[i]];
    Object.assign(compared, scoreAnswer(text, reference), { referenceLoss: loss / targets, referenceTokens: targets });
  }
  return result;
}

function totals(answers: readonly ComparedAnswer[]): ComparedTotals | undefined {
  const scored = answers.filter((answer) => answer.referenceLoss !== undefined);
  if (scored.length === 0) return undefined;
  const mean = (pick: 'exactMatch' | 'f1') => scored.reduce((sum, answer) => sum + (answer[pick] ?? 0), 0) / scored.length;
  const tokens = scored.reduce((sum, answer) => sum + (answer.referenceTokens ?? 0), 0);
  const referenceLoss = scored.reduce((sum, answer) => sum + (answer.referenceLoss ?? 0) * (answer.referenceTokens ?? 0), 0) / tokens;
  return { exactMatch: mean('exactMatch'), f1: mean('f1'), referenceLoss, perplexity: Math.exp(referenceLoss) };
}

/** What the figures of the table are, for those to whom the file is sent. */
const KEY = `Exact match: the share of answers that are the reference letter by letter. Word F1: how many of their words an answer and its
reference share. Loss: how surprised the model is by a token of the reference; perplexity is the same as a number of equally likely tokens to
guess among. Of these two, lower is better.`.replaceAll('\n', ' ');

function writeMarkdown({ questions, base, tuned }: Omit<Comparison, 'markdown'>, baseName: string, tunedName: string): string {
  const parts = ['# Before and after', '', `Before: ${code(baseName)}`, '', `After: ${code(tunedName)}`, ''];
  if (base && tuned) {
    parts.push('| | before | after |', '| --- | ---: | ---: |');
    parts.push(`| exact match | ${percent(base.exactMatch)} | ${percent(tuned.exactMatch)} |`);
    parts.push(`| word F1 | ${percent(base.f1)} | ${percent(tuned.f1)} |`);
    parts.push(`| loss of the reference | ${base.referenceLoss.toFixed(3)} | ${tuned.referenceLoss.toFixed(3)} |`);
    parts.push(`| its perplexity | ${figure(base.perplexity)} | ${figure(tuned.perplexity)} |`, '', KEY, '');
  }
  for (const [i, { question, reference, base: before, tuned: after }] of questions.entries()) {
    parts.push(`## ${i + 1}`, '', quote(question), '');
    if (reference !== undefined) parts.push('Reference:', '', quote(reference), '');
    parts.push(`Before${scores(before)}:`, '', quote(before.text), '', `After${scores(after)}:`, '', quote(after.text), '');
  }
  return `${parts.join('\n').trimEnd()}\n`;
}

function scores({ exactMatch, f1, referenceLoss }: ComparedAnswer): string {
  if (exactMatch === undefined || f1 === undefined || referenceLoss === undefined) return '';
  return ` (exact match ${exactMatch === 1 ? 'yes' : 'no'}, word F1 ${percent(f1)}, loss of the reference ${referenceLoss.toFixed(3)})`;
}

/** A block quote that shows the text as it is: what Markdown would read as markup is escaped. */
function quote(text: string): string {
  if (text === '') return '> *(nothing)*';
  return text
    .split('\n')
    .map((line) => `> ${escapeMarkdown(line)}`.trimEnd())
    .join('  \n');
}

function escapeMarkdown(line: string): string {
  return (
    line
      .replace(/[\\`*_<>#|[\]~&$]/g, '\\$&')
      // a list, or the underline of a heading
      .replace(/^(\s*\d*)([-+=.)])/, '$1\\$2')
      // indented text would be code
      .replace(/^[ \t]+/, (space) => space.replaceAll('\t', '    ').replaceAll(' ', '\u00a0'))
  );
}

function code(name: string): string {
  return `\`${name.replaceAll('`', "'")}\``;
}

function figure(value: number): string {
  return value < 1000 ? value.toFixed(2) : value < 1e6 ? Math.round(value).toLocaleString('en-US') : value.toExponential(2);
}
