/** Writes everything that is made from the seed without training: the text, the tokenizer, and the files to fine-tune on. */
import path from 'node:path';
import { writeFileAtomic } from '../../lib/files';
import type { Bpe } from './bpe';
import { trainBpe } from './bpe';
import { CONVERSATIONS, makeConversations, type TracedConversation } from './conversations';
import type { TracedRow } from './instructions';
import { INSTRUCTIONS, makeInstructions } from './instructions';
import { makeEncoder, SPECIAL_TOKENS, saveTokenizer, VOCABULARY_SIZE } from './tokenizer-files';
import { generateWorld, WORLD } from './world';

/** The words of the Alpaca template, said to the tokenizer a few times so that a prompt is not cut into crumbs. */
const TEMPLATE_WORDS =
  `Below is an instruction that describes a task, paired with an input that provides further context. Write a response that
appropriately completes the request. Instruction: Input: Response:`
    .replaceAll('\n', ' ')
    .concat('\n\n### Instruction:\n\n\n### Input:\n\n\n### Response:\n');

export interface ShippedData {
  documents: string[];
  bpe: Bpe;
  /** Tokens of the text, end-of-text marks included. */
  tokens: number;
}

/** The text and its tokenizer. */
export function makeText(): ShippedData {
  const documents = generateWorld(WORLD);
  const { train } = makeInstructions(INSTRUCTIONS);
  const rows = train.map(({ row }) => `${row.instruction}\n${row.input}\n${row.output}\n`);
  const bpe = trainBpe([...documents, ...rows, ...Array<string>(3000).fill(TEMPLATE_WORDS)], VOCABULARY_SIZE, SPECIAL_TOKENS);
  const encode = makeEncoder(bpe);
  const tokens = documents.reduce((sum, text) => sum + encode(text).length + 1, 0);
  return { documents, bpe, tokens };
}

/** An instruction file: one row a line, so that a difference reads well. */
export function rowsFile(rows: readonly TracedRow[]): string {
  return `[\n${rows.map(({ row }) => `  ${JSON.stringify(row)}`).join(',\n')}\n]\n`;
}

/** The question list of the before/after comparison: two held-out rows of every kind. */
export function questionsFile(test: readonly TracedRow[]): string {
  const kinds = new Map<string, TracedRow[]>();
  for (const row of test) kinds.set(row.kind, [...(kinds.get(row.kind) ?? []), row]);
  return rowsFile([...kinds.values()].flatMap((rows) => rows.slice(0, 2)));
}

/** A file of conversations: one a line. */
export function conversationsFile(conversations: readonly TracedConversation[]): string {
  return conversations.map(({ messages }) => `${JSON.stringify({ messages })}\n`).join('');
}

/** Writes the files of instructions and conversations, the tokenizer and an excerpt of the text into `directory`; returns the text for training. */
export function writeData(directory: string): ShippedData {
  const { train, test } = makeInstructions(INSTRUCTIONS);
  writeFileAtomic(path.join(directory, 'instructions.json'), rowsFile(train));
  writeFileAtomic(path.join(directory, 'instructions-test.json'), rowsFile(test));
  writeFileAtomic(path.join(directory, 'questions.json'), questionsFile(test));
  const conversations = makeConversations(CONVERSATIONS);
  writeFileAtomic(path.join(directory, 'conversations.jsonl'), conversationsFile(conversations.train));
  writeFileAtomic(path.join(directory, 'conversations-test.jsonl'), conversationsFile(conversations.test));
  const made = makeText();
  saveTokenizer(made.bpe, path.join(directory, 'base'));
  writeFileAtomic(path.join(directory, 'world-excerpt.txt'), excerpt(made.documents));
  return made;
}

/** The first documents of the text, an empty line between two. */
export function excerpt(documents: readonly string[]): string {
  return `${documents.slice(0, 60).join('\n\n')}\n`;
}
