/** Before and after: two models' answers to the same questions, side by side, as a Markdown file. */
import type { Example } from '../data';
import { UserError } from '../errors';
import { writeFileAtomic } from '../files';
import type { CausalLM } from '../model';
import type { Examples } from '../train/examples';
import { type Answer, type AnswerOptions, type AnswerScores, answerAll, scoreAnswer } from './answers';
import { perplexity } from './perplexity';

export interface CompareOptions extends AnswerOptions {
  base: CausalLM;
  tuned: CausalLM;
  /** Questions as plain texts, which are asked as Alpaca instructions; or rows, whose own answers are the reference. */
  questions: Examples | readonly string[];
  /** Where to write the Markdown file; default: nowhere. */
  output?: string;
  /** Names of the two in the file. */
  names?: { base?: string; tuned?: string };
}

/** One model's answer to a question; scores where the question has a reference. */
export interface ComparedAnswer extends Partial<AnswerScores> {
  text: string;
  /** Mean negative log-likelihood of the reference's tokens, in nats. */
  referenceLoss?: number;
  /** How many tokens the reference has. */
  referenceTokens?: number;
}

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

export interface Comparison {
  questions: ComparedQuestion[];
  base?: ComparedTotals;
  tuned?: ComparedTotals;
  /** The same as text. */
  markdown: string;
}

/**
 * Asks two models the same questions and writes both answers and their scores (exact match, word F1, loss of the reference).
 * @throws UserError when there is no question, or the file cannot be written
 */
export async function compareModels({ base, tuned, questions, output, names, ...options }: CompareOptions): Promise<Comparison> {
  const rows = [...questions].map((question): Example => (typeof question === 'string' ? { instruction: question, output: '' } : question));
  if (rows.length === 0) throw new UserError('There is no question to compare the models on; give at least one.');
  const before = await answer(base, rows, options);
  const after = await answer(tuned, rows, options);
  const compared = rows.map(
    (_, i): ComparedQuestion => ({
      question: before[i].question,
      reference: before[i].reference || undefined,
      base: before[i].compared,
      tuned: after[i].compared,
    }),
  );
  const found = {
    questions: compared,
    base: totals(compared.map((question) => question.base)),
    tuned: totals(compared.map((question) => question.tuned)),
  };
  const markdown = writeMarkdown(found, names?.base ?? base.source, names?.tuned ?? tuned.source);
  if (output !== undefined) writeFileAtomic(output, markdown);
  return { ...found, markdown };
}

async function answer(
  model: CausalLM,
  rows: readonly Example[],
  options: AnswerOptions,
): Promise<Array<Answer & { compared: ComparedAnswer }>> {
  const { template } = options;
  const result: Array<Answer & { compared: ComparedAnswer }> = [];
  for (const [i, given] of (await answerAll(model, rows, options)).entries()) {
    const compared: ComparedAnswer = { text: given.answer };
    if (given.reference !== '') {
      Object.assign(compared, scoreAnswer(given.answer, given.reference));
      const { loss, numTargets } = await perplexity(model, [rows[i]], { template, maxLength: null, completionOnlyLoss: true });
      Object.assign(compared, { referenceLoss: loss, referenceTokens: numTargets });
    }
    result.push({ ...given, compared });
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

function writeMarkdown({ questions, base, tuned }: Omit<Comparison, 'markdown'>, baseName: string, tunedName: string): string {
  const parts = ['# Before and after', '', `Before: ${code(baseName)}`, '', `After: ${code(tunedName)}`, ''];
  if (base && tuned) {
    parts.push('| | before | after |', '| --- | ---: | ---: |');
    parts.push(`| exact match | ${percent(base.exactMatch)} | ${percent(tuned.exactMatch)} |`);
    parts.push(`| word F1 | ${percent(base.f1)} | ${percent(tuned.f1)} |`);
    parts.push(`| loss of the reference | ${base.referenceLoss.toFixed(3)} | ${tuned.referenceLoss.toFixed(3)} |`);
    parts.push(`| its perplexity | ${figure(base.perplexity)} | ${figure(tuned.perplexity)} |`, '');
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
    .map((line) => `> ${line.replace(/([\\`*_<>#|])/g, '\\$1')}`.trimEnd())
    .join('  \n');
}

function code(name: string): string {
  return `\`${name.replaceAll('`', "'")}\``;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

function figure(value: number): string {
  return value < 1000 ? value.toFixed(2) : value.toExponential(2);
}
