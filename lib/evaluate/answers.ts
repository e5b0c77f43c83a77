/** Comparing an answer with its reference. */

import { checkExamples, checkModel, checkOptions, checkWholeNumber, type OptionNames } from '../arguments';
import type { Example } from '../data';
import { printsAs } from '../display';
import { currentDevice } from '../engine';
import { atPlace } from '../errors';
import { type CausalLM, type GenerateOptions, generateBatch, type Prompt } from '../model';
import { checkPrompt, GENERATE_ELSEWHERE, GENERATE_OPTIONS } from '../model/generate';
import { formatExample, type PromptTemplate, promptLength } from '../text';
import { chunks } from '../train/batches';
import { countingLine } from '../train/counting-line';
import { checkedRows, type Examples, placesOf } from '../train/examples';

/** How an answer compares with its reference, each from 0 to 1. */
export interface AnswerScores {
  /** 1 when both are the same, white space at the ends aside. */
  exactMatch: number;
  /** Harmonic mean of the shares of words that answer and reference have in common (SQuAD's F1). */
  f1: number;
}

/** Articles that are words of their own; for \b a letter like ñ is none. */
const ARTICLES = /(?<![\p{L}\p{N}])(?:a|an|the)(?![\p{L}\p{N}])/gu;

/** An answer as SQuAD compares words (Rajpurkar et al. 2016): small letters, no punctuation, no articles, single spaces. */
function normalizeAnswer(text: string): string {
  return text
    .toLowerCase()
    .replace(/[\p{P}\p{S}]/gu, '')
    .replace(ARTICLES, ' ')
    .trim()
    .replace(/\s+/g, ' ');
}

/** Compares one answer with its reference. */
export function scoreAnswer(answer: string, reference: string): AnswerScores {
  return { exactMatch: answer.trim() === reference.trim() ? 1 : 0, f1: wordF1(words(answer), words(reference)) };
}

function words(text: string): string[] {
  const normal = normalizeAnswer(text);
  return normal === '' ? [] : normal.split(' ');
}

function wordF1(given: readonly string[], expected: readonly string[]): number {
  if (given.length === 0 || expected.length === 0) return given.length === expected.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const word of expected) left.set(word, (left.get(word) ?? 0) + 1);
  let common = 0;
  for (const word of given) {
    const count = left.get(word) ?? 0;
    if (count > 0) common++;
    left.set(word, count - 1);
  }
  return (2 * common) / (given.length + expected.length);
}

/** How questions are put, and answers generated; `onToken` is told the row's index. */
export interface AnswerOptions extends GenerateOptions {
  /** Makes the prompt of a row; default: the Alpaca template for Alpaca rows, other rows as they are. */
  template?: PromptTemplate;
  /** Prompts answered together. Default 16. */
  batchSize?: number;
}

/** Their names, for functions that have them among their own. */
export const ANSWER_OPTIONS: OptionNames<AnswerOptions> = { ...GENERATE_OPTIONS, template: true, batchSize: true };

/** A model's answer to a row. */
export interface Answer {
  /** What the model was given, with the template around it. */
  prompt: string;
  /** What was asked, for people: without the template, where the row has the question apart. */
  question: string;
  /** The answer that the row has; '' where it has none. */
  reference: string;
  /** What the model said, without white space at the ends. */
  answer: string;
}

/** Lets a model answer every row, in order; greedy unless a temperature is given. */
export async function answerAll(model: CausalLM, rows: Examples, options: AnswerOptions = {}): Promise<Answer[]> {
  checkModel('exactMatch', model);
  checkExamples('exactMatch', 'rows', rows);
  checkOptions('exactMatch', options, ANSWER_OPTIONS, GENERATE_ELSEWHERE);
  const { template, batchSize = 16, onToken, ...generation } = options;
  checkWholeNumber('batchSize', batchSize);
  await currentDevice();
  const examples = checkedRows(rows, template);
  const placeOf = placesOf(rows);
  const asked = examples.map((row, index) => atPlace(placeOf(index), () => ask(row, model, template)));
  // what a chat template writes is whole: here as in training the tokenizer puts nothing around it
  const promptOf = (index: number): Prompt => {
    const { prompt } = asked[index];
    return 'messages' in examples[index] && !template ? model.tokenizer.encode(prompt) : prompt;
  };
  // at once, not when the longest come
  for (const index of examples.keys()) atPlace(placeOf(index), () => checkPrompt(model, promptOf(index), generation));
  // prompts of like length together, so that few wait for long ones to be read
  const order = [...asked.keys()].sort((a, b) => asked[a].prompt.length - asked[b].prompt.length);
  const answers: Answer[] = [];
  const tell = countingLine(asked.length, 'answers');
  let done = 0;
  for (const indices of chunks(order, batchSize)) {
    const found = await generateBatch(model, indices.map(promptOf), {
      ...generation,
      onToken: (piece, place) => onToken?.(piece, indices[place]),
    });
    for (const [i, index] of indices.entries()) {
      answers[index] = { ...asked[index], answer: found[i].text.trim() };
    }
    done += indices.length;
    tell(done);
  }
  return answers;
}

/** A row as a prompt and the answer that it should get ('' where it has none); plain text is a prompt to continue, without one. */
export function ask(row: Example, model: CausalLM, template?: PromptTemplate): Omit<Answer, 'answer'> {
  if ('text' in row && !template) return { prompt: row.text, question: row.text, reference: '' };
  const { prompt, completion } = formatExample(row, model.tokenizer, { template });
  if (!('messages' in row) || template) return { prompt, question: questionOf(row, prompt), reference: completion.trim() };
  const [asked, answered] = [row.messages.slice(0, promptLength(row)), row.messages.slice(promptLength(row))];
  // the completion carries the marks of the chat template, which no answer has
  const said = answered.find(({ role }) => role === 'assistant')?.content ?? completion;
  return { prompt, question: asked.findLast(({ role }) => role === 'user')?.content ?? prompt, reference: said.trim() };
}

function questionOf(row: Example, prompt: string): string {
  if ('instruction' in row) return row.input ? `${row.instruction}\n${row.input}` : row.instruction;
  if ('messages' in row) return row.messages.findLast(({ role }) => role === 'user')?.content ?? prompt;
  return prompt;
}

/** An answer and its scores; both undefined where the row has no reference, as `compareModels` leaves them. */
export interface ScoredAnswer extends Answer {
  exactMatch: number | undefined;
  f1: number | undefined;
}

/** Result of `exactMatch`. Its means are over the rows with a reference, and undefined when none has one. */
export interface ExactMatchResult {
  /** Share of answers that are their reference, letter by letter. */
  exactMatch: number | undefined;
  /** Mean word F1. */
  f1: number | undefined;
  /** Those of all rows, in their order. */
  answers: ScoredAnswer[];
}

/**
 * Lets a model answer every row and compares the answers with the rows' own, white space at the ends aside. Greedy unless a
 * temperature is given. Rows without a reference (plain text, an empty output) are answered but not scored: they count in no mean.
 * @returns the share of answers that are right letter by letter, the mean F1 over words (as SQuAD's: small letters, without
 *   punctuation and articles), and all answers with their scores; undefined in the place of scores and means that no reference allows
 * @throws UserError when there is no such option or it is out of range, a row has not the shape of a row, or a prompt is longer than the model can read
 */
export async function exactMatch(model: CausalLM, rows: Examples, options: AnswerOptions = {}): Promise<ExactMatchResult> {
  const answers = (await answerAll(model, rows, options)).map((answer) => ({ ...answer, ...scoresOf(answer) }));
  const result = { exactMatch: meanOf(answers.map((answer) => answer.exactMatch)), f1: meanOf(answers.map(({ f1 }) => f1)), answers };
  // hundreds of answers would fill a cell that ends with them
  return printsAs(result, () => `${countOf(answers.length, 'answer')}: ${meansOf(result)}; .answers has each`);
}

function meansOf({ exactMatch, f1 }: ExactMatchResult): string {
  if (exactMatch === undefined || f1 === undefined) return 'no reference to compare with';
  return `exact match ${percent(exactMatch)}, word F1 ${percent(f1)}`;
}

/** A share from 0 to 1 in words. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** `1 answer`, `2 answers`. */
export function countOf(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function scoresOf({ answer, reference }: Answer): Pick<ScoredAnswer, 'exactMatch' | 'f1'> {
  return reference === '' ? { exactMatch: undefined, f1: undefined } : scoreAnswer(answer, reference);
}

/** Of those that are there; undefined when none is. */
function meanOf(scores: ReadonlyArray<number | undefined>): number | undefined {
  const there = scores.filter((score) => score !== undefined);
  return there.length === 0 ? undefined : there.reduce((sum, score) => sum + score, 0) / there.length;
}
