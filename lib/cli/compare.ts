/** `tunebook compare`: two models answer the same questions; a Markdown file shows both. */
import fs from 'node:fs';
import { type Dataset, loadDataset } from '../data';
import { UserError } from '../errors';
import { type ComparedTotals, compareModels } from '../evaluate';
import { checkWritable, readStart, readText, statusOf } from '../files';
import { showValue } from '../json';
import { loadModelOn } from './device';
import { readFlags, splitWords } from './flags';
import type { Output } from './output';
import { compareFlags, type VerbResult } from './verbs';

const COMMAND = 'tunebook compare';

export async function run(words: readonly string[], output: Output): Promise<VerbResult> {
  const flags = readFlags(splitWords(words, COMMAND), compareFlags, COMMAND);
  const { device, threads, output: file, max_new_tokens: maxNewTokens } = flags;
  // found before the models have answered everything, not after
  checkWritable(file);
  checkApart(file, flags.questions);
  const questions = await loadQuestions(flags.questions);
  const base = await loadModelOn({ device, threads, model: flags.base });
  const tuned = await loadModelOn({ device, threads, model: flags.tuned });
  output.note(`Asking both models ${questions.length} questions ...`);
  const found = await compareModels({ base, tuned, questions, output: file, maxNewTokens });
  const json = {
    output: file,
    base: found.base && totalsJson(found.base),
    tuned: found.tuned && totalsJson(found.tuned),
    questions: found.questions.map(({ question, reference, base: before, tuned: after }) => ({
      question,
      reference,
      base: before.text,
      tuned: after.text,
    })),
  };
  const lines = found.base && found.tuned ? [describe('base ', found.base), describe('tuned', found.tuned)] : [];
  return { json, text: [...lines, `Both answers to each question are in ${file}.`].join('\n') };
}

/** @throws UserError when the questions would be overwritten by the answers */
function checkApart(output: string, questions: string): void {
  if (!fs.existsSync(output) || !fs.existsSync(questions) || !fs.statSync(questions).isFile()) return;
  if (fs.realpathSync.native(output) !== fs.realpathSync.native(questions)) return;
  throw new UserError(`--output ${output} is the file of the questions, which it would replace; name another file.`);
}

/** A dataset, or questions without answers: a JSON list of texts, or a text file with one question a line. */
async function loadQuestions(file: string): Promise<Dataset | string[]> {
  if (/\.(txt|md)$/i.test(file)) {
    const lines = readText(file)
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
    if (lines.length === 0) throw new UserError(`${file} is empty, but questions were expected; write one a line.`);
    return lines;
  }
  const isList = statusOf(file)?.isFile() === true && /^(?:\xef\xbb\xbf)?\s*\[/.test(readStart(file, 64).toString('latin1'));
  return (isList ? listOfTexts(readText(file), file) : undefined) ?? loadDataset(file);
}

/** Undefined where it begins with no text. @throws UserError where it goes on with something else */
function listOfTexts(text: string, file: string): string[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // not JSON as a whole: the reader of datasets says what is wrong, or reads JSONL
    return undefined;
  }
  if (!Array.isArray(value) || typeof value[0] !== 'string') return undefined;
  const other = value.findIndex((entry) => typeof entry !== 'string');
  if (other < 0) return value;
  throw new UserError(`${file}: question ${other + 1} is ${showValue(value[other])}, but a text was expected; correct it or remove it.`);
}

function totalsJson({ exactMatch, f1, referenceLoss, perplexity }: ComparedTotals): Record<string, number> {
  return { exact_match: exactMatch, f1, reference_loss: referenceLoss, perplexity };
}

function describe(name: string, { exactMatch, f1, perplexity }: ComparedTotals): string {
  return `${name}  exact match ${(100 * exactMatch).toFixed(1)}%, word F1 ${(100 * f1).toFixed(1)}%, perplexity of the references ${perplexity.toFixed(2)}`;
}
