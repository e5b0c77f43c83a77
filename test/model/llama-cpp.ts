/** llama.cpp, as the npm package node-llama-cpp has it, where that is installed: for tests of what it opens. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { type CausalLM, exportGguf, type GgufDtype, tokenNll } from '../../lib/model';

const places = [...module.paths, ...(process.env.NODE_PATH ?? '').split(path.delimiter).filter((place) => place !== '')];

/** The package's entry; undefined where there is none. */
const llamaCpp = places.map((place) => path.join(place, 'node-llama-cpp', 'dist', 'index.js')).find((file) => existsSync(file));

/** Why tests with it are skipped; false where it is installed. */
export const withoutLlamaCpp = llamaCpp ? false : 'node-llama-cpp is not installed where Node looks for packages (NODE_PATH)';

/** What llama.cpp finds. */
interface Answer {
  /** Ids of the text's tokens, without any around it. */
  tokens: number[];
  /** The likeliest tokens after the ids, with their probabilities. */
  probabilities: Array<[number, number]>;
}

const PROGRAM = `
const [entry, file, text, ids] = process.argv.slice(2);
const { getLlama } = await import(entry);
const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', progressLogs: false });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: 256, batchSize: 256, flashAttention: false });
const tokens = JSON.parse(ids);
const last = [tokens.pop(), { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } }];
const results = await context.getSequence().controlledEvaluate([...tokens, last]);
const probabilities = [...results[tokens.length].next.probabilities].slice(0, 8);
process.stdout.write(JSON.stringify({ tokens: model.tokenize(text), probabilities }), () => process.exit(0));
`;

/** Asks it in a process of its own. @param file a GGUF file, in a folder that may be written to */
async function askLlamaCpp(file: string, text: string, ids: readonly number[]): Promise<Answer> {
  const entry = pathToFileURL(llamaCpp as string).href;
  // a file: the package starts Node.js again with the same flags
  const program = path.join(path.dirname(file), 'ask.mjs');
  writeFileSync(program, PROGRAM);
  const words = [program, entry, file, text, JSON.stringify(ids)];
  return JSON.parse(execFileSync(process.execPath, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })) as Answer;
}

const TEXT = "Hello world's 12345 tests,\n\n  and more: déjà vu!";

/**
 * Asserts that it finds the model's tokens of a text, and its probabilities of the next token after others.
 * @param file where the model is exported to
 * @param length of what those probabilities are of, in tokens, and the next one
 * @param tolerance of probabilities, as a share of them. Default: 0.02; its cache of keys and values is in float16
 */
export async function computesTheSame(
  model: CausalLM,
  file: string,
  {
    dtype = 'f32',
    text = TEXT,
    length = 40,
    tolerance = 0.02,
  }: { dtype?: GgufDtype; text?: string; length?: number; tolerance?: number } = {},
): Promise<void> {
  await exportGguf(model, file, { dtype });
  const count = Math.min(model.config.positionLimit, length);
  const ids = Array.from({ length: count - 1 }, (_, i) => (37 * i + 11) % model.tokenizer.vocabSize);
  const { tokens, probabilities } = await askLlamaCpp(file, text, ids);
  if (model.tokenizer.vocabSize > 256) assert.deepEqual(tokens, model.tokenizer.encode(text));
  for (const [id, there] of probabilities) {
    const { nll } = await tokenNll(model, [...ids, id]);
    const found = Math.exp(-nll[nll.length - 1]);
    assert.ok(Math.abs(found / there - 1) < tolerance, `${id}: ${found}, there ${there}`);
  }
}
