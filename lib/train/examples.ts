/** From a dataset to what the trainer reads: token sequences, cut to length and, with packing, laid together in rows. */
import { createHash } from 'node:crypto';
import type { Dataset, Example } from '../data';
import { UserError } from '../errors';
import { explainNoTarget, type PromptTemplate, type Tokenizer, tokenizeExample } from '../text';
import { packBestFit, splitLong } from './packing';

/** The tokens of one example; attention stays inside it. */
export interface Sequence {
  readonly inputIds: Int32Array;
  /** 1 where the token is a target of the loss. */
  readonly lossMask: Uint8Array;
}

/** What a batch counts as one: an example, or a packed row of several. */
export type Item = readonly Sequence[];

export interface PrepareOptions {
  /** Longest example in tokens; null: no limit. With packing, the length of a row. */
  maxLength?: number | null;
  /** Null: where rows have a prompt, their completions only. */
  completionOnlyLoss?: boolean | null;
  assistantOnlyLoss?: boolean;
  packing?: boolean;
  packingStrategy?: 'bfd' | 'bfd_split';
  template?: PromptTemplate;
  chatTemplate?: string;
  /** Longest sequence that the model can read. */
  positionLimit?: number;
  /** Ids that the model knows: those below this. */
  vocabSize?: number;
}

/** A dataset made ready. */
export interface PreparedDataset {
  readonly items: readonly Item[];
  /** What is worth saying to the user, such as how many examples were cut. */
  readonly notes: readonly string[];
}

/** Examples that `prepare` takes: a dataset, or just rows. */
export type Examples = Dataset | readonly Example[];

/**
 * Tokenizes every example and, with packing, lays them into rows of `maxLength`.
 * @throws UserError when there is no example, when one leaves nothing to learn, or when one is longer than the model can read
 */
export function prepareExamples(examples: Examples, tokenizer: Tokenizer, options: PrepareOptions = {}): PreparedDataset {
  const { maxLength = null, packing = false, packingStrategy = 'bfd' } = options;
  const { positionLimit = Number.POSITIVE_INFINITY, vocabSize = Number.POSITIVE_INFINITY } = options;
  const rows = [...examples];
  if (rows.length === 0) throw new UserError('The dataset has no examples; give at least one.');
  const splits = packing && packingStrategy === 'bfd_split' && maxLength !== null;
  let [cut, mismatched] = [0, 0];
  const sequences = rows.map((row, index): Sequence => {
    const place = 'placeOf' in examples ? examples.placeOf(index) : `row ${index + 1}`;
    const tokenized = tokenizeExample(row, tokenizer, {
      maxLength: splits ? undefined : (maxLength ?? undefined),
      completionOnlyLoss: options.completionOnlyLoss ?? undefined,
      assistantOnlyLoss: options.assistantOnlyLoss,
      template: options.template,
      chatTemplate: options.chatTemplate,
    });
    const { inputIds, lossMask } = tokenized;
    if (countTargets(tokenized) === 0) throw new UserError(explainNoTarget(tokenized, place));
    const longest = splits ? Math.min(inputIds.length, maxLength) : inputIds.length;
    if (longest > positionLimit) {
      throw new UserError(
        `${place} has ${longest} tokens, but the model reads at most ${positionLimit}; set max_length to ${positionLimit} or less.`,
      );
    }
    const stranger = inputIds.find((id) => id >= vocabSize);
    if (stranger !== undefined) {
      throw new UserError(
        `${place}: the tokenizer made the token id ${stranger}, but the model knows only ids below ${vocabSize}; use this model's own tokenizer.`,
      );
    }
    if (tokenized.truncated) cut++;
    if (tokenized.boundaryMismatch) mismatched++;
    return { inputIds, lossMask };
  });
  const notes: string[] = [];
  if (cut > 0) notes.push(`${cut} of ${rows.length} examples were longer than max_length ${maxLength} and lost their end.`);
  if (mismatched > 0)
    notes.push(
      `In ${mismatched} of ${rows.length} examples a token spans the end of the prompt, so the border of the completion is off by a token.`,
    );
  if (!packing || maxLength === null) return { items: sequences.map((sequence) => [sequence]), notes };
  const items = packBestFit(splits ? splitLong(sequences, maxLength) : sequences, maxLength);
  return { items, notes: [...notes, `${sequences.length} examples were packed into ${items.length} rows of up to ${maxLength} tokens.`] };
}

/** Targets of a sequence: tokens that carry loss, without the first, which nothing predicts. */
export function countTargets({ lossMask }: Sequence): number {
  let count = 0;
  for (let i = 1; i < lossMask.length; i++) count += lossMask[i];
  return count;
}

/** Tokens of an item. */
export function countTokens(item: Item): number {
  return item.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
}

/** SHA-256 of all tokens and masks: equal for equal data, tokenizer, template and packing. */
export function fingerprint(items: readonly Item[]): string {
  const hash = createHash('sha256');
  for (const item of items) {
    hash.update(`${item.map(({ inputIds }) => inputIds.length).join(',')};`);
    for (const { inputIds, lossMask } of item) hash.update(bytesOf(inputIds)).update(bytesOf(lossMask));
  }
  return hash.digest('hex');
}

function bytesOf(array: Int32Array | Uint8Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
